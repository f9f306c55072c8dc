"""Insertion: vehicles that want to depart enter the first edge of their route as soon as it is safe.

Source: SUMO 1.28's defaults (lane best_prob, speed avg, position base), as probed with libsumo, in our own words.
"""

from collections.abc import Callable

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.around import follower_beyond, may_use, secure, secure_at
from fedsched.envs.intersections.reference.planning import is_minor, leader_on
from fedsched.envs.intersections.reference.state import Street, Vehicle
from fedsched.envs.intersections.tables import ConflictKind

MARGIN = 0.1
"""m between the lane's start and the rear."""
RANDOM_TRIES = 10
RANDOM_FREE, FREE = -2.0, -4.0
"""See `tables.Vehicles.position`."""


def depart_lane(street: Street, ego: Vehicle, wanted: int) -> int:
    """The lane on which the vehicle is tried: -1 stands for the emptiest of the lanes that need no change.

    Lanes to the left of one whose last vehicle would drive faster are not considered. None is -1: the wanted one, or
    all of the edge, are closed.
    """
    edge = street.way_edge[ego.way]
    lanes = [lane for lane in street.lanes_of[edge] if may_use(street, ego, lane)]
    if wanted >= 0:
        lane = int(street.lanes_of[edge][wanted])
        return lane if lane in lanes else -1
    if not lanes:
        return -1
    if wanted == -2:
        return lanes[0]
    best = [lane for lane in lanes if street.way_offset[ego.way][street.number[lane]] == 0] or lanes
    chosen, most = best[0], -1.0
    for lane in best:
        last = street.on[lane][-1] if street.on[lane] else None
        room = last.position if last is not None else float("inf")
        if room > most:
            chosen, most = lane, room
        if last is not None and street.allowed(last, lane) > street.allowed(ego, lane):
            break
    return chosen


def places(street: Street, ego: Vehicle, lane: int, rule: float, draws: Callable[[int], float]) -> list[float]:
    """The positions on the lane that are tried, in order.

    Args:
        street: The street.
        ego: The vehicle.
        lane: Where it departs.
        rule: See `tables.Vehicles.position`.
        draws: Uniform numbers by the number of the try.
    """
    base = min(street.size[ego.kind] + MARGIN, street.length[lane])
    if rule >= 0:
        return [min(rule, street.length[lane])]
    if rule == -1:
        return [base]
    tries = 0 if rule == FREE else RANDOM_TRIES if rule == RANDOM_FREE else 1
    return [draws(k) * street.length[lane] for k in range(tries)]


def try_insert(
    street: Street, ego: Vehicle, lane: int, wanted_speed: float, tried: list[float], anywhere: bool
) -> bool:
    """Puts the vehicle onto the lane at the first of the tried positions that is safe.

    Among others it enters at their mean speed or not at all; on an empty lane it adapts to what lies ahead.

    Args:
        street: The street.
        ego: The vehicle.
        lane: Where it departs.
        wanted_speed: m/s; negative for the mean of the lane.
        tried: m, positions in order.
        anywhere: Whether any gap of the lane will do if none of them is safe.
    """
    limit, on = street.allowed(ego, lane), street.on[lane]
    mean = sum(v.speed for v in on) / len(on) if on else street.limit[lane]
    speed = min(limit, mean) if wanted_speed < 0 else min(limit, wanted_speed)
    ego.lane = lane
    adapts = not on and wanted_speed < 0
    if any(_enters(street, ego, position, speed, adapts) for position in tried):
        return True
    return anywhere and _enters_anywhere(street, ego, speed)


def _enters(street: Street, ego: Vehicle, position: float, speed: float, adapts: bool) -> bool:
    ego.position, ego.speed = position, speed
    if not _safe(street, ego, adapts):
        return False
    on = street.on[ego.lane]
    on.append(ego)
    on.sort(key=lambda v: (-v.position, v.id))
    return True


def _enters_anywhere(street: Street, ego: Vehicle, wanted: float) -> bool:
    """At the lane's start, with the rear before it; or else in the first gap that is wide enough."""
    ego.position = ego.speed = 0.0
    on = street.on[ego.lane]
    if not on:
        follower, gap = follower_beyond(street, ego, ego.lane)
        missing = 0.0
        if follower is not None:
            missing = max(0.0, secure_at(street, follower, ego, follower.speed, wanted) - gap)
        return missing <= street.length[ego.lane] and _enters(street, ego, missing, wanted, True)
    first = on[0]
    need = secure_at(street, ego, first, first.speed, first.speed) + street.gap[ego.kind]
    if street.rear(first) >= need and _enters(street, ego, 0.0, min(wanted, _follow(street, ego, first, need)), True):
        return True
    for at in range(len(on) - 1, -1, -1):
        if _enters_behind(street, ego, on[at - 1] if at else None, on[at], wanted):
            return True
    return False


def _enters_behind(street: Street, ego: Vehicle, leader: Vehicle | None, follower: Vehicle, wanted: float) -> bool:
    """Between two vehicles, as near to the follower as it allows."""
    speed, front = wanted, street.length[ego.lane]
    rear = street.rear(leader) if leader is not None else None
    if leader is None and street.rears[ego.lane]:
        rear, leader = min(street.rears[ego.lane], key=lambda pair: pair[0])
    if leader is not None and rear is not None:
        speed = min(wanted, leader.speed)
        front = rear - secure_at(street, ego, leader, speed, leader.speed) - street.gap[ego.kind]
    ego.speed = 0.0
    back = follower.position + street.gap[follower.kind] + secure(street, follower, ego) + street.size[ego.kind]
    return front > 0 and back + MARGIN < front and _enters(street, ego, back + MARGIN, speed, True)


def _around(street: Street, ego: Vehicle) -> tuple[tuple[float, Vehicle] | None, Vehicle | None]:
    """Who would be ahead, with its rear, and who behind."""
    ahead, behind = None, None
    for other in street.on[ego.lane]:
        if other.position < ego.position:
            behind = other
            break
        ahead = (street.rear(other), other)
    for rear, other in street.rears[ego.lane]:
        if ahead is None or rear < ahead[0]:
            ahead = (rear, other)
    return ahead, behind


def _safe(street: Street, ego: Vehicle, adapts: bool) -> bool:
    """Whether it may enter with its speed, or with the lower one that it adapts to."""
    kind = ego.kind
    lane, place = ego.lane, ego.place
    seen = street.length[lane] - ego.position
    while seen < _reach(street, ego) and not (not street.internal[lane] and place == ego.last):
        link = street.link_from(ego, lane, place)
        line = krauss.stop_speed(seen, street.decel[kind], 1.0)
        if link < 0 or street.is_red(link) or street.is_yellow(link) or is_minor(street, link):
            if not _holds_to(ego, line, adapts):
                return False
            break
        lane = street.next[link]
        leader = leader_on(street, ego, lane, own=False)
        if leader is not None and not _behind(street, ego, leader, seen, adapts):
            return False
        ego.speed = min(ego.speed, krauss.free_speed(seen, street.allowed(ego, lane), street.decel[kind]))
        if _somebody_crosses(street, lane) and not _holds_to(ego, line, adapts):
            return False
        place += not street.internal[lane]
        seen += street.length[lane]
    ahead, behind = _around(street, ego)
    if ahead is not None and not _behind(street, ego, ahead, -ego.position, adapts):
        return False
    follower: Vehicle | None = behind
    if behind is not None:
        back = street.rear(ego) - behind.position - street.gap[behind.kind]
    else:
        follower, back = follower_beyond(street, ego, ego.lane)
    return follower is None or back >= max(0.0, secure(street, follower, ego))


def _reach(street: Street, ego: Vehicle) -> float:
    """M that it needs to stop, and its least gap."""
    kind = ego.kind
    return krauss.brake_gap(ego.speed, street.decel[kind], street.tau[kind]) + street.gap[kind]


def _holds_to(ego: Vehicle, bound: float, adapts: bool) -> bool:
    """Whether it keeps to a bound, by adapting if it may."""
    if adapts:
        ego.speed = min(ego.speed, bound)
    return ego.speed <= bound


def _behind(street: Street, ego: Vehicle, leader: tuple[float, Vehicle], start: float, adapts: bool) -> bool:
    """Whether there is room behind a leader on a lane that begins `start` m ahead."""
    gap = leader[0] + start - street.gap[ego.kind]
    return gap >= 0 and _holds_to(ego, _follow(street, ego, leader[1], gap), adapts)


def _somebody_crosses(street: Street, lane: int) -> bool:
    """Whether somebody is on a lane inside the junction that crosses this one or merges with it."""
    return any(
        street.conflict_kind[q] != ConflictKind.SIBLING
        and bool(street.on[street.conflict_lane[q]] or street.rears[street.conflict_lane[q]])
        for q in range(street.conflict_begin[lane], street.conflict_begin[lane + 1])
    )


def _follow(street: Street, ego: Vehicle, leader: Vehicle, gap: float) -> float:
    room = gap + krauss.brake_gap(leader.speed, max(street.decel[ego.kind], street.decel[leader.kind]), 0.0)
    return krauss.stop_speed(room, street.decel[ego.kind], street.tau[ego.kind])
