"""The roads between controlled signals: who is near whom, and whose traffic a movement takes on and hands on."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedsched.envs.core import Flow
from fedsched.envs.intersections.signals import SignalModel
from fedsched.envs.intersections.tables import F64, I32, I64, Tables

Bools = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

MOST_NEIGHBOURS = 8
"""Signals that a signal may message."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest signals along the roads, up to `MOST_NEIGHBOURS` of each; -1 and 0 pad.

    Attributes:
        agent: Index of a controlled signal, [A, K].
        time_s: Travel time on the roads between at their speed limits, [A, K].
        lanes: Lanes of the last road between, [A, K].
        downstream: Whether traffic flows from here to there by that time; else from there to here, [A, K].
    """

    agent: I64
    time_s: F64
    lanes: I32
    downstream: Bools


@dataclass(frozen=True)
class Stretch:
    """The fastest way from one controlled signal to the next.

    Attributes:
        source: Index of the agent it leaves.
        target: Index of the agent it leads to.
        time_s: On the roads between at their speed limits.
        lanes: Of the last road.
        first: The edge behind `source`.
        last: The edge before `target`.
    """

    source: int
    target: int
    time_s: float
    lanes: int
    first: int
    last: int


def find_neighbours(stretches: Sequence[Stretch], agents: int) -> Neighbours:
    """Of every signal the next ones, up- and downstream, nearest first."""
    found: list[dict[int, tuple[float, int, bool]]] = [{} for _ in range(agents)]
    for way in stretches:
        for one, other, down in ((way.source, way.target, True), (way.target, way.source, False)):
            if other not in found[one] or way.time_s < found[one][other][0]:
                found[one][other] = (way.time_s, way.lanes, down)
    rows = [sorted(near.items(), key=lambda item: (item[1][0], item[0]))[:MOST_NEIGHBOURS] for near in found]
    width = max((len(row) for row in rows), default=0)
    result = Neighbours(
        np.full((len(rows), width), -1, dtype=np.int64), np.zeros((len(rows), width)),
        np.zeros((len(rows), width), dtype=np.int32), np.zeros((len(rows), width), dtype=np.bool_),
    )  # fmt: skip
    for a, row in enumerate(rows):
        for k, (other, (time_s, lanes, down)) in enumerate(row):
            result.agent[a, k], result.time_s[a, k] = other, time_s
            result.lanes[a, k], result.downstream[a, k] = lanes, down
    return result


def find_stretches(tables: Tables, signals: Sequence[SignalModel]) -> tuple[Stretch, ...]:
    """From every controlled signal to the next ones downstream, past junctions without one."""
    agent = {signal.index: a for a, signal in enumerate(signals)}
    found: dict[tuple[int, int], Stretch] = {}
    for a, signal in enumerate(signals):
        for way in _downstream(tables, [target[0] for target in signal.targets], agent, a):
            found.setdefault((a, way.target), way)
    return tuple(found.values())


def _downstream(tables: Tables, begin: Sequence[int], agent: dict[int, int], own: int) -> list[Stretch]:
    """Dijkstra over edges from the lanes `begin`, nearest first; does not go on behind a controlled signal."""
    lanes, links = tables.lanes, tables.links
    queue = [(_time_s(tables, lane), lane, int(lanes.edge[lane])) for lane in begin]
    heapq.heapify(queue)
    seen: set[int] = set()
    found: list[Stretch] = []
    while queue:
        time_s, lane, first = heapq.heappop(queue)
        edge = int(lanes.edge[lane])
        if edge in seen:
            continue
        seen.add(edge)
        on_edge = np.flatnonzero((lanes.edge == edge) & ~lanes.internal)
        leaving = [k for n in on_edge for k in range(lanes.link_begin[n], lanes.link_begin[n + 1])]
        met = {agent[int(links.signal[k])] for k in leaving if int(links.signal[k]) in agent}
        found += [Stretch(own, other, time_s, len(on_edge), first, edge) for other in met - {own}]
        if not met:
            for target in dict.fromkeys(int(links.target[k]) for k in leaving):
                heapq.heappush(queue, (time_s + _time_s(tables, target), target, first))
    return found


def _time_s(tables: Tables, lane: int) -> float:
    return float(tables.lanes.length[lane] / max(0.1, tables.lanes.speed[lane]))


def _every_stretch(tables: Tables, signals: Sequence[SignalModel]) -> tuple[Stretch, ...]:
    """The same from each road behind a signal and to each road before the next ones, not the fastest of them alone."""
    agent = {signal.index: a for a, signal in enumerate(signals)}
    found: list[Stretch] = []
    for a, signal in enumerate(signals):
        roads: dict[int, list[int]] = {}
        for target in signal.targets:
            roads.setdefault(int(tables.lanes.edge[target[0]]), []).append(target[0])
        for lanes in roads.values():
            found += _downstream(tables, lanes, agent, a)
    return tuple(found)


def movement_flow(tables: Tables, signals: Sequence[SignalModel], slots: int) -> Flow:
    """The nearest signal that each movement's road comes from, and that the road it leads to goes to, [A, slots]."""
    stretches = _every_stretch(tables, signals)
    source = np.full((len(signals), slots), -1, dtype=np.int64)
    target = source.copy()
    before: dict[tuple[int, int], int] = {}
    behind: dict[tuple[int, int], int] = {}
    for way in sorted(stretches, key=lambda way: way.time_s):
        before.setdefault((way.target, way.last), way.source)
        behind.setdefault((way.source, way.first), way.target)
    for a, signal in enumerate(signals):
        for e, movement in enumerate(signal.movements):
            source[a, e] = before.get((a, movement.source), -1)
            target[a, e] = behind.get((a, movement.target), -1)
    return Flow(source, target)
