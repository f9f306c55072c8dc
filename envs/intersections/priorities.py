"""Priorities: movements that signals must serve first, for one vehicle on its way or in windows of time.

While a priority is in force, a signal that must decide may only choose phases that serve the movement best: with
protected green if any phase gives it that, else with permissive green. So controllers and policies all keep it. Yellow
and least greens stay as they are, and a green that serves it already goes on. Priorities of one signal that no phase
serves together: the first one counts. Programs decide nothing and keep none.

A vehicle on the edge before the stop line may stand behind one that turns another way. Then it is that one's movement
that is served, until its lane is free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedsched.envs.core import WorldError
from fedsched.envs.intersections.arrays import Columns, to_tensor
from fedsched.envs.intersections.cutout import limit_times
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.tables import F64, I32

if TYPE_CHECKING:
    from fedsched.envs.intersections.world import IntersectionsWorld

EVERYBODY = -1
"""Instead of a trip."""


@dataclass(frozen=True)
class Priority:
    """One movement of one signal, for a vehicle or for all.

    For a vehicle it is in force while that very vehicle is on the road and no more than `lead` from the stop line, at
    the speed limits, unless it stands on an edge before the last; for all, while anybody is within 200 m of it.

    Attributes:
        signal: Number among the controlled signals.
        movement: Number among the signal's.
        begin: s from the begin of the episode, from when.
        end: s, until when.
        trip: Index of the vehicle in the demand of its instance, or EVERYBODY.
        place: On the vehicle's route, the edge before the stop line.
        lead: s.
        every: s; the time from `begin` on is cut into periods of this length.
        lasts: s at the start of each period in which it is in force.
    """

    signal: int
    movement: int
    begin: int
    end: int
    trip: int = EVERYBODY
    place: int = 0
    lead: int = 0
    every: int = 1
    lasts: int = 1


_FIELDS = tuple(one.name for one in fields(Priority))


def priority_columns(problem: Problem, batch: int, room: int, device: str) -> Columns:
    """Arrays for `room` priorities in each row, none set (`kernels.priorities.Priorities`)."""
    kept: Columns = {name: torch.zeros((batch, room), dtype=torch.int32, device=device) for name in _FIELDS}
    kept["signal"].fill_(-1)
    served = problem.served if room else np.zeros((0, 0, 0), dtype=np.int32)
    along = along_s(problem) if room else np.zeros(0)
    kept["serves"], kept["along_s"] = to_tensor(served, device), to_tensor(along, device)
    kept["link_movement"] = to_tensor(link_movements(problem), device)
    return kept


def stored_priorities(columns: Columns) -> Columns:
    """Those that change."""
    return {name: columns[name] for name in _FIELDS}


def along_s(problem: Problem) -> F64:
    """Seconds at the speed limits from the start of each way to the edge of every row, junctions included, [W]."""
    ways = problem.tables.ways
    seconds = limit_times(problem)[ways.edge]
    before = np.cumsum(seconds) - seconds
    starts = np.flatnonzero(np.concatenate(([True], ways.last[:-1])))
    number = np.cumsum(np.isin(np.arange(len(ways.edge)), starts)) - 1
    found: F64 = before - before[starts[number]]
    return found


def link_movements(problem: Problem) -> I32:
    """Number of each signal link's movement among its signal's, -1 where nobody controls it, [Q]."""
    number = {link: e for signal in problem.signals for e, links in enumerate(signal.links) for link in links}
    return np.array([number.get(link, -1) for link in problem.signal_links.tolist()], dtype=np.int32)


def set_priorities(world: "IntersectionsWorld", wanted: Mapping[int, Sequence[Priority]]) -> None:
    """Replaces the priorities of rows.

    Args:
        world: With room for them.
        wanted: By row; the weightier ones first.

    Raises:
        WorldError: Signals that decide nothing, an unknown row, more priorities than there is room for, or one that
            names no movement, no time, or a stop line that its vehicle does not meet.
    """
    if not world.timing.period_s:
        raise WorldError(f"signals decide nothing with the timing {world.timing.name!r}; priorities need another one")
    for row, own in wanted.items():
        _check_room(world, row, len(own))
        for priority in own:
            _check_time(world, priority)
            if priority.trip != EVERYBODY:
                _check_trip(world, row, priority)
    for row, own in wanted.items():
        for name in _FIELDS:
            values = torch.tensor([getattr(priority, name) for priority in own], dtype=torch.int32)
            world.priorities[name][row, : len(own)] = values.to(world.device)
        world.priorities["signal"][row, len(own) :] = -1


def _check_room(world: "IntersectionsWorld", row: int, asked: int) -> None:
    room = world.priorities["signal"].shape[1]
    if not 0 <= row < world.batch:
        raise WorldError(f"no row {row}; there are {world.batch}")
    if asked > room:
        raise WorldError(f"row {row}: {asked} priorities, room for {room}; make the world with priorities={asked}")


def _check_time(world: "IntersectionsWorld", priority: Priority) -> None:
    signals = world.problem.signals
    if not 0 <= priority.signal < len(signals):
        raise WorldError(f"no signal {priority.signal}; there are {len(signals)}")
    signal = signals[priority.signal]
    if not 0 <= priority.movement < len(signal.movements):
        raise WorldError(f"signal {signal.id}: no movement {priority.movement}; there are {len(signal.movements)}")
    if priority.begin < 0 or priority.end <= priority.begin or priority.every < 1 or priority.lasts < 1:
        raise WorldError(f"signal {signal.id}: {priority} is never in force; give it a time")


def _check_trip(world: "IntersectionsWorld", row: int, priority: Priority) -> None:
    traffic, tables = world.traffic, world.problem.tables
    count = int(traffic["trips"][row])
    if not 0 <= priority.trip < count:
        raise WorldError(f"row {row}: no trip {priority.trip}; its demand has {count}")
    trip = priority.trip + int(traffic["first_trip"][row])
    place = int(tables.vehicles.way[trip]) + priority.place
    signal = world.problem.signals[priority.signal]
    move = signal.movements[priority.movement]
    inside = 0 <= priority.place < int(tables.vehicles.edges[trip]) - 1
    if not inside or tables.ways.edge[place : place + 2].tolist() != [move.source, move.target]:
        raise WorldError(
            f"row {row}: trip {priority.trip} does not pass movement {priority.movement} of signal {signal.id} behind "
            f"the edge at place {priority.place} of its route"
        )
