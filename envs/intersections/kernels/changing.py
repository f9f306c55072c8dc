"""Lane changes; see `reference.changing`."""

import warp as wp

from fedsched.envs.intersections.kernels.around import (
    Around,
    beside,
    is_close_behind,
    is_open_to,
    leader_beyond,
    look_around,
    look_behind,
    occupied,
    secure,
    secure_at,
)
from fedsched.envs.intersections.kernels.cooperation import HELP_SPEED, advise, drives_free, follow_at, inform
from fedsched.envs.intersections.kernels.following import brake_gap, rounded_up, stop_speed
from fedsched.envs.intersections.kernels.lists import link_in, rear_of, take_rear_along, unlink
from fedsched.envs.intersections.kernels.state import NO_ADVICE, STANDING, Road, Traffic, real
from fedsched.envs.intersections.kernels.ways import allowed, leader_on

RIGHT, LEFT = wp.constant(-1), wp.constant(1)
LOOK_AHEAD_S = wp.constant(real(10.0))
TURN_LANE = wp.constant(real(200.0))
GAIN_LEFT, GAIN_RIGHT, KEEP_RIGHT = wp.constant(real(0.2)), wp.constant(real(2.0)), wp.constant(real(2.0))
KEEP_RIGHT_S, ACCEPTANCE_S = wp.constant(real(5.0)), wp.constant(real(7.0))
LEAST_USE_S = wp.constant(real(20.0))
FAST_ROAD = wp.constant(real(80.0 / 3.6))


@wp.func
def make_room(r: Road, t: Traffic, b: int, s: int, other: int):
    """A slow vehicle leaves room for one that cannot get onto its lane ahead of it."""
    if other < 0 or other == s:
        return
    gap = rear_of(r, t, b, other) - t.vehicle[b, s].position - r.gap[t.vehicle[b, s].kind]
    if gap > real(0.1) and t.vehicle[b, s].speed < r.decel[t.vehicle[b, s].kind]:
        advise(r, t, b, s, follow_at(r, t, b, s, other, gap - real(0.1), t.vehicle[b, other].speed))


@wp.func
def anticipated(
    r: Road, t: Traffic, b: int, s: int, lane: int, leader: int, gap: real, length: real, hurry: bool
) -> real:
    """The speed to expect on a lane; of the next second only while a leader accelerates."""
    k = t.vehicle[b, s].kind
    fastest = allowed(r, t, b, s, lane)
    decel, tau = r.decel[k], r.tau[k]
    if leader < 0:
        safe = wp.min(fastest, stop_speed(length, decel, tau))
        if hurry:
            return wp.min(safe, t.vehicle[b, s].speed + r.accel[k])
        return safe
    if hurry:
        return wp.min(fastest, follow_at(r, t, b, s, leader, gap, t.vehicle[b, leader].speed))
    room = gap + brake_gap(t.vehicle[b, leader].speed, wp.max(decel, r.decel[t.vehicle[b, leader].kind]), real(0.0))
    return wp.min(fastest, stop_speed(room, decel, tau))


@wp.func
def not_on_the_right(r: Road, t: Traffic, b: int, s: int, lane: int, around: Around, here: real):
    """On fast roads a slower vehicle on the left is not overtaken: the own speed left, and the wish to change."""
    other = around.leader
    slower = wp.max(here - allowed(r, t, b, other, lane), t.vehicle[b, s].speed - t.vehicle[b, other].speed)
    if slower <= real(0.0):
        return here, False
    low = t.vehicle[b, s].speed - r.decel[t.vehicle[b, s].kind]
    safe = follow_at(r, t, b, s, other, around.front, t.vehicle[b, other].speed)
    if safe < low:
        safe = wp.max(low, t.vehicle[b, other].speed - HELP_SPEED)
    if t.vehicle[b, s].gain < GAIN_LEFT:
        safe = wp.max(safe, t.vehicle[b, other].speed)
    advise(r, t, b, s, safe)
    if follow_at(r, t, b, s, other, around.front - real(8.0) * slower, t.vehicle[b, other].speed) >= safe:
        return wp.min(here, safe), False
    t.vehicle[b, s].gain = t.vehicle[b, s].gain + slower / wp.max(here, real(10.0))
    return wp.min(here, safe), True


@wp.func
def wish_right(
    r: Road,
    t: Traffic,
    b: int,
    s: int,
    around: Around,
    leader: int,
    gap: real,
    here: real,
    there: real,
    gain: real,
    length: real,
    avoid: bool,
    use: bool,
) -> bool:
    """Whether speed, or the duty to keep right, speaks for the right lane; updates the inclinations."""
    old = t.vehicle[b, s].gain
    if here - real(5.0 / 3.6) > there:
        if old < real(0.0):
            t.vehicle[b, s].gain = old * real(0.5)
        return t.vehicle[b, s].gain < -GAIN_RIGHT and use
    if old < real(0.0) or gain > real(0.0):
        t.vehicle[b, s].gain = old - gain
    k = t.vehicle[b, s].kind
    lane = t.vehicle[b, s].lane
    fastest = allowed(r, t, b, s, lane)
    patience = ACCEPTANCE_S * fastest / r.lane_speed[lane] * wp.max(real(1.0), t.vehicle[b, s].speed)
    free = wp.max(real(0.0), length - brake_gap(fastest, r.decel[k], r.tau[k]))
    seconds = wp.min(patience, free / fastest)
    other = around.leader
    if other >= 0:
        slow = t.vehicle[b, other].speed
        if slow < fastest:
            need = secure_at(r, t, b, s, other, fastest, slow)
            free = wp.max(real(0.0), wp.min(free, around.front - need))
            seconds = wp.min(seconds, free / (fastest - slow))
    if avoid and leader >= 0:
        limit = allowed(r, t, b, leader, t.vehicle[b, leader].lane)
        if limit < fastest:
            seconds = wp.min(seconds, wp.min(free, gap) / (fastest - t.vehicle[b, leader].speed))
            t.vehicle[b, s].gain = t.vehicle[b, s].gain + (fastest - limit) / wp.max(fastest, real(10.0))
    t.vehicle[b, s].keep_right = t.vehicle[b, s].keep_right - KEEP_RIGHT * seconds / patience / KEEP_RIGHT_S
    return t.vehicle[b, s].keep_right < -KEEP_RIGHT or (t.vehicle[b, s].gain < -GAIN_RIGHT and use)


@wp.func
def wish_left(t: Traffic, b: int, s: int, here: real, there: real, gain: real, eager: bool, use: bool) -> bool:
    """Whether speed speaks for the left lane; updates the inclination."""
    old = t.vehicle[b, s].gain
    if here > there:
        if old > real(0.0):
            t.vehicle[b, s].gain = old * real(0.5)
    elif here == there:
        if old > real(0.0):
            t.vehicle[b, s].gain = old * real(0.8)
    else:
        t.vehicle[b, s].gain = old + gain
    return t.vehicle[b, s].gain > GAIN_LEFT and (gain > real(1.0e-6) or eager) and use


@wp.func
def is_full(r: Road, t: Traffic, b: int, s: int, lane: int, left: real, away: real, look: real) -> bool:
    """Whether the vehicles ahead leave too little room of what is left to drive on a lane, to get back from it."""
    room = wp.max(real(0.0), left - occupied(r, t, b, s, lane))
    return room / (away + real(2.0)) < look or (away == real(0.0) and real(2.0) * room < look)


@wp.func
def look_distance(r: Road, t: Traffic, b: int, s: int, side: int) -> real:
    """m that a change to a side may take, by a speed that forgets slowly."""
    look = t.vehicle[b, s].look * LOOK_AHEAD_S
    if side == LEFT:
        look = look * real(2.0)
    kind = t.vehicle[b, s].kind
    return look + real(2.0) * (r.size[kind] + r.gap[kind])


@wp.func
def prepare(r: Road, t: Traffic, b: int, s: int):
    """Room for those who are blocked ahead, and the speed that its own changes reckon with."""
    lane = t.vehicle[b, s].lane
    last = t.last_blocked[b, lane]
    first = t.first_blocked[b, lane]
    make_room(r, t, b, s, last)
    if first != last:
        make_room(r, t, b, s, first)
    speed = t.vehicle[b, s].speed
    if speed > t.vehicle[b, s].look:
        t.vehicle[b, s].look = speed
    else:
        t.vehicle[b, s].look = real(0.9) * t.vehicle[b, s].look + real(0.1) * speed


@wp.func
def may_leave_best(
    r: Road, t: Traffic, b: int, s: int, lane: int, there_length: real, aim: int, away: real, look: real
) -> bool:
    """Whether enough of the way is left to come back from a lane on which the route does not go on as well."""
    left = there_length - t.vehicle[b, s].position
    if left / (away + real(2.0)) < look or (aim == 0 and there_length < TURN_LANE):
        return False
    own_lane = t.vehicle[b, s].lane
    return not (is_full(r, t, b, s, own_lane, left, away, look) or is_full(r, t, b, s, lane, left, away, look))


@wp.func
def leader_ahead(r: Road, t: Traffic, b: int, s: int):
    """Who drives ahead on the own lane or beyond it, and the gap."""
    lane = t.vehicle[b, s].lane
    leader, rear = leader_on(r, t, b, s, lane, True)
    if leader >= 0:
        return leader, rear - t.vehicle[b, s].position - r.gap[t.vehicle[b, s].kind]
    beyond, gap = leader_beyond(r, t, b, s, lane)
    return beyond, gap


@wp.func
def wish(r: Road, t: Traffic, b: int, s: int, lane: int, side: int, around: Around, front: bool):
    """Whether the vehicle wants to change, and whether its route, or a help, urges it."""
    prepare(r, t, b, s)
    own_lane = t.vehicle[b, s].lane
    speed = t.vehicle[b, s].speed
    row = t.vehicle[b, s].way + t.vehicle[b, s].place
    if r.lane_internal[own_lane]:
        row += 1
    own = r.lane_number[own_lane]
    there = own + side
    edge = r.way_edge[row]
    if there < 0 or there >= r.edge_lane[edge + 1] - r.edge_lane[edge]:
        return False, False
    offset = r.way_offset[row, own]
    aim = int(offset)
    if offset == 0 and r.way_offset[row, there] == 0:
        aim = side
    here_length, there_length = r.way_length[row, own], r.way_length[row, there]
    to_best = aim * side > 0
    look = look_distance(r, t, b, s, side)
    away = real(wp.abs(aim))
    if to_best and aim == offset:
        left = here_length - t.vehicle[b, s].position
        if left / away < look or (left - occupied(r, t, b, s, beside(r, own_lane, aim))) / away < look:
            whole = look_behind(r, t, b, s, lane, around)
            inform(r, t, b, s, whole, side, offset, here_length, front, is_close_behind(r, t, b, s, whole))
            return True, True
    here = allowed(r, t, b, s, own_lane)
    eager = bool(False)
    avoid = drives_free(r, t, b, s)
    if avoid and side == LEFT and around.leader >= 0:
        bounded, wants = not_on_the_right(r, t, b, s, lane, around, here)
        here = bounded
        eager = wants
    if not to_best and not may_leave_best(r, t, b, s, lane, there_length, aim, away, look):
        return False, False
    if side == RIGHT and aim == 0 and r.lane_speed[own_lane] > FAST_ROAD and t.vehicle[b, s].look > STANDING:
        return False, False
    leader, gap = leader_ahead(r, t, b, s)
    hurry = bool(False)
    if leader >= 0:
        hurry = t.vehicle[b, leader].acceleration > real(0.0)
    if around.leader >= 0 and not hurry:
        hurry = t.vehicle[b, around.leader].acceleration > real(0.0)
    here = wp.min(here, anticipated(r, t, b, s, own_lane, leader, gap, here_length, hurry))
    faster = anticipated(r, t, b, s, lane, around.leader, around.front, there_length, hurry)
    if t.vehicle[b, s].helps == side and (to_best or there_length / (away + real(1.0)) >= look):
        return True, True
    gain = (faster - here) / wp.max(faster, real(10.0))
    use = there_length / wp.max(real(0.1), speed) > LEAST_USE_S
    wanted = bool(False)
    if side == RIGHT:
        wanted = wish_right(r, t, b, s, around, leader, gap, here, faster, gain, there_length, avoid, use)
    else:
        wanted = wish_left(t, b, s, here, faster, gain, eager, use)
    if not wanted and to_best and aim == offset and gain >= real(0.0):
        if side == RIGHT:
            wanted = t.vehicle[b, s].gain < real(0.0)
        else:
            wanted = t.vehicle[b, s].gain > real(0.0)
    return wanted, False


@wp.func
def try_side(r: Road, t: Traffic, b: int, s: int, lane: int, side: int) -> bool:
    """One side: whether the vehicle has changed."""
    if lane < 0:
        return False
    if not is_open_to(r, t, b, t.vehicle[b, s].kind, lane):
        return False
    around = look_around(r, t, b, s, lane)
    front = bool(False)
    if around.leader >= 0:
        front = around.front < secure(r, t, b, s, around.leader)
    wanted, urgent = wish(r, t, b, s, lane, side, around, front)
    if not wanted:
        return False
    if not front and not is_close_behind(r, t, b, s, look_behind(r, t, b, s, lane, around)):
        t.load_at[b, t.vehicle[b, s].lane] = -1
        t.load_at[b, lane] = -1
        unlink(t, b, s, t.vehicle[b, s].lane)
        t.vehicle[b, s].lane = lane
        link_in(t, b, s, lane)
        take_rear_along(r, t, b, s)
        t.vehicle[b, s].keep_right = real(0.0)
        t.vehicle[b, s].gain = real(0.0)
        t.vehicle[b, s].look = real(0.0)
        t.vehicle[b, s].left_space = real(0.0)
        t.vehicle[b, s].reserved = real(0.0)
        t.vehicle[b, s].wants_side = 0
        t.vehicle[b, s].advice = NO_ADVICE
        t.vehicle[b, s].change_blocked = False
        return True
    if urgent:
        t.vehicle[b, s].wants_side = side
        t.vehicle[b, s].change_blocked = True
        t.last_blocked[b, lane] = s
        if t.first_blocked[b, lane] < 0:
            t.first_blocked[b, lane] = s
    return False


@wp.func
def consider(r: Road, t: Traffic, b: int, s: int):
    t.vehicle[b, s].gain = rounded_up(t.vehicle[b, s].gain)
    t.vehicle[b, s].keep_right = rounded_up(t.vehicle[b, s].keep_right)
    # what it wanted in the second before is known to others until it has decided anew
    wanted = t.vehicle[b, s].wants_side
    t.vehicle[b, s].change_blocked = False
    if not try_side(r, t, b, s, r.lane_right[t.vehicle[b, s].lane], RIGHT):
        if not try_side(r, t, b, s, r.lane_left[t.vehicle[b, s].lane], LEFT):
            if not t.vehicle[b, s].change_blocked and wanted != 0:
                t.vehicle[b, s].wants_side = 0


@wp.func
def change_lanes(r: Road, t: Traffic, b: int):
    """One second of lane changes: edge by edge, front vehicle first."""
    for s in range(t.count[b]):
        t.vehicle[b, s].advice = NO_ADVICE
        t.vehicle[b, s].helps = 0
        t.vehicle[b, s].leads_blocked = False
        t.vehicle[b, s].change_blocked = False
        t.vehicle[b, s].left_space = real(0.0)
        t.vehicle[b, s].reserved = real(0.0)
    for e in range(r.wide_first.shape[0]):
        first, end = r.wide_first[e], r.wide_end[e]
        some = bool(False)
        for lane in range(first, end):
            t.cursor[b, lane] = t.lane_first[b, lane]
            some = some or t.lane_first[b, lane] >= 0
        if some:
            for lane in range(first, end):
                t.first_blocked[b, lane] = -1
                t.last_blocked[b, lane] = -1
        while some:
            best = int(-1)
            for lane in range(first, end):
                s = t.cursor[b, lane]
                if s >= 0:
                    if best < 0:
                        best = s
                    elif t.vehicle[b, s].position > t.vehicle[b, best].position or (
                        t.vehicle[b, s].position == t.vehicle[b, best].position
                        and t.vehicle[b, s].id < t.vehicle[b, best].id
                    ):
                        best = s
            if best < 0:
                break
            lane = t.vehicle[b, best].lane
            t.cursor[b, lane] = t.vehicle[b, best].after
            consider(r, t, b, best)
