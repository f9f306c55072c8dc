"""Routes as the vehicles read them: which lanes lead on, how far, and how many to change by.

Source: SUMO's MSVehicle (updateBestLanes), in our own words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fedsched.envs.intersections.links import Movements
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.tables import Ways

NEAR_EDGES, NEAR_M = 4, 3000.0
"""A look ahead goes on while it has seen no more edges, or fewer m."""

FAR_EDGES, FAR_M = 8, 400.0
"""And while it has seen no more edges, or fewer m."""


class _LaneView(NamedTuple):
    """One lane of an edge as a route sees it: m without a change, lanes to change by, the link that leads on."""

    length: float
    offset: int
    link: int


@dataclass(frozen=True)
class _Next:
    """What follows: the views of the next edge's lanes, and the lane numbers by index of the lane."""

    views: tuple[_LaneView, ...]
    number: dict[int, int]


class _Views:
    """Views of the lanes of edges, kept for the stretches of route already met."""

    def __init__(self, network: Network, moves: Movements) -> None:
        self.network, self.moves = network, moves
        self.known: dict[tuple[int, tuple[int, ...], bool], tuple[_LaneView, ...]] = {}
        self.lengths = [network.lanes[edge.lanes[0]].length for edge in network.edges]

    def window(self, route: Sequence[int], place: int) -> tuple[int, ...]:
        """The edges that count at a place on a route."""
        seen, metres = 0, 0.0
        for n in range(place, len(route)):
            if not ((seen <= NEAR_EDGES or metres < NEAR_M) and (seen <= FAR_EDGES or metres < FAR_M)):
                return tuple(route[place:n])
            seen += 1
            metres += self.lengths[route[n]]
        return tuple(route[place:])

    def views(self, vehicle_class: int, window: tuple[int, ...]) -> tuple[_LaneView, ...]:
        """Views of the lanes of the first edge of a stretch of route."""
        key = vehicle_class, window, True
        if key not in self.known:
            if len(window) == 1:
                self.known[key] = self._last(vehicle_class, window[0])
            else:
                self.known[key] = self._before(vehicle_class, window, self.views(vehicle_class, window[1:]))
        return self.known[key]

    def _allows(self, lane: int, vehicle_class: int) -> bool:
        return bool(self.network.lanes[lane].allowed >> vehicle_class & 1)

    def _last(self, vehicle_class: int, edge: int) -> tuple[_LaneView, ...]:
        lanes = self.network.edges[edge].lanes
        lengths = [self.network.lanes[k].length if self._allows(k, vehicle_class) else 0.0 for k in lanes]
        best = lengths.index(max(lengths))
        return tuple(
            _LaneView(length, 0 if length == lengths[best] else best - n, -1) for n, length in enumerate(lengths)
        )

    def _before(
        self, vehicle_class: int, window: tuple[int, ...], following: tuple[_LaneView, ...]
    ) -> tuple[_LaneView, ...]:
        edge, onward = window[0], self.network.edges[window[1]].lanes
        longest_next = max(view.length for view in following)
        lanes = self.network.edges[edge].lanes
        open_links = [self._links(lane, vehicle_class, onward) for lane in lanes]
        reachable = [following[n].length for links in open_links for _, n in links]
        longest_reached = max(reachable, default=-1.0)
        views = []
        for lane, links in zip(lanes, open_links, strict=True):
            own = self.network.lanes[lane].length if self._allows(lane, vehicle_class) else 0.0
            if not links:
                views.append(_LaneView(own, 0, -1))
                continue
            link, n = max(links, key=lambda x: (following[x[1]].length, -abs(following[x[1]].offset)))
            view = following[n]
            whole = view.length == longest_reached and abs(view.offset) < 2
            views.append(_LaneView(own + (longest_next if whole else view.length), view.offset, link))
        return self._offsets(views)

    def _links(self, lane: int, vehicle_class: int, onward: tuple[int, ...]) -> list[tuple[int, int]]:
        """Links of a lane onto the next edge that are open to the class, with the number of the lane reached."""
        if not self._allows(lane, vehicle_class):
            return []
        return [
            (link, onward.index(self.moves.target[link]))
            for link in self.moves.of_lane[lane]
            if self.moves.target[link] in onward and self._allows(self.moves.target[link], vehicle_class)
        ]

    def _offsets(self, views: list[_LaneView]) -> tuple[_LaneView, ...]:
        best = max(range(len(views)), key=lambda n: (views[n].length, -abs(views[n].offset), self._rank(views[n]), -n))
        top = views[best]
        found = []
        for n, view in enumerate(views):
            worse = view.length < top.length or abs(view.offset) > abs(top.offset) or self._rank(view) < self._rank(top)
            found.append(view._replace(offset=best - n if worse else 0))
        return tuple(found)

    def _rank(self, view: _LaneView) -> int:
        """Priority of the link that leads on."""
        return 0


def build_ways(network: Network, moves: Movements, used: Sequence[tuple[tuple[int, ...], int]]) -> Ways:
    """The table of rows for each (route, class).

    Args:
        network: The network.
        moves: Its links.
        used: Routes (indices of edges) with the index of the class that drives them, each once.
    """
    views = _Views(network, moves)
    most = max((len(edge.lanes) for edge in network.edges if not edge.internal), default=1)
    total = sum(len(route) for route, _ in used)
    length, offset = np.zeros((total, most)), np.zeros((total, most), dtype=np.int32)
    link = np.full((total, most), -1, dtype=np.int32)
    edges, last, begin = np.zeros(total, dtype=np.int32), np.zeros(total, dtype=np.bool_), []
    row = 0
    for route, vehicle_class in used:
        begin.append(row)
        for place, edge in enumerate(route):
            edges[row], last[row] = edge, place == len(route) - 1
            for n, view in enumerate(views.views(vehicle_class, views.window(route, place))):
                length[row, n], offset[row, n], link[row, n] = view
            row += 1
    return Ways(edges, last, length, offset, link, np.array(begin, dtype=np.int32))
