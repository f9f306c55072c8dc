"""Routes as the vehicles read them: which lanes lead on, how far, and how many to change by.

Source: SUMO's MSVehicle (updateBestLanes), in our own words. One thing there changes with time, the state of a signal
that decides between two lanes onto the same edge; here links with a signal count as having priority.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedsched.envs.intersections.demand import VehicleType
from fedsched.envs.intersections.links import Movements
from fedsched.envs.intersections.network import CLASSES, Network
from fedsched.envs.intersections.tables import Ways

NEAR_EDGES, NEAR_M = 4, 3000.0
"""A look ahead goes on while it has seen no more edges, or fewer m."""

FAR_EDGES, FAR_M = 8, 200.0
"""And while it has seen no more edges, or fewer m (or fewer than the vehicle needs to brake from its top speed)."""


@dataclass
class LaneView:
    """One lane of an edge as a route sees it.

    Attributes:
        own: m of the lane itself, 0 where the class may not drive.
        length: m without a change of lane.
        offset: Lanes to change by, to the left positive.
        link: The link that leads on, -1 for none.
        rank: 1 where that link has priority, 0 where it has none, -1 without a link.
    """

    own: float
    length: float
    offset: int = 0
    link: int = -1
    rank: int = -1


def reach_m(kind: VehicleType) -> float:
    """How far a vehicle must see along its route beyond the lane it is on, m."""
    steps = int(kind.max_speed / kind.decel)
    braking = kind.max_speed * steps - kind.decel * steps * (steps + 1) / 2 + kind.max_speed * kind.tau
    return kind.tau * kind.max_speed + braking + kind.min_gap


class LaneViews:
    """Views of the lanes of edges, kept for the stretches of route already met.

    Nobody drives onto a closed lane; who is on one leaves it for another of its edge, or at its end.
    """

    def __init__(self, network: Network, moves: Movements, closed: frozenset[int] = frozenset()) -> None:
        """Args: the network, its links, closed lanes."""
        self._network, self._moves, self._closed = network, moves, closed
        self._known: dict[tuple[int, tuple[int, ...]], tuple[LaneView, ...]] = {}
        self._first = [network.lanes[edge.lanes[0]].length for edge in network.edges]

    def at(self, route: Sequence[int], place: int, vehicle_class: str, reach: float) -> tuple[LaneView, ...]:
        """The lanes of the edge at a place on a route.

        Args:
            route: Indices of edges.
            place: Number of the edge on the route.
            vehicle_class: Who drives.
            reach: m; see `reach_m`.
        """
        return self._views(CLASSES.index(vehicle_class), self._window(route, place, reach))

    def _window(self, route: Sequence[int], place: int, reach: float) -> tuple[int, ...]:
        """The edges that count."""
        metres = 0.0
        need = self._first[route[place]] + reach
        for seen, edge in enumerate(route[place:], 1):
            metres += self._first[edge]
            near = seen <= NEAR_EDGES or metres < max(need, NEAR_M)
            far = seen <= FAR_EDGES or metres < max(need, FAR_M)
            if not (near and far):
                return tuple(route[place : place + seen])
        return tuple(route[place:])

    def _views(self, vehicle_class: int, window: tuple[int, ...]) -> tuple[LaneView, ...]:
        key = vehicle_class, window
        if key not in self._known:
            start = [self._start(lane, window[0], vehicle_class) for lane in self._network.edges[window[0]].lanes]
            if len(window) > 1:
                self._lead_on(start, window, vehicle_class)
            self._leave_closed(start, window[0])
            self._set_offsets(start, window[0], vehicle_class)
            self._known[key] = tuple(start)
        return self._known[key]

    def _allows(self, lane: int, vehicle_class: int) -> bool:
        return bool(self._network.lanes[lane].allowed >> vehicle_class & 1)

    def _enters(self, lane: int, vehicle_class: int) -> bool:
        return lane not in self._closed and self._allows(lane, vehicle_class)

    def _leave_closed(self, views: list[LaneView], edge: int) -> None:
        """Closed lanes lead nowhere, unless all of the edge are closed: then one leaves it as ever."""
        lanes = self._network.edges[edge].lanes
        if not self._closed.issuperset(lanes):
            for lane, view in zip(lanes, views, strict=True):
                if lane in self._closed:
                    view.own = view.length = 0.0

    def _start(self, lane: int, edge: int, vehicle_class: int) -> LaneView:
        own = self._first[edge] if self._allows(lane, vehicle_class) else 0.0
        return LaneView(own, own)

    def _lead_on(self, views: list[LaneView], window: tuple[int, ...], vehicle_class: int) -> None:
        """Adds to each lane what lies behind its best link onto the next edge."""
        onward = self._network.edges[window[1]].lanes
        following = dict(zip(onward, self._views(vehicle_class, window[1:]), strict=True))
        lanes = self._network.edges[window[0]].lanes
        approached = {self._moves.target[link] for lane in lanes for link in self._moves.of_lane[lane]}
        connected = max((view.length for lane, view in following.items() if lane in approached), default=-1.0)
        longest = max(view.length for view in following.values())
        for lane, view in zip(lanes, views, strict=True):
            link = self._best_link(lane, following, vehicle_class)
            if link < 0:
                continue
            beyond = following[self._moves.target[link]]
            view.length += longest if beyond.length == connected and abs(beyond.offset) < 2 else beyond.length
            view.offset = beyond.offset
            if beyond.length > 0:
                view.link, view.rank = link, self._rank(link)

    def _best_link(self, lane: int, following: dict[int, LaneView], vehicle_class: int) -> int:
        """The link onto the lane from which one gets farthest, then with the fewest changes; -1 for none."""
        best = -1
        for link in self._moves.of_lane[lane] if self._allows(lane, vehicle_class) else []:
            target = self._moves.target[link]
            if target not in following or not self._enters(target, vehicle_class):
                continue
            if best >= 0:
                one, two = following[self._moves.target[best]], following[target]
                if (one.length, -abs(one.offset)) >= (two.length, -abs(two.offset)):
                    continue
            best = link
        return best

    def _rank(self, link: int) -> int:
        connection = self._network.connections[self._moves.connection[link]]
        return 1 if connection.signal >= 0 or connection.state.isupper() else 0

    def _set_offsets(self, views: list[LaneView], edge: int, vehicle_class: int) -> None:
        """From every lane to the nearest best one; lanes from which no change leads there count as dead ends."""
        first, last = _best(views)
        lanes = self._network.edges[edge].lanes
        barred = False
        cut = -1
        for n, view in enumerate(views):
            best = views[first]
            worse = (view.length, -abs(view.offset)) < (best.length, -abs(best.offset)) or view.rank < best.rank
            if not worse:
                view.offset = 0
                continue
            view.offset = first - n if abs(first - n) < abs(last - n) else last - n
            if view.rank < best.rank:
                view.length = view.own
            if view.offset < 0:
                barred = barred or not self._enters(lanes[n - 1], vehicle_class)
                if barred and view.length == view.own:
                    view.length = 0.0
            elif view.offset > 0 and not self._enters(lanes[n + 1], vehicle_class):
                cut = n
        for view in views[: cut + 1]:
            if view.length == view.own:
                view.length = 0.0


def _best(views: list[LaneView]) -> tuple[int, int]:
    """The first and the last of the equally best lanes."""
    keys = [(view.length, -abs(view.offset), view.rank) for view in views]
    best = max(keys)
    return keys.index(best), len(keys) - 1 - keys[::-1].index(best)


def build_ways(
    network: Network,
    moves: Movements,
    used: Sequence[tuple[tuple[int, ...], str, float]],
    closed: Sequence[frozenset[int]] = (frozenset(),),
) -> Ways:
    """The rows of each (route, class, reach).

    Args:
        network: The network.
        moves: Its links.
        used: Routes (indices of edges) with the class that drives them and its reach, m; each once.
        closed: Sets of closed lanes; the rows are there for each in turn.
    """
    sizes = [len(route) for route, _, _ in used]
    most = max((len(edge.lanes) for edge in network.edges if not edge.internal), default=1)
    total = sum(sizes) * len(closed)
    length, offset = np.zeros((total, most)), np.zeros((total, most), dtype=np.int32)
    link = np.full((total, most), -1, dtype=np.int32)
    edges, last = np.zeros(total, dtype=np.int32), np.zeros(total, dtype=np.bool_)
    row = 0
    for lanes in closed:
        views = LaneViews(network, moves, lanes)
        for route, vehicle_class, reach in used:
            for place, edge in enumerate(route):
                edges[row], last[row] = edge, place == len(route) - 1
                for n, view in enumerate(views.at(route, place, vehicle_class, reach)):
                    length[row, n], offset[row, n], link[row, n] = view.length, view.offset, view.link
                row += 1
    begin = np.cumsum(sizes, dtype=np.int32) - np.array(sizes, dtype=np.int32)
    return Ways(edges, last, length, offset, link, begin.astype(np.int32))
