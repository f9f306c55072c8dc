"""Routes that SUMO has found by itself: the ways of the problem's tables, and others as they turn up."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from fedsched.envs.intersections.closures import plan_closures
from fedsched.envs.intersections.compile import drivers, way_keys
from fedsched.envs.intersections.links import Movements
from fedsched.envs.intersections.problem import Problem, merge
from fedsched.envs.intersections.sumo.film import Film
from fedsched.envs.intersections.tables import I32, Ways
from fedsched.envs.intersections.ways import build_ways

WayKey = tuple[tuple[int, ...], str, float]
"""Edges, class and reach: what a column of `Ways.begin` stands for."""


class FoundRoutes:
    """The way of everybody, whether the problem knows his route or not.

    Attributes:
        ways: Those of the problem's tables and, behind them, those met since; none is ever moved.
    """

    def __init__(self, problem: Problem) -> None:
        """Args: the problem."""
        self.ways = problem.tables.ways
        self._problem, self._vehicles = problem, problem.tables.vehicles

    def meet(self, trips: I32, film: Film) -> tuple[I32, I32, Ways | None]:
        """Who enters in a film.

        Args:
            trips: Of those who enter, among the trips of the tables, [E].
            film: With the routes that SUMO has found for some of them.

        Returns:
            The column in `Ways.begin` of each, [E]; the number of its route's last edge, [E]; ways that were not there
            before, None where there are none.
        """
        key, last = self._vehicles.key[trips], self._vehicles.edges[trips] - 1
        lengths = np.diff(film.route_on)
        found = np.flatnonzero(lengths)
        if not len(found):
            return key, last, None
        taken = [self._key(int(trips[n]), film.route[film.route_on[n] : film.route_on[n + 1]]) for n in found]
        new = [one for one in dict.fromkeys(taken) if one not in self._column]
        added = self._add(new) if new else None
        key[found] = [self._column[one] for one in taken]
        last[found] = lengths[found] - 1
        return key, last, added

    def _key(self, trip: int, route: I32) -> WayKey:
        return tuple(route.tolist()), *self._drivers[self._vehicles.type[trip]]

    @cached_property
    def _drivers(self) -> list[tuple[str, float]]:
        return drivers(merge(self._problem.demands).types)

    @cached_property
    def _column(self) -> dict[WayKey, int]:
        """The column of every known way."""
        keys = way_keys(merge(self._problem.demands))
        return dict(zip(keys, self._vehicles.key.tolist(), strict=True))

    @cached_property
    def _moves(self) -> Movements:
        return Movements(self._problem.network)

    @cached_property
    def _closed(self) -> tuple[frozenset[int], ...]:
        problem = self._problem
        return plan_closures([demand.closures for demand in problem.demands], problem.begin_s).sets

    def _add(self, new: Sequence[WayKey]) -> Ways:
        """Puts ways behind those that there are."""
        part = build_ways(self._problem.network, self._moves, new, self._closed)
        known, rows = self.ways, len(self.ways.edge)
        self._column.update({one: known.begin.shape[1] + n for n, one in enumerate(new)})
        columns = ("edge", "last", "length", "offset", "link")
        joined = {name: np.concatenate((getattr(known, name), getattr(part, name))) for name in columns}
        begin = np.concatenate((known.begin, part.begin + np.int32(rows)), axis=1)
        self.ways = replace(known, begin=begin, **joined)
        return part
