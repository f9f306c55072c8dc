"""What a vehicle and its neighbours do for a lane change that the route urges.

Source: what SUMO's MSLCM_LC2013 (informLeader, informFollower) does, in our own words.
"""

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.around import Neighbours, secure, secure_at
from fedsched.envs.intersections.reference.state import Street, Vehicle

HELP_SPEED = 10 / 3.6
"""m/s that one overtakes faster."""
LEAST_SLOWDOWN = 7 / 3.6
"""m/s^2 of falling behind a leader."""
CUT_IN_SPEED = 27.0
"""m/s above which one cuts in to the left."""
LONG_RAMP = 200.0
"""m; longer lanes are no on-ramps."""
RESERVED_RIGHT, RESERVED_LEFT = 20.0, 40.0
"""m kept at the lane's end for vehicles that cannot be seen yet, where more than one lane is to be crossed."""
STUCK_S = 5
"""s after which a standing leader is overtaken rather than waited for, where two vehicle lengths are left for it."""
CONGESTED, SLOW_ROAD = 60 / 3.6, 60.1 / 3.6


def inform(
    street: Street, ego: Vehicle, around: Neighbours, side: int, offset: int, length: float, front: bool, back: bool
) -> None:
    """Agrees with the neighbours how the change becomes possible.

    Args:
        street: The street.
        ego: Who must change.
        around: The neighbours on the lane it must get onto.
        side: -1 right, 1 left.
        offset: Lanes to change by.
        length: m of the own lane's way.
        front: Whether the leader is too close.
        back: Whether the follower is too close.
    """
    ego.left_space = length - ego.position
    if abs(offset) > 1:
        ego.reserved = max(RESERVED_RIGHT if side < 0 else RESERVED_LEFT, ego.reserved)
    _reserve(street, ego, around.leader, side)
    remaining = max(1.0, ego.left_space / max(1e-3, ego.look) / max(1, abs(offset)) / 2)
    planned = _with_leader(street, ego, around, side, front, remaining)
    if planned >= 0 and around.follower is not None:
        if back:
            _with_follower(street, ego, around.follower, around.back, side, planned, remaining)
        elif front:
            safe = _cut_in(street, around.follower, ego, around.back, planned, 0.0)
            around.follower.advise(safe, street.decel[around.follower.kind])


def _reserve(street: Street, ego: Vehicle, leader: Vehicle | None, side: int) -> None:
    """Room at the lane's end for a leader that must change the other way."""
    if leader is None or leader.wants_side != -side:
        return
    potential = ego.left_space - krauss.brake_gap(ego.speed, street.decel[ego.kind], 0.0)
    length = street.size[leader.kind] + street.gap[leader.kind]
    if length <= potential:
        ego.reserved = max(length, ego.reserved)
    else:
        leader.reserved = max(street.size[ego.kind] + street.gap[ego.kind], leader.reserved)


def _follow(street: Street, ego: Vehicle, gap: float, speed: float, leader: Vehicle) -> float:
    k = ego.kind
    return krauss.planned_speed(
        gap, ego.speed, speed, street.accel[k], street.decel[k], street.tau[k], street.decel[leader.kind]
    )


def _with_leader(street: Street, ego: Vehicle, around: Neighbours, side: int, front: bool, remaining: float) -> float:
    """The speed planned with respect to the leader; -1 where it is to be overtaken."""
    kind = ego.kind
    accel, decel, tau = street.accel[kind], street.decel[kind], street.tau[kind]
    line = krauss.stop_speed(ego.left_space - ego.reserved, decel, 1.0)
    planned = min(ego.speed, line, ego.speed + accel)
    if ego.advice is not None:
        planned = min(planned, ego.advice)
    other = around.leader
    if other is None:
        return planned
    expected = other.speed - max(1.0, -other.acceleration)
    gap = around.front + expected - planned
    target = max(ego.speed - decel, 0.0, _follow(street, ego, gap, expected, other))
    if not front:
        ego.advise(target, decel)
        return min(target, planned)
    faster = planned - other.speed
    distance = around.front + street.size[other.kind] + street.gap[other.kind] + street.size[kind]
    distance = max(0.0, distance + secure_at(street, other, ego, other.speed, ego.speed))
    stuck = other.waiting > STUCK_S
    if faster > 0:
        time = distance / faster
    else:
        overtakes = stuck and ego.left_space > 2 * (street.size[kind] + street.gap[kind])
        time = 0.0 if overtakes else remaining + 1
    free_road = ego.speed >= CONGESTED and street.limit[ego.lane] >= SLOW_ROAD
    short = ego.left_space - ego.reserved - krauss.brake_gap(ego.speed, decel, tau) < distance
    if (faster < 0 and time > remaining) or (side > 0 and free_road) or short or remaining < time:
        other.leads_blocked = True
        if target >= ego.speed:
            ego.advise(target, decel)
            return planned
        slowdown = min(decel, max(LEAST_SLOWDOWN, (ego.speed - target) / remaining))
        slower = min(planned, max(0.0, ego.speed - slowdown))
        ego.advise(slower, decel)
        return slower
    if not stuck:
        other.advise(other.speed, street.decel[other.kind])
    other.leads_blocked = True
    return -1.0


def _cut_in(street: Street, follower: Vehicle, ego: Vehicle, gap: float, planned: float, least: float) -> float:
    """The follower's speed that lets `ego` in: an upper bound by computing it twice."""
    first = max(least, _follow(street, follower, gap + planned, planned, ego))
    return max(least, _follow(street, follower, gap + planned - first, planned, ego))


def _with_follower(
    street: Street, ego: Vehicle, follower: Vehicle, gap: float, side: int, planned: float, remaining: float
) -> None:
    """What the follower is asked for, or how it is let pass."""
    decel = street.decel[follower.kind]
    follower.helps = side
    if planned - follower.speed >= HELP_SPEED:
        need = secure_at(street, follower, ego, follower.speed, planned)
        if (need - gap) / remaining < planned - follower.speed:
            follower.advise(planned - HELP_SPEED, decel)
            return
    slowed = max(0.0, follower.speed - decel)
    faster = planned - slowed
    opened = gap + faster
    need = secure_at(street, follower, ego, slowed, planned)
    if opened > 0 and opened >= need:
        follower.advise(_cut_in(street, follower, ego, gap, planned, slowed), decel)
    elif faster > 0 and faster * remaining > need - opened + 0.1:
        follower.advise(slowed, decel)
    elif side < 0 and follower.speed >= CONGESTED and street.limit[follower.lane] >= SLOW_ROAD:
        follower.advise(max(slowed, HELP_SPEED), decel)
    else:
        _let_pass(street, ego, follower, gap, side, planned, remaining, slowed)


def _let_pass(
    street: Street,
    ego: Vehicle,
    follower: Vehicle,
    gap: float,
    side: int,
    planned: float,
    remaining: float,
    slowed: float,
) -> None:
    """The follower overtakes, unless it is fast and the change is worth slowing it down."""
    decel = street.decel[follower.kind]
    speed = max(follower.speed, ego.speed + HELP_SPEED)
    ramp = side > 0 and (planned > CUT_IN_SPEED or street.length[ego.lane] > LONG_RAMP)
    if follower.speed > ego.speed and (side < 0 or ramp):
        speed = max(slowed, ego.speed + HELP_SPEED)
        if (follower.speed - ego.speed) / decel < remaining:
            follower.advise(speed, decel)
            return
    follower.advise(speed, decel)
    distance = gap + street.size[ego.kind] + street.gap[ego.kind] + street.size[follower.kind]
    distance = max(0.0, distance + secure_at(street, ego, follower, planned, speed))
    own = street.decel[ego.kind]
    ego.advise(max(speed - distance / remaining, ego.speed - own), own)


__all__ = ["HELP_SPEED", "inform", "secure"]
