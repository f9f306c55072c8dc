"""Lane changes; see `reference.changing`."""

import warp as wp

from fedsched.envs.intersections.kernels.around import (
    Around,
    follower_beyond,
    leader_beyond,
    look_around,
    may_use,
    occupied,
    secure,
)
from fedsched.envs.intersections.kernels.following import brake_gap, follow_speed, secure_gap
from fedsched.envs.intersections.kernels.lists import link_in, unlink
from fedsched.envs.intersections.kernels.state import NO_ADVICE, Road, Traffic, real
from fedsched.envs.intersections.kernels.ways import allowed, before, leader_on

RIGHT, LEFT = wp.constant(-1), wp.constant(1)
LOOK_AHEAD_S = wp.constant(real(10.0))
TURN_LANE = wp.constant(real(200.0))
GAIN_LEFT, GAIN_RIGHT, KEEP_RIGHT = wp.constant(real(0.2)), wp.constant(real(2.0)), wp.constant(real(2.0))
KEEP_RIGHT_S, ACCEPTANCE_S = wp.constant(real(5.0)), wp.constant(real(7.0))
LEAST_USE_S = wp.constant(real(20.0))
HELP_DECEL, OVERTAKE_SPEED = wp.constant(real(1.0)), wp.constant(real(2.78))
LEAST_SLOWDOWN = wp.constant(real(1.94))


@wp.func
def anticipated(r: Road, t: Traffic, b: int, s: int, lane: int, leader: int, gap: real) -> real:
    kind = t.kind[b, s]
    fastest = allowed(r, t, b, s, lane)
    if leader >= 0:
        safe = follow_speed(
            wp.max(gap, real(0.0)),
            t.speed[b, s],
            t.speed[b, leader],
            r.accel[kind],
            r.decel[kind],
            r.tau[kind],
            r.decel[t.kind[b, leader]],
        )
        return wp.min(fastest, safe)
    end = r.way_length[t.way[b, s] + t.place[b, s], r.lane_index[lane]]
    return wp.min(fastest, before(r, t, b, s, end - t.position[b, s]))


@wp.func
def right_share(r: Road, t: Traffic, b: int, s: int, around: Around, length: real) -> real:
    """How much one second adds to the inclination to the right."""
    kind = t.kind[b, s]
    lane = t.lane[b, s]
    fastest = allowed(r, t, b, s, lane)
    patience = ACCEPTANCE_S * fastest / r.lane_speed[lane] * wp.max(real(1.0), t.speed[b, s])
    gap = wp.max(real(0.0), length - t.position[b, s] - brake_gap(fastest, r.decel[kind], r.tau[kind]))
    seconds = wp.min(patience, gap / fastest)
    leader = around.leader
    if leader >= 0:
        slower = t.speed[b, leader]
        if slower < fastest:
            need = secure_gap(fastest, slower, r.decel[kind], r.tau[kind], r.decel[t.kind[b, leader]])
            gap = wp.max(real(0.0), wp.min(gap, around.front - need))
            seconds = wp.min(seconds, gap / (fastest - slower))
    return KEEP_RIGHT * seconds / patience / KEEP_RIGHT_S


@wp.func
def speed_wish(
    r: Road, t: Traffic, b: int, s: int, lane: int, side: int, around: Around, length: real, to_best: bool
) -> bool:
    leader, rear = leader_on(r, t, b, s, t.lane[b, s], True)
    gap = real(0.0)
    if leader >= 0:
        gap = rear - t.position[b, s] - r.gap[t.kind[b, s]]
    else:
        beyond, beyond_gap = leader_beyond(r, t, b, s, t.lane[b, s])
        leader = beyond
        gap = beyond_gap
    here = anticipated(r, t, b, s, t.lane[b, s], leader, gap)
    there = anticipated(r, t, b, s, lane, around.leader, around.front)
    gain = (there - here) / wp.max(there, real(10.0))
    use = (length - t.position[b, s]) / wp.max(real(0.1), t.speed[b, s]) > LEAST_USE_S
    if to_best and there >= here:
        return True
    old = t.gain[b, s]
    if side == RIGHT:
        if here - real(5.0 / 3.6) > there:
            if old < real(0.0):
                t.gain[b, s] = old * real(0.5)
        else:
            t.gain[b, s] = old - gain
            t.keep_right[b, s] = t.keep_right[b, s] - right_share(r, t, b, s, around, length)
            if t.keep_right[b, s] < -KEEP_RIGHT:
                return True
        return t.gain[b, s] < -GAIN_RIGHT and use
    if here > there:
        if old > real(0.0):
            t.gain[b, s] = old * real(0.5)
    elif here == there:
        if old > real(0.0):
            t.gain[b, s] = old * real(0.8)
    else:
        t.gain[b, s] = old + gain
    return t.gain[b, s] > GAIN_LEFT and gain > real(1.0e-6) and use


@wp.func
def wish(r: Road, t: Traffic, b: int, s: int, lane: int, side: int, around: Around):
    """Whether the vehicle wants to change, and whether its route urges it."""
    row = t.way[b, s] + t.place[b, s]
    own_lane = t.lane[b, s]
    own, there = r.lane_index[own_lane], r.lane_index[lane]
    offset, beyond = r.way_offset[row, own], r.way_offset[row, there]
    own_length, there_length = r.way_length[row, own], r.way_length[row, there]
    kind = t.kind[b, s]
    position = t.position[b, s]
    to_best = offset * side > 0
    look = t.look[b, s] * LOOK_AHEAD_S
    if side == LEFT:
        look = look * real(2.0)
    look += real(2.0) * (r.size[kind] + r.gap[kind])
    away = real(wp.abs(offset))
    if to_best:
        if (own_length - position - occupied(r, t, b, s, own_lane + offset)) / away < look:
            return True, True
    elif not (offset == 0 and beyond == 0):
        taken = wp.max(occupied(r, t, b, s, own_lane), occupied(r, t, b, s, lane))
        room = wp.max(real(0.0), there_length - position - taken)
        if room / (away + real(2.0)) < look:
            return False, False
        if offset == 0 and (real(2.0) * room < look or there_length < TURN_LANE):
            return False, False
    return speed_wish(r, t, b, s, lane, side, around, there_length, to_best), False


@wp.func
def advise(t: Traffic, b: int, s: int, speed: real):
    t.advice[b, s] = wp.min(t.advice[b, s], speed)


@wp.func
def follow_at(r: Road, t: Traffic, b: int, follower: int, leader: int, gap: real, speed: real) -> real:
    k = t.kind[b, follower]
    return follow_speed(
        wp.max(real(0.0), gap),
        t.speed[b, follower],
        speed,
        r.accel[k],
        r.decel[k],
        r.tau[k],
        r.decel[t.kind[b, leader]],
    )


@wp.func
def behind_blocker(r: Road, t: Traffic, b: int, s: int, leader: int, gap: real, left: real, remaining: real) -> real:
    kind = t.kind[b, s]
    speed = t.speed[b, s]
    faster = speed - t.speed[b, leader]
    length = wp.max(real(0.0), gap) + r.size[t.kind[b, leader]] + r.size[kind] + secure(r, t, b, leader, s)
    brake = brake_gap(speed, r.decel[kind], r.tau[kind])
    if faster > real(0.0) and left - brake > length:
        if length / wp.max(faster, real(1.0e-3)) <= remaining:
            return speed
    expected = wp.max(real(0.0), t.speed[b, leader] - HELP_DECEL)
    target = follow_at(r, t, b, s, leader, gap, expected)
    slower = wp.min(wp.max((speed - target) / remaining, LEAST_SLOWDOWN), r.decel[kind])
    return wp.max(target, speed - slower)


@wp.func
def with_follower(
    r: Road, t: Traffic, b: int, s: int, follower: int, gap: real, planned: real, remaining: real
) -> real:
    k = t.kind[b, follower]
    decel = r.decel[k]
    own = t.kind[b, s]
    slow = wp.max(real(0.0), t.speed[b, follower] - decel)
    opened = gap + planned - slow
    need = secure_gap(slow, planned, decel, r.tau[k], r.decel[own])
    if opened > real(0.0) and opened >= need:
        first = follow_at(r, t, b, follower, s, gap + planned, planned)
        second = follow_at(r, t, b, follower, s, gap + planned - first, planned)
        advise(t, b, follower, wp.max(slow, second))
        return planned
    if (planned - slow) * remaining > need - opened:
        advise(t, b, follower, slow)
        return planned
    passing = wp.max(t.speed[b, follower], t.speed[b, s] + OVERTAKE_SPEED)
    distance = gap + r.size[k] + r.size[own] + real(2.0) * r.gap[k] + need
    return wp.max(passing - distance / remaining, t.speed[b, s] - r.decel[own])


@wp.func
def ask(r: Road, t: Traffic, b: int, s: int, around: Around, front: bool, back: bool):
    """What the vehicle and its neighbours do for a change that the route urges and that is blocked."""
    row = t.way[b, s] + t.place[b, s]
    lane = t.lane[b, s]
    own = r.lane_index[lane]
    left = r.way_length[row, own] - t.position[b, s] - occupied(r, t, b, s, lane)
    away = real(wp.max(1, wp.abs(r.way_offset[row, own])))
    remaining = wp.max(real(1.0), left / wp.max(real(1.0e-3), t.look[b, s]) / away / real(2.0))
    speed = t.speed[b, s]
    planned = wp.min(speed, before(r, t, b, s, left))
    leader = around.leader
    if leader >= 0 and (front or around.overlaps):
        if t.position[b, leader] >= t.position[b, s]:
            planned = wp.min(planned, behind_blocker(r, t, b, s, leader, around.front, left, remaining))
    if back and around.follower >= 0:
        planned = wp.min(planned, with_follower(r, t, b, s, around.follower, around.back, planned, remaining))
    if planned < speed:
        advise(t, b, s, planned)


@wp.func
def try_side(r: Road, t: Traffic, b: int, s: int, lane: int, side: int) -> bool:
    """One side: whether the vehicle has changed."""
    if lane < 0:
        return False
    if not may_use(r, t, b, s, lane):
        return False
    around = look_around(r, t, b, s, lane)
    wanted, urgent = wish(r, t, b, s, lane, side, around)
    if not wanted:
        return False
    front = bool(False)
    back = bool(False)
    if around.leader >= 0:
        front = around.front < secure(r, t, b, s, around.leader)
    if around.follower >= 0:
        back = around.back < secure(r, t, b, around.follower, s)
    if not around.overlaps and not front and not back:
        unlink(t, b, s, t.lane[b, s])
        t.lane[b, s] = lane
        link_in(t, b, s, lane)
        t.keep_right[b, s] = real(0.0)
        t.gain[b, s] = real(0.0)
        t.look[b, s] = real(0.0)
        return True
    if urgent:
        ask(r, t, b, s, around, front, back)
    return False


@wp.func
def consider(r: Road, t: Traffic, b: int, s: int):
    speed = t.speed[b, s]
    if speed > t.look[b, s]:
        t.look[b, s] = speed
    else:
        t.look[b, s] = real(0.9) * t.look[b, s] + real(0.1) * speed
    if not try_side(r, t, b, s, r.lane_right[t.lane[b, s]], RIGHT):
        try_side(r, t, b, s, r.lane_left[t.lane[b, s]], LEFT)


@wp.func
def change_lanes(r: Road, t: Traffic, b: int):
    """One second of lane changes: edge by edge, front vehicle first."""
    for s in range(t.count[b]):
        t.advice[b, s] = NO_ADVICE
    for e in range(r.wide_edge.shape[0]):
        edge = r.wide_edge[e]
        first, end = r.edge_lane[edge], r.edge_lane[edge + 1]
        some = bool(False)
        for lane in range(first, end):
            t.cursor[b, lane] = t.lane_first[b, lane]
            some = some or t.lane_first[b, lane] >= 0
        while some:
            best = int(-1)
            for lane in range(first, end):
                s = t.cursor[b, lane]
                if s >= 0:
                    if best < 0:
                        best = s
                    elif t.position[b, s] > t.position[b, best] or (
                        t.position[b, s] == t.position[b, best] and t.id[b, s] < t.id[b, best]
                    ):
                        best = s
            if best < 0:
                break
            lane = t.lane[b, best]
            t.cursor[b, lane] = t.after[b, best]
            consider(r, t, b, best)
