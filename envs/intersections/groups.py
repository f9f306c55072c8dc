"""Signals that belong together, and the edges that belong to them: what districts are made of."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.tables import I32, LinkKind


class Groups:
    """Signals that must stay together, and the edges of each group.

    Attributes:
        count: Number of groups.
        of_signal: Group of each signal, [N].
        before: Group of the edges that lead to a signal, -1 for others, [E].
        edge: Group of every edge, [E].
        guarded: Whether a signal rules the way from one edge onto the next, by pair of edges.
        near: Groups that are one road apart.
    """

    def __init__(self, problem: Problem) -> None:
        """Args: the problem."""
        self._problem = problem
        tables = problem.tables
        entry = np.flatnonzero(tables.links.kind == LinkKind.ENTRY)
        source = tables.lanes.edge[tables.links.source[entry]].tolist()
        target = tables.lanes.edge[tables.links.target[entry]].tolist()
        signal = tables.links.signal[entry].tolist()
        edges = int((tables.lanes.edge[~tables.lanes.internal]).max(initial=-1)) + 1
        self.of_signal = _united(len(problem.network.signals), zip(source, signal, strict=True))
        self.count = max(self.of_signal, default=-1) + 1
        self.before = np.full(edges, -1, dtype=np.int32)
        for edge, number in zip(source, signal, strict=True):
            if number >= 0:
                self.before[edge] = self.of_signal[number]
        self.edge = _owners(problem, self.before, source, target)
        self.guarded: dict[tuple[int, int], bool] = {}
        for one, other, number in zip(source, target, signal, strict=True):
            self.guarded[one, other] = number >= 0 or self.guarded.get((one, other), False)
        pairs = {(int(self.edge[a]), int(self.edge[b])) for a, b in self.guarded}
        self.near: list[list[int]] = [[] for _ in range(self.count)]
        for one, other in sorted({*pairs, *((b, a) for a, b in pairs)}):
            if one != other:
                self.near[one].append(other)

    def names(self, group: int) -> list[str]:
        """Ids of its signals."""
        signals = self._problem.network.signals
        return [signal.id for signal, own in zip(signals, self.of_signal, strict=True) if own == group]

    def controlled(self, group: int) -> int:
        """How many of its signals are agents."""
        return sum(self.of_signal[signal.index] == group for signal in self._problem.signals)


def _united(signals: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """Numbers of groups: signals that rule links of one edge are together."""
    root = list(range(signals))
    first: dict[int, int] = {}
    for edge, signal in edges:
        if signal >= 0:
            one, other = root[first.setdefault(edge, signal)], root[signal]
            root = [min(one, other) if r in (one, other) else r for r in root]
    order = {value: n for n, value in enumerate(dict.fromkeys(root))}
    return [order[value] for value in root]


def _owners(problem: Problem, before: I32, source: list[int], target: list[int]) -> I32:
    """The group of every edge: by the signal ahead, else by the one behind, else by any road, else by distance."""
    lanes = problem.tables.lanes
    first = np.unique(lanes.edge[~lanes.internal], return_index=True)[1]
    times = (lanes.length[first] / np.maximum(0.1, lanes.speed[first])).tolist()
    back: list[list[int]] = [[] for _ in times]
    ahead: list[list[int]] = [[] for _ in times]
    for a, b in zip(source, target, strict=True):
        back[b].append(a)
        ahead[a].append(b)
    either = [one + other for one, other in zip(back, ahead, strict=True)]
    found = {edge: int(group) for edge, group in enumerate(before) if group >= 0}
    for ways in (back, ahead, either):
        found = nearest(found, ways, times)
    for edge in range(len(times)):
        if edge not in found:
            found[edge] = _closest(problem.network, before, edge)
    return np.array([found[edge] for edge in range(len(times))], dtype=np.int32)


Ways = Sequence[Sequence[int]] | Mapping[int, Sequence[int]]
Costs = Sequence[float] | Mapping[int, float]


def nearest(start: Mapping[int, int], ways: Ways, costs: Costs) -> dict[int, int]:
    """The label of the nearest labelled node along `ways`; ties go to the lower label. Source: E. Dijkstra (1959)."""
    found: dict[int, int] = {}
    queue = [(0.0, label, node) for node, label in start.items()]
    heapq.heapify(queue)
    while queue:
        cost, label, node = heapq.heappop(queue)
        if node not in found:
            found[node] = label
            for other in ways[node]:
                if other not in found and other not in start:
                    heapq.heappush(queue, (cost + costs[node], label, other))
    return found


def _closest(network: Network, before: I32, edge: int) -> int:
    """The group whose stop lines are nearest to the end of an edge that no road joins with a signal."""
    place = network.junctions[network.edges[edge].target]
    ends = {int(n): network.junctions[network.edges[n].target] for n in np.flatnonzero(before >= 0)}
    closest = min(ends, key=lambda n: (np.hypot(ends[n].x - place.x, ends[n].y - place.y), n))
    return int(before[closest])


def edge_flows(problem: Problem) -> Counter[tuple[int, int]]:
    """Vehicles from each edge onto the next, of all demands."""
    found: Counter[tuple[int, int]] = Counter()
    for demand in problem.demands:
        trips = Counter(trip.route for trip in demand.trips)
        for route, number in trips.items():
            for pair in pairwise(demand.routes[route]):
                found[pair] += number
    return found
