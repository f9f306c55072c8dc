"""Actuated programs: which signals have one, where their detectors lie, and which phases each of these lengthens.

Source: SUMO's MSActuatedTrafficLightLogic in our own words; places of detectors and ends of phases are those of SUMO
1.28 on the RESCO maps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedsched.envs.intersections.links import begins
from fedsched.envs.intersections.network import Network, Signal, Turn
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.signals import GREEN, green_phases, is_green
from fedsched.envs.intersections.tables import F64, I32, Flags, Tables
from fedsched.envs.intersections.timing import Timing

SPACE_M = 7.5
"""Of a standing vehicle, with the gap before it."""
NO_LIMIT = 1 << 30

Place = tuple[int, float]
"""A lane, and m from its start."""


@dataclass(frozen=True)
class Actuation:
    """The actuated signals of a world: U signals, P phases of all programs as in `tables.Signals`, I detectors.

    Attributes:
        signal: Place among the network's signals, [U].
        start: Phase at second 0, counted within the program, [U].
        max_gap: s, see `network.GapRule`, [U].
        detector_gap: s, [U].
        shortest: s, [P].
        longest: s, [P].
        extends: Whether the phase can be lengthened, [P].
        loop_lane: Lane of each detector, ascending, [I].
        loop_at: m from the lane's start, [I].
        phase_loop_begin: [P + 1]
        phase_loop: The detectors that lengthen each phase.
    """

    signal: I32
    start: I32
    max_gap: F64
    detector_gap: F64
    shortest: I32
    longest: I32
    extends: Flags
    loop_lane: I32
    loop_at: F64
    phase_loop_begin: I32
    phase_loop: I32


def make_actuation(problem: Problem, timing: Timing) -> Actuation:
    """The actuated signals under a timing: those that it makes so, and those of the file that no agent controls."""
    limits = _limits(problem, timing)
    phases = problem.tables.signals
    shortest, longest = np.ceil(phases.duration_s).astype(np.int32), np.ceil(phases.duration_s).astype(np.int32)
    extends = np.zeros(len(shortest), dtype=np.bool_)
    rows: list[list[Place]] = [[] for _ in shortest]
    for n, own in limits.items():
        first = int(phases.phase_begin[n])
        places = _places(problem, n, own)
        for k, (low, high) in enumerate(own):
            shortest[first + k], longest[first + k] = math.ceil(low), math.ceil(min(high, NO_LIMIT))
            extends[first + k] = high > low and is_green(problem.network.signals[n].phases[k].state)
            rows[first + k] = places[k]
    loops = sorted({place for row in rows for place in row})
    number = {place: i for i, place in enumerate(loops)}
    rules = [problem.network.signals[n].rule for n in limits]
    starts = [_start(problem.network.signals[n], problem.begin_s) for n in limits]
    return Actuation(
        signal=np.array(list(limits), dtype=np.int32),
        start=np.array(starts, dtype=np.int32),
        max_gap=np.array([rule.max_gap_s for rule in rules], dtype=np.float64),
        detector_gap=np.array([rule.detector_gap_s for rule in rules], dtype=np.float64),
        shortest=shortest,
        longest=longest,
        extends=extends,
        loop_lane=np.array([lane for lane, _ in loops], dtype=np.int32),
        loop_at=np.array([at for _, at in loops], dtype=np.float64),
        phase_loop_begin=begins(rows),
        phase_loop=np.array([number[place] for row in rows for place in row], dtype=np.int32),
    )


def actuated(network: Network, timing: Timing, signals: Sequence[int]) -> Network:
    """The network with actuated programs.

    Args:
        network: The streets.
        timing: Its `least_s` and `longest_s` bound the greens; other phases keep their length.
        signals: Indices of those that are actuated.
    """
    chosen = set(signals)
    changed = [_actuated(s, timing) if n in chosen else s for n, s in enumerate(network.signals)]
    return replace(network, signals=tuple(changed))


def _actuated(signal: Signal, timing: Timing) -> Signal:
    greens = set(green_phases(signal))
    least, longest = float(timing.least_s), float(timing.longest_s)
    phases = [
        replace(phase, minimum_s=least, maximum_s=longest)
        if n in greens
        else replace(phase, minimum_s=phase.duration_s, maximum_s=phase.duration_s)
        for n, phase in enumerate(signal.phases)
    ]
    return replace(signal, kind="actuated", phases=tuple(phases))


def _limits(problem: Problem, timing: Timing) -> dict[int, list[tuple[float, float]]]:
    """Least and greatest duration of every phase of every actuated signal, by its place in the network."""
    agents = [signal.index for signal in problem.signals]
    network = actuated(problem.network, timing, agents) if timing.longest_s else problem.network
    decided = set(agents) if timing.period_s else set()
    return {
        n: [(phase.minimum_s, phase.maximum_s) for phase in signal.phases]
        for n, signal in enumerate(network.signals)
        if signal.kind == "actuated" and n not in decided
    }


def _start(signal: Signal, begin_s: float) -> int:
    """The phase that the program as it stands would be in; it then starts anew."""
    at = (begin_s - signal.offset_s) % signal.cycle_s
    for k, phase in enumerate(signal.phases):
        if at < phase.duration_s:
            return k
        at -= phase.duration_s
    return 0


def _places(problem: Problem, n: int, limits: Sequence[tuple[float, float]]) -> list[list[Place]]:
    """Where the detectors lie that lengthen each phase.

    A detector belongs to a lane before the signal. It lengthens the phases that have a green for all links of the lane:
    a protected one, or a permissive one where the link has no other in any phase, leads back, or leaves a road with one
    lane for cars.
    """
    signal, network = problem.network.signals[n], problem.network
    links: dict[int, list[int]] = {}
    for place, group in enumerate(signal.connections):
        for connection in group:
            links.setdefault(network.connections[connection].source, []).append(place)
    weak = [_is_weak(problem, signal, place) for place in range(len(signal.connections))]
    varies = [high > low for low, high in limits]
    found: list[list[Place]] = []
    for k, phase in enumerate(signal.phases):
        counts = [state == "G" or (state == "g" and weak[place]) for place, state in enumerate(phase.state)]
        lanes = [lane for lane, own in links.items() if varies[k] and all(counts[place] for place in own)]
        found.append([])
        for lane in lanes:
            green = [
                j for j, other in enumerate(signal.phases) if any(other.state[place] in GREEN for place in links[lane])
            ]
            least = min(limits[j][0] for j in green if varies[j])
            far = signal.rule.detector_gap_s * network.lanes[lane].speed
            near = (least / signal.rule.passing_s + 0.5) * SPACE_M
            found[k].append(_upstream(problem.tables, lane, min(far, near)))
    return found


def _is_weak(problem: Problem, signal: Signal, place: int) -> bool:
    """Whether a permissive green is all that the links at a place of the state can count on."""
    network = problem.network
    own = [network.connections[connection] for connection in signal.connections[place]]
    if all(phase.state[place] != "G" for phase in signal.phases) or all(c.turn == Turn.TURN for c in own):
        return True
    edges = [network.edges[network.lanes[c.source].edge] for c in own]
    return any(sum(network.lanes[lane].allows("passenger") for lane in edge.lanes) == 1 for edge in edges)


def _upstream(tables: Tables, lane: int, before_m: float) -> Place:
    """The place so many m before the end of a lane; on the lanes that lead there, as long as these are alone."""
    lanes, links = tables.lanes, tables.links
    at = float(lanes.length[lane]) - before_m
    while at < 0:
        into = np.flatnonzero(links.next == lane)
        if len(into) != 1 or links.signal[links.entry[into[0]]] >= 0:
            return lane, 0.0
        lane = int(links.source[into[0]])
        at += float(lanes.length[lane])
    return lane, at
