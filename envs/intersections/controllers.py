"""The classical signal controllers: baselines and teachers (contract: `envs.core.Controller`)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch

from fedsched.envs.core import Observation, World, WorldError
from fedsched.envs.intersections.network import Phase
from fedsched.envs.intersections.problem import Problem, make_problem
from fedsched.envs.intersections.signals import GREEN, transition
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

Counted = Literal["near", "seen", "halting"]
"""Vehicles within 50 m of the stop line, within 200 m, or those of the latter that halt."""


PATIENCE = 3.0
"""How many times its threshold SOTL waits for a small platoon."""


class ProgramController:
    """Leaves every signal to its program; for worlds with the timing `program` or `actuated`."""

    name = "program"

    def reset(self, world: World) -> None:
        """Binds the controller; raises WorldError for a world in which signals must decide."""
        self._world = _intersections(world, self.name)
        if self._world.timing.period_s:
            raise WorldError("programs run in worlds with the timing `program`")

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """`keep` for every signal."""
        return {KIND: _keep(self._world, observation)}


class PressureController:
    """Shows the phase with the greatest demand: vehicles before its green links minus those behind them.

    It reads the true counts behind the observation (`IntersectionsWorld.counts`). A vehicle counts for the signal it
    meets next and for the link over which it will, as in SUMO's `getNextTLS`; a lane behind the signal counts once per
    phase, on its first 200 m. Ties: the current phase if it is among the best, else the lowest.

    Args:
        name: Of the controller.
        before: What counts before the signal.
        behind: What counts behind it; nothing where None.

    Source: Varaiya, Max pressure control of a network of signalized intersections (2013).
    """

    def __init__(self, name: str, before: Counted, behind: Literal["out_seen", "out_halting"] | None) -> None:
        self.name, self._before, self._behind = name, before, behind

    def reset(self, world: World) -> None:
        """Binds the controller to an intersections world; raises WorldError for another kind of world."""
        self._world = _intersections(world, self.name)
        self._tables = PhaseTables(self._world.problem, world.device)

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """A phase for every signal that must decide, `keep` for the others; int64 [B, A]."""
        counts = self._world.counts
        demand = self._tables.before(counts[self._before])
        if self._behind:
            demand = demand - self._tables.behind(counts[self._behind])
        return {KIND: choose(demand, self._tables.exists, self._world, observation)}


def max_pressure(counted: Literal["halting", "all"] = "halting") -> PressureController:
    """Max-pressure over the halting vehicles, or over all of them."""
    if counted == "halting":
        return PressureController("max_pressure", "halting", "out_halting")
    return PressureController("max_pressure_all", "seen", "out_seen")


def greedy() -> PressureController:
    """The phase with most vehicles, moving or not, within 50 m."""
    return PressureController("greedy", "near", None)


class Sotl:
    """Self-organising lights: a phase yields to the next once enough vehicle-seconds have gathered at its red links.

    Vehicles within 200 m that do not meet a green link gather; a small platoon (fewer than `platoon` within 50 m of a
    green link) is not cut, unless `PATIENCE` times as much has gathered: it may stand. The next phase is the first in
    order that somebody waits for. It reads the true counts.

    Args:
        threshold: Vehicle-seconds at which it changes.
        platoon: Vehicles.

    Source: Gershenson, Self-organizing traffic lights (2005).
    """

    name = "sotl"

    def __init__(self, threshold: float = 50.0, platoon: int = 3) -> None:
        self._threshold, self._platoon = threshold, platoon

    def reset(self, world: World) -> None:
        """Binds the controller to an intersections world; raises WorldError for another kind of world."""
        self._world = _intersections(world, self.name)
        self._tables = PhaseTables(self._world.problem, world.device)
        self._gathered = torch.zeros(world.batch, len(self._world.problem.signals), device=world.device)
        self._time_s = torch.zeros(world.batch, dtype=torch.float64, device=world.device)

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """A phase for every signal that must decide, `keep` for the others; int64 [B, A]."""
        counts, current = self._world.counts, self._world.control["target"].long()
        served = self._tables.before(counts["seen"])
        waiting = self._tables.all(counts["seen"]) - served.gather(2, current[:, :, None])[:, :, 0]
        passed = observation.time_s - self._time_s
        self._gathered[passed < 0] = 0.0  # a new episode
        self._gathered += waiting * passed.clamp(min=0.0)[:, None].float()
        self._time_s.copy_(observation.time_s)
        near = self._tables.before(counts["near"]).gather(2, current[:, :, None])[:, :, 0]
        platoon = (near > 0) & (near < self._platoon) & (self._gathered < PATIENCE * self._threshold)
        due = (self._gathered >= self._threshold) & ~platoon
        chosen = torch.where(due, self._next(served, current), current)
        active = observation.kinds[KIND].active
        self._gathered[active & (chosen != current)] = 0.0
        return {KIND: torch.where(active, chosen, self._world.problem.phases)}

    def _next(self, served: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        """The first phase after the current one, in turn, that somebody waits for; [B, A]."""
        count = self._tables.exists.sum(1)[None, :, None]
        turn = (current[:, :, None] + 1 + torch.arange(served.shape[2], device=served.device)) % count
        wanted = served.gather(2, turn) > 0
        return turn.gather(2, wanted.int().argmax(2, keepdim=True))[:, :, 0]


class PhaseTables:
    """Which signal links each phase gives green, and which lanes lie behind these.

    Attributes:
        exists: Whether phase n is one of signal a, bool [A, N].
    """

    def __init__(self, problem: Problem, device: str) -> None:
        tables = problem.tables
        number = {int(link): q for q, link in enumerate(problem.signal_links)}
        place = {int(lane): o for o, lane in enumerate(problem.out_lanes)}
        links: list[list[int]] = []
        lanes: list[list[int]] = []
        for signal in problem.signals:
            own = [link for links_of in signal.links for link in links_of]
            for n in range(problem.phases):
                state = signal.phases[n] if n < len(signal.phases) else ""
                green = [k for k in own if state and state[tables.links.signal_index[k]] in "gG"]
                links.append([number[k] for k in green])
                lanes.append(sorted({place[int(tables.links.target[k])] for k in green}))
        shape = (len(problem.signals), problem.phases)
        self._links = _padded(links, len(number), device).reshape(*shape, -1)
        self._lanes = _padded(lanes, len(place), device).reshape(*shape, -1)
        own_links = [[number[link] for links_of in signal.links for link in links_of] for signal in problem.signals]
        self._all = _padded(own_links, len(number), device)
        count = torch.tensor([len(signal.phases) for signal in problem.signals], device=device)
        self.exists = torch.arange(problem.phases, device=device) < count[:, None]

    def before(self, counts: torch.Tensor) -> torch.Tensor:
        """Sum over the green links of each phase of [B, Q], int64 [B, A, N]."""
        return _sum(counts, self._links)

    def all(self, counts: torch.Tensor) -> torch.Tensor:
        """Sum over all links of each signal of [B, Q], int64 [B, A]."""
        return _sum(counts, self._all)

    def behind(self, counts: torch.Tensor) -> torch.Tensor:
        """Sum over the lanes behind each phase of [B, O], int64 [B, A, N]."""
        return _sum(counts, self._lanes)


def choose(
    demand: torch.Tensor, exists: torch.Tensor, world: IntersectionsWorld, observation: Observation
) -> torch.Tensor:
    """The phase of greatest demand [B, A, N] where a signal must decide; ties keep the current one, else the lowest."""
    demand = demand.masked_fill(~exists, torch.iinfo(demand.dtype).min)
    most = demand.amax(2)
    current = world.control["target"].long()
    stays = demand.gather(2, current[:, :, None])[:, :, 0] == most
    chosen = torch.where(stays, current, (demand == most[:, :, None]).int().argmax(2))
    return torch.where(observation.kinds[KIND].active, chosen, world.problem.phases)


def _sum(counts: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    padded = torch.nn.functional.pad(counts.long(), (0, 1))
    return padded.index_select(1, places.reshape(-1)).view(-1, *places.shape).sum(-1)


def _padded(rows: Sequence[Sequence[int]], pad: int, device: str) -> torch.Tensor:
    width = max(1, max(map(len, rows), default=1))
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.int64, device=device)


def _keep(world: IntersectionsWorld, observation: Observation) -> torch.Tensor:
    active = observation.kinds[KIND].active
    return torch.full(active.shape, world.problem.phases, dtype=torch.int64, device=active.device)


def _intersections(world: World, name: str) -> IntersectionsWorld:
    if not isinstance(world, IntersectionsWorld):
        raise WorldError(f"{name} controls signals, not {world.spec.name}")
    return world


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
