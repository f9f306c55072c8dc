"""Insertion: vehicles that want to depart enter the first edge of their route as soon as it is safe.

Source: SUMO 1.28's defaults (lane best_prob, speed avg, position base), as probed with libsumo, in our own words.
"""

from collections.abc import Callable

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.around import follower_beyond, may_use, secure
from fedsched.envs.intersections.reference.planning import is_minor, leader_on
from fedsched.envs.intersections.reference.state import Street, Vehicle

MARGIN = 0.1
"""m between the lane's start and the rear."""
RANDOM_TRIES = 10


def depart_lane(street: Street, ego: Vehicle, wanted: int) -> int:
    """The lane on which the vehicle is tried: -1 stands for the emptiest of the lanes that need no change.

    None is -1: the wanted one, or all of the edge, are closed.
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
    room = [street.on[lane][-1].position if street.on[lane] else float("inf") for lane in best]
    return best[room.index(max(room))]


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
    tried = [draws(k) * street.length[lane] for k in range(1 if rule == -3 else RANDOM_TRIES)]
    return tried if rule == -3 else [*tried, base]


def try_insert(street: Street, ego: Vehicle, lane: int, wanted_speed: float, tried: list[float]) -> bool:
    """Puts the vehicle onto the lane at the first of the tried positions that is safe."""
    limit, on = street.allowed(ego, lane), street.on[lane]
    mean = sum(v.speed for v in on) / len(on) if on else street.limit[lane]
    speed = min(limit, mean) if wanted_speed < 0 else min(limit, wanted_speed)
    ego.lane = lane
    for position in tried:
        ego.position, ego.speed = position, speed
        if _safe(street, ego):
            on.append(ego)
            on.sort(key=lambda v: (-v.position, v.id))
            return True
    return False


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


def _safe(street: Street, ego: Vehicle) -> bool:
    """Whether it may enter with its speed, which is lowered where a closed link is near."""
    kind = ego.kind
    lane, place = ego.lane, ego.place
    decel, tau = street.decel[kind], street.tau[kind]
    reach = krauss.brake_gap(ego.speed, decel, tau) + street.gap[kind]
    seen = street.length[lane] - ego.position
    ahead, behind = _around(street, ego)
    while True:
        first = lane == ego.lane and place == ego.place
        leader = ahead if first else leader_on(street, ego, lane, own=False)
        if leader is not None:
            gap = leader[0] + seen - street.length[lane] - street.gap[kind]
            if gap < 0 or _follow(street, ego, leader[1], gap) < ego.speed:
                return False
        if seen > reach or (not street.internal[lane] and place == ego.last):
            break
        link = street.link_from(ego, lane, place)
        if link < 0 or street.is_red(link) or street.is_yellow(link) or is_minor(street, link):
            ego.speed = min(ego.speed, krauss.stop_speed(seen, decel, 1.0))
            break
        lane = street.next[link]
        ego.speed = min(ego.speed, krauss.free_speed(seen, street.allowed(ego, lane), decel))
        place += not street.internal[lane]
        seen += street.length[lane]
    follower: Vehicle | None = behind
    if behind is not None:
        back = street.rear(ego) - behind.position - street.gap[behind.kind]
    else:
        follower, back = follower_beyond(street, ego, ego.lane)
    return follower is None or back >= max(0.0, secure(street, follower, ego))


def _follow(street: Street, ego: Vehicle, leader: Vehicle, gap: float) -> float:
    room = gap + krauss.brake_gap(leader.speed, max(street.decel[ego.kind], street.decel[leader.kind]), 0.0)
    return krauss.stop_speed(room, street.decel[ego.kind], street.tau[ego.kind])
