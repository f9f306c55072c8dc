"""Priorities of movements: the phases that are left to a signal that decides."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fedsched.envs.intersections.priorities import EVERYBODY, Priority
from fedsched.envs.intersections.signals import SignalModel


@dataclass(frozen=True)
class Driver:
    """Where a vehicle is.

    Attributes:
        trip: Index in the demand.
        route: Its edges.
        place: On its route, the edge that it is on, or leads from if it is inside a junction.
        inside: Whether it is.
        driven_s: How long it takes at the speed limit from the start of its lane to where it is.
        lane: Index of its lane.
        position: m from its start.
        stands: Whether it does.
        movement: What it does at the next signal, as a number among that one's movements, -1 for none.
    """

    trip: int
    route: Sequence[int]
    place: int
    inside: bool
    driven_s: float
    lane: int
    position: float
    stands: bool
    movement: int


def legal_phases(
    signal: SignalModel,
    number: int,
    priorities: Sequence[Priority],
    now: int,
    drivers: Sequence[Driver],
    seen: Collection[int],
    edge_s: Sequence[float],
) -> set[int]:
    """Phases that a signal with nothing else to heed may choose.

    Args:
        signal: Its phases and movements.
        number: Among the controlled signals.
        priorities: Of its row, in order.
        now: s.
        drivers: All on the road.
        seen: Its movements with somebody within 200 m.
        edge_s: s along each edge and through the junction behind it at the speed limits.
    """
    left = set(range(len(signal.phases)))
    for one in priorities:
        if one.signal != number or not _in_time(one, now):
            continue
        if one.trip == EVERYBODY:
            wanted = one.movement if one.movement in seen else -1
        else:
            wanted = next((_wanted(d, one, drivers, edge_s) for d in drivers if d.trip == one.trip), -1)
        green = {phase: _green(signal, phase, wanted) for phase in left} if wanted >= 0 else {}
        best = max(green.values(), default=0)
        if best > 0:
            left = {phase for phase in left if green[phase] == best}
    return left


def _wanted(driver: Driver, one: Priority, drivers: Sequence[Driver], edge_s: Sequence[float]) -> int:
    """The movement to be served for the vehicle of a priority, -1 for none."""
    if not 0 <= _ahead_s(driver, one.place, edge_s) <= one.lead:
        return -1
    if driver.inside or driver.place < one.place:
        return -1 if driver.stands else one.movement
    head = max((d for d in drivers if d.lane == driver.lane), key=lambda d: d.position)
    return one.movement if head is driver or head.movement < 0 else head.movement


def _in_time(one: Priority, now: int) -> bool:
    starts = range(one.begin, one.end, one.every)
    return any(start <= now < min(start + one.lasts, one.end) for start in starts)


def _ahead_s(driver: Driver, place: int, edge_s: Sequence[float]) -> float:
    """Seconds to the end of the edge at a place of the route; -1 for one that lies behind."""
    at, driven_s = (driver.place + 1, 0.0) if driver.inside else (driver.place, driver.driven_s)
    if at > place:
        return -1.0
    return max(0.0, sum(edge_s[edge] for edge in driver.route[at : place + 1]) - driven_s)


def _green(signal: SignalModel, phase: int, movement: int) -> int:
    """0 red, 1 permissive, 2 some lane protected."""
    lights = {signal.phases[phase][place] for place in signal.movements[movement].links}
    return 2 if "G" in lights else int("g" in lights)
