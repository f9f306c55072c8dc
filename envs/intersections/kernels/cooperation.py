"""What a vehicle and its neighbours do for a lane change that the route urges; see `reference.cooperation`."""

import warp as wp

from fedsched.envs.intersections.kernels.around import Around, secure_at
from fedsched.envs.intersections.kernels.following import brake_gap, planned_speed, stop_speed
from fedsched.envs.intersections.kernels.state import Road, Traffic, real

HELP_SPEED = wp.constant(real(10.0 / 3.6))
STUCK_S = wp.constant(5)
LEAST_SLOWDOWN = wp.constant(real(7.0 / 3.6))
CUT_IN_SPEED = wp.constant(real(27.0))
LONG_RAMP = wp.constant(real(200.0))
RESERVED_RIGHT, RESERVED_LEFT = wp.constant(real(20.0)), wp.constant(real(40.0))
CONGESTED, SLOW_ROAD = wp.constant(real(60.0 / 3.6)), wp.constant(real(60.1 / 3.6))


@wp.func
def advise(r: Road, t: Traffic, b: int, s: int, speed: real):
    """Asks a vehicle to go no faster; what it cannot do within a second is ignored."""
    least = wp.max(real(0.0), t.vehicle[b, s].speed - r.decel[t.vehicle[b, s].kind])
    if speed >= least - real(1.0e-9) and speed < t.vehicle[b, s].advice:
        t.vehicle[b, s].advice = speed


@wp.func
def follow_at(r: Road, t: Traffic, b: int, s: int, leader: int, gap: real, speed: real) -> real:
    k = t.vehicle[b, s].kind
    return planned_speed(
        gap, t.vehicle[b, s].speed, speed, r.accel[k], r.decel[k], r.tau[k], r.decel[t.vehicle[b, leader].kind]
    )


@wp.func
def drives_free(r: Road, t: Traffic, b: int, s: int) -> bool:
    """Whether a vehicle may not be overtaken on the right."""
    return t.vehicle[b, s].speed >= CONGESTED and r.lane_speed[t.vehicle[b, s].lane] >= SLOW_ROAD


@wp.func
def reserve(r: Road, t: Traffic, b: int, s: int, leader: int, side: int):
    if leader < 0:
        return
    if t.vehicle[b, leader].wants_side != -side:
        return
    kind, other = t.vehicle[b, s].kind, t.vehicle[b, leader].kind
    potential = t.vehicle[b, s].left_space - brake_gap(t.vehicle[b, s].speed, r.decel[kind], real(0.0))
    length = r.size[other] + r.gap[other]
    if length <= potential:
        t.vehicle[b, s].reserved = wp.max(length, t.vehicle[b, s].reserved)
    else:
        t.vehicle[b, leader].reserved = wp.max(r.size[kind] + r.gap[kind], t.vehicle[b, leader].reserved)


@wp.func
def with_leader(r: Road, t: Traffic, b: int, s: int, around: Around, side: int, front: bool, remaining: real) -> real:
    """The speed planned with respect to the leader; -1 where it is to be overtaken."""
    kind = t.vehicle[b, s].kind
    speed = t.vehicle[b, s].speed
    accel, decel = r.accel[kind], r.decel[kind]
    line = stop_speed(t.vehicle[b, s].left_space - t.vehicle[b, s].reserved, decel, real(1.0))
    planned = wp.min(wp.min(speed, line), wp.min(speed + accel, t.vehicle[b, s].advice))
    other = around.leader
    if other < 0:
        return planned
    other_speed = t.vehicle[b, other].speed
    expected = other_speed - wp.max(real(1.0), -t.vehicle[b, other].acceleration)
    gap = around.front + expected - planned
    target = wp.max(wp.max(speed - decel, real(0.0)), follow_at(r, t, b, s, other, gap, expected))
    if not front:
        advise(r, t, b, s, target)
        return wp.min(target, planned)
    faster = planned - other_speed
    distance = around.front + r.size[t.vehicle[b, other].kind] + r.gap[t.vehicle[b, other].kind] + r.size[kind]
    distance = wp.max(real(0.0), distance + secure_at(r, t, b, other, s, other_speed, speed))
    stuck = t.vehicle[b, other].waiting > STUCK_S
    time = remaining + real(1.0)
    if faster > real(0.0):
        time = distance / faster
    elif stuck and t.vehicle[b, s].left_space > real(2.0) * (r.size[kind] + r.gap[kind]):
        time = real(0.0)
    room = t.vehicle[b, s].left_space - t.vehicle[b, s].reserved - brake_gap(speed, decel, r.tau[kind])
    t.vehicle[b, other].leads_blocked = True
    slow = faster < real(0.0) and time > remaining
    if slow or (side > 0 and drives_free(r, t, b, s)) or room < distance or remaining < time:
        if target >= speed:
            advise(r, t, b, s, target)
            return planned
        slowdown = wp.min(decel, wp.max(LEAST_SLOWDOWN, (speed - target) / remaining))
        slower = wp.min(planned, wp.max(real(0.0), speed - slowdown))
        advise(r, t, b, s, slower)
        return slower
    if not stuck:
        advise(r, t, b, other, other_speed)
    return real(-1.0)


@wp.func
def cut_in(r: Road, t: Traffic, b: int, follower: int, s: int, gap: real, planned: real, least: real) -> real:
    first = wp.max(least, follow_at(r, t, b, follower, s, gap + planned, planned))
    return wp.max(least, follow_at(r, t, b, follower, s, gap + planned - first, planned))


@wp.func
def with_follower(
    r: Road, t: Traffic, b: int, s: int, follower: int, gap: real, side: int, planned: real, remaining: real
):
    """What the follower is asked for, or how it is let pass."""
    k = t.vehicle[b, follower].kind
    own = t.vehicle[b, s].kind
    decel = r.decel[k]
    speed = t.vehicle[b, s].speed
    other = t.vehicle[b, follower].speed
    t.vehicle[b, follower].helps = side
    if planned - other >= HELP_SPEED:
        lead_need = secure_at(r, t, b, follower, s, other, planned)
        if (lead_need - gap) / remaining < planned - other:
            advise(r, t, b, follower, planned - HELP_SPEED)
            return
    slowed = wp.max(real(0.0), other - decel)
    faster = planned - slowed
    opened = gap + faster
    need = secure_at(r, t, b, follower, s, slowed, planned)
    if opened > real(0.0) and opened >= need:
        advise(r, t, b, follower, cut_in(r, t, b, follower, s, gap, planned, slowed))
        return
    if faster > real(0.0) and faster * remaining > need - opened + real(0.1):
        advise(r, t, b, follower, slowed)
        return
    if side < 0 and drives_free(r, t, b, follower):
        advise(r, t, b, follower, wp.max(slowed, HELP_SPEED))
        return
    passing = wp.max(other, speed + HELP_SPEED)
    ramp = side > 0 and (planned > CUT_IN_SPEED or r.lane_length[t.vehicle[b, s].lane] > LONG_RAMP)
    if other > speed and (side < 0 or ramp):
        passing = wp.max(slowed, speed + HELP_SPEED)
        if (other - speed) / decel < remaining:
            advise(r, t, b, follower, passing)
            return
    advise(r, t, b, follower, passing)
    distance = gap + r.size[own] + r.gap[own] + r.size[k]
    distance = wp.max(real(0.0), distance + secure_at(r, t, b, s, follower, planned, passing))
    advise(r, t, b, s, wp.max(passing - distance / remaining, speed - r.decel[own]))


@wp.func
def inform(
    r: Road, t: Traffic, b: int, s: int, around: Around, side: int, offset: int, length: real, front: bool, back: bool
):
    """Agrees with the neighbours how the change becomes possible."""
    t.vehicle[b, s].left_space = length - t.vehicle[b, s].position
    away = wp.abs(offset)
    if away > 1:
        unseen = real(RESERVED_LEFT)
        if side < 0:
            unseen = RESERVED_RIGHT
        t.vehicle[b, s].reserved = wp.max(unseen, t.vehicle[b, s].reserved)
    reserve(r, t, b, s, around.leader, side)
    seconds = (
        t.vehicle[b, s].left_space / wp.max(real(1.0e-3), t.vehicle[b, s].look) / real(wp.max(1, away)) / real(2.0)
    )
    remaining = wp.max(real(1.0), seconds)
    planned = with_leader(r, t, b, s, around, side, front, remaining)
    if planned >= real(0.0) and around.follower >= 0:
        if back:
            with_follower(r, t, b, s, around.follower, around.back, side, planned, remaining)
        elif front:
            safe = cut_in(r, t, b, around.follower, s, around.back, planned, real(0.0))
            advise(r, t, b, around.follower, safe)
