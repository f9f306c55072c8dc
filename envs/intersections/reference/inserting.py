"""Insertion: vehicles that want to depart enter the first edge of their route as soon as it is safe.

Source: SUMO 1.28's defaults (lane best_prob, speed avg, position base), as probed with libsumo, in our own words.
"""

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.around import follower_beyond, may_use, secure
from fedsched.envs.intersections.reference.planning import is_minor, leader_on
from fedsched.envs.intersections.reference.state import Street, Vehicle

MARGIN = 0.1
"""m between the lane's start and the rear."""


def depart_lane(street: Street, ego: Vehicle, wanted: int) -> int:
    """The lane on which the vehicle is tried: -1 stands for the emptiest of the lanes that need no change."""
    edge = street.way_edge[ego.way]
    lanes = [lane for lane in street.lanes_of[edge] if may_use(street, ego, lane)]
    if wanted >= 0:
        return int(street.lanes_of[edge][wanted])
    if wanted == -2:
        return lanes[0]
    best = [lane for lane in lanes if street.way_offset[ego.way][street.number[lane]] == 0] or lanes
    room = [street.on[lane][-1].position if street.on[lane] else float("inf") for lane in best]
    return best[room.index(max(room))]


def try_insert(street: Street, ego: Vehicle, lane: int, wanted_speed: float) -> bool:
    """Puts the vehicle onto the lane if that is safe."""
    kind = ego.kind
    limit = street.allowed(ego, lane)
    ego.lane, ego.position = lane, min(street.size[kind] + MARGIN, street.length[lane])
    on = street.on[lane]
    mean = sum(v.speed for v in on) / len(on) if on else street.limit[lane]
    ego.speed = min(limit, mean) if wanted_speed < 0 else min(limit, wanted_speed)
    if not _safe(street, ego):
        return False
    street.on[lane].append(ego)
    return True


def _safe(street: Street, ego: Vehicle) -> bool:
    """Whether it may enter with its speed, which is lowered where a closed link is near."""
    kind = ego.kind
    lane, place = ego.lane, ego.place
    decel, tau = street.decel[kind], street.tau[kind]
    reach = krauss.brake_gap(ego.speed, decel, tau) + street.gap[kind]
    seen = street.length[lane] - ego.position
    while True:
        leader = leader_on(street, ego, lane, own=False)
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
    follower, back = follower_beyond(street, ego, ego.lane)
    return follower is None or back >= secure(street, follower, ego)


def _follow(street: Street, ego: Vehicle, leader: Vehicle, gap: float) -> float:
    room = gap + krauss.brake_gap(
        leader.speed, max(street.decel[ego.kind], street.decel[leader.kind]), 0.0
    )
    return krauss.stop_speed(room, street.decel[ego.kind], street.tau[ego.kind])
