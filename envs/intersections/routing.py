"""Shortest ways through an empty network, by vehicle class."""

import heapq
import itertools
from collections.abc import Sequence

from fedsched.envs.intersections.network import CLASSES, Connection, Network, Turn

MINOR_S, TURN_S = 1.5, 5.0
"""s that SUMO 1.28 adds to each link into a junction or off a waiting area that must yield, and more to turn round."""


class Router:
    """Finds the fastest way from edge to edge at the speed limits; ties go to the edge that comes first in the file.

    Only lanes and connections that the class may use count. Time inside junctions counts too.
    """

    def __init__(self, network: Network, factors: Sequence[float] | None = None) -> None:
        """Args: the network; what to multiply the time on each edge by."""
        self._network, self._factors = network, factors
        self._graphs: dict[tuple[int, float], tuple[list[float], list[dict[int, float]]]] = {}
        self._trees: dict[tuple[int, int, float], dict[int, int]] = {}  # many drive from the same edge

    def connected(self, edge: int, following: int, vehicle_class: str) -> bool:
        """Whether one edge leads onto another for a class."""
        return following in self._graph(vehicle_class, 1e9)[1][edge]

    def usable(self, edge: int, vehicle_class: str) -> bool:
        """Whether any lane of an edge is open to a class."""
        lanes = self._network.lanes
        return any(lanes[lane].allows(vehicle_class) for lane in self._network.edges[edge].lanes)

    def seconds(self, way: Sequence[int], vehicle_class: str, max_speed: float = 1e9) -> float:
        """Of driving along connected edges at the speed limits, penalties included."""
        times, following = self._graph(vehicle_class, max_speed)
        inside = sum(following[edge][onward] for edge, onward in itertools.pairwise(way))
        return inside + sum(times[edge] for edge in way)

    def way(self, start: int, goal: int, vehicle_class: str, max_speed: float = 1e9) -> tuple[int, ...] | None:
        """The edges from one to another, both included; None where there is no way.

        Args:
            start: Index of the first edge.
            goal: Index of the last.
            vehicle_class: Who drives.
            max_speed: m/s that the vehicle can drive at most.

        Source: E. Dijkstra (1959).
        """
        key = CLASSES.index(vehicle_class), max_speed
        before = self._trees.get((start, *key))
        if before is None:
            before = self._trees[start, *key] = self._tree(start, vehicle_class, max_speed)
        return _back(before, start, goal) if goal == start or goal in before else None

    def _tree(self, start: int, vehicle_class: str, max_speed: float) -> dict[int, int]:
        """The edge before each that can be reached, on the fastest way from `start`."""
        times, following = self._graph(vehicle_class, max_speed)
        best = {start: times[start]}
        before: dict[int, int] = {}
        done = set()
        heap = [(times[start], start)]
        while heap:
            seconds, edge = heapq.heappop(heap)
            if edge in done:
                continue
            done.add(edge)
            for other, inside in following[edge].items():
                later = seconds + inside + times[other]
                if other not in done and later < best.get(other, float("inf")):
                    best[other], before[other] = later, edge
                    heapq.heappush(heap, (later, other))
        return before

    def through(self, places: Sequence[int], vehicle_class: str, max_speed: float = 1e9) -> tuple[int, ...] | None:
        """The way over edges in this order, from each to the next the fastest; None where there is no way."""
        route = tuple(places[:1])
        for start, goal in itertools.pairwise(places):
            way = self.way(start, goal, vehicle_class, max_speed)
            if way is None:
                return None
            route += way[1:]
        return route

    def _graph(self, vehicle_class: str, max_speed: float) -> tuple[list[float], list[dict[int, float]]]:
        """Seconds per normal edge, and what follows each with the seconds inside the junction."""
        key = CLASSES.index(vehicle_class), max_speed
        if key not in self._graphs:
            self._graphs[key] = self._times(max_speed), self._following(vehicle_class, max_speed)
        return self._graphs[key]

    def _times(self, max_speed: float) -> list[float]:
        lanes = self._network.lanes
        first = [lanes[edge.lanes[0]] for edge in self._network.edges if not edge.internal]
        times = [lane.length / max(1e-6, min(lane.speed, max_speed)) for lane in first]
        return times if self._factors is None else [t * f for t, f in zip(times, self._factors, strict=True)]

    def _following(self, vehicle_class: str, max_speed: float) -> list[dict[int, float]]:
        network, lanes = self._network, self._network.lanes
        inner = {c.source: c for c in network.connections if network.edges[lanes[c.source].edge].internal}
        found: list[dict[int, float]] = [{} for edge in network.edges if not edge.internal]
        for connection in network.connections:
            source, target = lanes[connection.source], lanes[connection.target]
            closed = not (source.allows(vehicle_class) and target.allows(vehicle_class))
            if closed or network.edges[source.edge].internal:
                continue
            seconds, step = 0.0, connection
            while step.via >= 0:
                inside = lanes[network.edges[lanes[step.via].edge].lanes[0]]
                seconds += inside.length / max(1e-6, min(inside.speed, max_speed)) + _penalty_s(step)
                if step.via not in inner:
                    break
                step = inner[step.via]
            known = found[source.edge].get(target.edge, float("inf"))
            found[source.edge][target.edge] = min(known, seconds)
        return found


def _penalty_s(connection: Connection) -> float:
    """Added where one must yield and no signal rules."""
    if connection.signal >= 0 or connection.state.isupper():
        return 0.0
    return TURN_S if connection.turn == Turn.TURN else MINOR_S


def _back(before: dict[int, int], start: int, goal: int) -> tuple[int, ...]:
    way = [goal]
    while way[-1] != start:
        way.append(before[way[-1]])
    return tuple(reversed(way))
