"""Other programs for the signals of a problem: Webster's splits, green waves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from fedsched.envs.intersections.network import Phase
from fedsched.envs.intersections.problem import Problem, make_problem
from fedsched.envs.intersections.signals import GREEN, transition


@dataclass(frozen=True)
class Webster:
    """What Webster's method needs.

    Attributes:
        saturation_per_h: Vehicles that one lane lets pass in an hour of green.
        yellow_s: After every green.
        lost_s: Of each phase: yellow and starting.
        shortest_s: Least green.
        longest_s: Greatest cycle.
    """

    saturation_per_h: float = 1800.0
    yellow_s: int = 3
    lost_s: float = 4.0
    shortest_s: int = 5
    longest_s: int = 120


def webster(problem: Problem, instance: int = 0, method: Webster = Webster()) -> Problem:
    """The problem with splits after Webster for the mean flows of one demand, offsets 0; for the timing `program`.

    Cycle (1.5 L + 5) / (1 - Y) s with L the lost time and Y the sum of the phases' critical flow ratios, greens in
    proportion to these. A movement counts for the phases that serve it, in equal shares.

    Source: Webster, Traffic signal settings (1958).
    """
    flows = movement_flows(problem, instance)
    programs = {signal.index: _splits(problem, a, flows[a], method) for a, signal in enumerate(problem.signals)}
    return with_programs(problem, programs)


def movement_flows(problem: Problem, instance: int) -> list[list[float]]:
    """Vehicles per hour over each movement of each controlled signal, by the routes of a demand."""
    demand = problem.demands[instance]
    trips = Counter(trip.route for trip in demand.trips)
    crossed: Counter[tuple[int, int]] = Counter()
    for route, number in trips.items():
        for pair in pairwise(demand.routes[route]):
            crossed[pair] += number
    hours = problem.seconds / 3600.0
    return [[crossed[move.source, move.target] / hours for move in signal.movements] for signal in problem.signals]


def _splits(problem: Problem, a: int, flows: Sequence[float], method: Webster) -> tuple[Phase, ...]:
    signal = problem.signals[a]
    served = problem.served[a, : len(signal.phases), : len(signal.movements)] > 0
    ratio = [
        flow / (method.saturation_per_h * len(move.lanes)) / max(1, int(served[:, e].sum()))
        for e, (flow, move) in enumerate(zip(flows, signal.movements, strict=True))
    ]
    critical = [max([ratio[e] for e in range(len(ratio)) if served[n, e]], default=0.0) for n in range(len(served))]
    lost, load = method.lost_s * len(served), min(0.95, sum(critical))
    cycle = min(max((1.5 * lost + 5.0) / (1.0 - load), lost + method.shortest_s * len(served)), method.longest_s)
    shares = [value / sum(critical) if sum(critical) else 1.0 / len(served) for value in critical]
    greens = [max(method.shortest_s, round((cycle - lost) * share)) for share in shares]
    return program(signal.phases, greens, method.yellow_s)


def program(states: Sequence[str], greens_s: Sequence[int], yellow_s: int) -> tuple[Phase, ...]:
    """Greens in order, each followed by the yellow towards the next where somebody loses green."""
    phases: list[Phase] = []
    for n, (state, seconds) in enumerate(zip(states, greens_s, strict=True)):
        phases.append(Phase(seconds, state, seconds, seconds))
        between = transition(state, states[(n + 1) % len(states)])
        if between != state and yellow_s:
            phases.append(Phase(yellow_s, between, yellow_s, yellow_s))
    return tuple(phases)


def green_wave(problem: Problem, instance: int = 0) -> Problem:
    """The problem with offsets that let the heaviest flows roll on; for the timing `program`.

    All controlled signals get the cycle of the longest program (the last green is lengthened). Then, along a tree of
    the roads with most traffic, the green that serves a road's end starts when those have come who started with the
    green that feeds it, at the speed limits.
    """
    signals, network = problem.signals, problem.network
    phases = {signal.index: network.signals[signal.index].phases for signal in signals}
    cycle = max(sum(phase.duration_s for phase in own) for own in phases.values())
    stretched = {n: _stretch(own, cycle) for n, own in phases.items()}
    flow = _edge_flows(problem, instance)
    offset: dict[int, float] = {}
    for root in range(len(signals)):
        offset.setdefault(root, 0.0)
        queue = [root]
        while queue:
            queue = [a for a in queue if any(way.target not in offset for way in problem.between if way.source == a)]
            ways = [way for way in problem.between if way.source in queue and way.target not in offset]
            if not ways:
                break
            way = max(ways, key=lambda way: (flow[way.last], -way.target))
            leave = _serves(problem, way.source, stretched, flow, onto=way.first)
            meet = _serves(problem, way.target, stretched, flow, source=way.last)
            offset[way.target] = (offset[way.source] + leave + way.time_s - meet) % cycle
            queue.append(way.target)
    offsets = {signal.index: float(round(offset[a])) for a, signal in enumerate(signals)}
    return with_programs(problem, stretched, offsets)


def _stretch(phases: Sequence[Phase], cycle_s: float) -> tuple[Phase, ...]:
    """The program with its longest phase lengthened to that cycle."""
    longest = max(range(len(phases)), key=lambda n: phases[n].duration_s)
    more = cycle_s - sum(phase.duration_s for phase in phases)
    return tuple(replace(p, duration_s=p.duration_s + more * (n == longest)) for n, p in enumerate(phases))


def _edge_flows(problem: Problem, instance: int) -> Counter[int]:
    demand = problem.demands[instance]
    flow: Counter[int] = Counter()
    for trip in demand.trips:
        flow.update(demand.routes[trip.route])
    return flow


def _serves(
    problem: Problem,
    a: int,
    programs: Mapping[int, Sequence[Phase]],
    flow: Mapping[int, int],
    onto: int = -1,
    source: int = -1,
) -> float:
    """When in the cycle the green begins that serves most of the traffic onto or from an edge."""
    signal, index = problem.signals[a], problem.tables.links.signal_index
    best, start, at = -1.0, 0.0, 0.0
    for phase in programs[signal.index]:
        moves = zip(signal.movements, signal.links, strict=True)
        served = sum(
            float(min(flow[move.source], flow[move.target]))
            for move, links in moves
            if (move.target == onto or move.source == source) and any(phase.state[index[k]] in GREEN for k in links)
        )
        if served * phase.duration_s > best:
            best, start = served * phase.duration_s, at
        at += phase.duration_s
    return start


def with_programs(
    problem: Problem, programs: Mapping[int, Sequence[Phase]], offsets_s: Mapping[int, float] | None = None
) -> Problem:
    """The problem with other programs of signals, by their place in the network; offsets 0 where none are given."""
    signals = tuple(
        replace(signal, kind="static", phases=tuple(programs[n]), offset_s=(offsets_s or {}).get(n, 0.0))
        if n in programs
        else signal
        for n, signal in enumerate(problem.network.signals)
    )
    network = replace(problem.network, signals=signals)
    controlled = [signal.id for signal in problem.signals]
    return make_problem(network, problem.demands, problem.begin_s, problem.end_s, controlled, problem.name)
