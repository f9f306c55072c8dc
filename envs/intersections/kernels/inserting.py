"""Insertion; see `reference.inserting`."""

import warp as wp

from fedsched.envs.intersections.kernels.around import follower_beyond, is_open_to, secure
from fedsched.envs.intersections.kernels.draws import PLACE, speed_factor, uniform
from fedsched.envs.intersections.kernels.following import brake_gap, free_speed, stop_speed
from fedsched.envs.intersections.kernels.lists import link_in, rear_of
from fedsched.envs.intersections.kernels.state import (
    FLAG_FULL,
    NEVER,
    NO_ADVICE,
    REARS,
    Road,
    Traffic,
    real,
)
from fedsched.envs.intersections.kernels.ways import allowed, is_minor, is_red, is_yellow, leader_on, link_from

MARGIN = wp.constant(real(0.1))
RANDOM_TRIES = wp.constant(10)


@wp.func
def depart_lane(r: Road, t: Traffic, b: int, row: int, kind: int, wanted: int) -> int:
    """The lane that is tried, by default the emptiest of those that need no change; -1 where none is open."""
    edge = r.way_edge[row]
    first, end = r.edge_lane[edge], r.edge_lane[edge + 1]
    if wanted >= 0:
        if is_open_to(r, t, b, kind, first + wanted):
            return first + wanted
        return -1
    best = int(-1)
    most = real(-1.0)
    fallback = int(-1)
    for lane in range(first, end):
        if is_open_to(r, t, b, kind, lane):
            if fallback < 0:
                fallback = lane
            if r.way_offset[row, r.lane_index[lane]] == 0 and wanted != -2:
                room = real(1.0e9)
                if t.lane_last[b, lane] >= 0:
                    room = t.vehicle[b, t.lane_last[b, lane]].position
                if room > most:
                    best = lane
                    most = room
    if best < 0:
        return fallback
    return best


@wp.func
def around_place(r: Road, t: Traffic, b: int, s: int, lane: int):
    """Of a vehicle that is not on the lane yet: who would be ahead, where that one's rear is, who would be behind."""
    behind = int(-1)
    ahead = int(t.lane_last[b, lane])
    while ahead >= 0 and t.vehicle[b, ahead].position < t.vehicle[b, s].position:
        behind = ahead
        ahead = t.vehicle[b, ahead].ahead
    rear = real(0.0)
    if ahead >= 0:
        rear = rear_of(r, t, b, ahead)
    node = int(t.rear_first[b, lane])
    while node >= 0:
        if ahead < 0 or t.rear_at[b, node] < rear:
            ahead = node / REARS
            rear = t.rear_at[b, node]
        node = t.rear_next[b, node]
    return ahead, rear, behind


@wp.func
def is_safe(r: Road, t: Traffic, b: int, s: int) -> bool:
    """Whether it may enter with its speed, which is lowered where a closed link is near."""
    kind = t.vehicle[b, s].kind
    speed = real(t.vehicle[b, s].speed)
    lane = int(t.vehicle[b, s].lane)
    place = int(0)
    decel, tau = r.decel[kind], r.tau[kind]
    reach = brake_gap(speed, decel, tau) + r.gap[kind]
    seen = real(r.lane_length[lane] - t.vehicle[b, s].position)
    behind = int(-1)
    while True:
        leader, rear = leader_on(r, t, b, s, lane, False)
        if lane == t.vehicle[b, s].lane and place == 0:
            ahead, ahead_rear, after = around_place(r, t, b, s, lane)
            leader = ahead
            rear = ahead_rear
            behind = after
        if leader >= 0:
            gap = rear + seen - r.lane_length[lane] - r.gap[kind]
            if gap < real(0.0):
                return False
            room = gap + brake_gap(
                t.vehicle[b, leader].speed, wp.max(decel, r.decel[t.vehicle[b, leader].kind]), real(0.0)
            )
            if stop_speed(room, decel, tau) < speed:
                return False
        if seen > reach or (not r.lane_internal[lane] and place == t.vehicle[b, s].last):
            break
        link = link_from(r, t, b, s, lane, place)
        closed = link < 0
        if not closed:
            closed = is_red(t, b, link) or is_yellow(t, b, link) or is_minor(r, t, b, link)
        if closed:
            speed = wp.min(speed, stop_speed(seen, decel, real(1.0)))
            break
        lane = r.link_next[link]
        speed = wp.min(speed, free_speed(seen, allowed(r, t, b, s, lane), decel))
        if not r.lane_internal[lane]:
            place += 1
        seen += r.lane_length[lane]
    t.vehicle[b, s].speed = speed
    follower = int(behind)
    back = real(0.0)
    if follower >= 0:
        back = rear_of(r, t, b, s) - t.vehicle[b, follower].position - r.gap[t.vehicle[b, follower].kind]
    else:
        beyond, beyond_gap = follower_beyond(r, t, b, s, t.vehicle[b, s].lane)
        follower = beyond
        back = beyond_gap
    if follower >= 0:
        if back < wp.max(real(0.0), secure(r, t, b, follower, s)):
            return False
    return True


@wp.func
def prepare(r: Road, t: Traffic, b: int, s: int, trip: int):
    """Fills what is read of a vehicle before it is on the road."""
    row = t.first_trip[b] + trip
    kind = r.trip_type[row]
    t.vehicle[b, s].id = trip
    t.vehicle[b, s].last = r.trip_last[row]
    t.vehicle[b, s].place = 0
    t.vehicle[b, s].factor = speed_factor(
        t.seed[b], trip, r.factor_mean[kind], r.factor_deviation[kind], r.factor_low[kind], r.factor_high[kind]
    )
    t.vehicle[b, s].acceleration = real(0.0)


@wp.func
def enter(t: Traffic, b: int, s: int):
    """Puts a vehicle on the road."""
    for i in range(REARS):
        t.behind[b, s, i] = -1
    t.vehicle[b, s].junction_entry = NEVER
    t.vehicle[b, s].conflict_entry = NEVER
    t.vehicle[b, s].first_entry = NEVER
    t.vehicle[b, s].waiting = 0
    t.vehicle[b, s].hindered = False
    t.vehicle[b, s].wants = False
    t.vehicle[b, s].look = real(0.0)
    t.vehicle[b, s].keep_right = real(0.0)
    t.vehicle[b, s].gain = real(0.0)
    t.vehicle[b, s].advice = NO_ADVICE
    t.vehicle[b, s].helps = 0
    t.vehicle[b, s].leads_blocked = False
    t.vehicle[b, s].change_blocked = False
    t.vehicle[b, s].wants_side = 0
    t.vehicle[b, s].left_space = real(0.0)
    t.vehicle[b, s].reserved = real(0.0)
    t.vehicle[b, s].total_waiting = 0
    t.vehicle[b, s].time_loss = real(0.0)
    t.vehicle[b, s].stops = 0
    t.vehicle[b, s].items = 0
    now = t.now[b]
    t.vehicle[b, s].inserted = now
    t.trip_inserted[b, t.vehicle[b, s].id] = now
    t.count[b] = s + 1
    t.most[b] = wp.max(t.most[b], s + 1)
    link_in(t, b, s, t.vehicle[b, s].lane)


@wp.func
def depart_speed(r: Road, t: Traffic, b: int, s: int, wanted: real) -> real:
    """The wanted speed, by default the mean of the lane, within the limit."""
    lane = t.vehicle[b, s].lane
    speed = real(wanted)
    if wanted < real(0.0):
        speed = r.lane_speed[lane]
        other = int(t.lane_first[b, lane])
        if other >= 0:
            total = real(0.0)
            n = int(0)
            while other >= 0:
                total += t.vehicle[b, other].speed
                n += 1
                other = t.vehicle[b, other].after
            speed = total / real(n)
    return wp.min(allowed(r, t, b, s, lane), speed)


@wp.func
def has_room(r: Road, t: Traffic, b: int, s: int) -> bool:
    """Whether there is any room at its place: what fails most often, before all else is looked at."""
    lane = t.vehicle[b, s].lane
    seen = r.lane_length[lane] - t.vehicle[b, s].position
    ahead, rear, _ = around_place(r, t, b, s, lane)
    return ahead < 0 or rear + seen - r.lane_length[lane] - r.gap[t.vehicle[b, s].kind] >= real(0.0)


@wp.func
def is_safe_anywhere(r: Road, t: Traffic, b: int, s: int, trip: int, rule: real) -> bool:
    """Tries the places that the rule for departures allows."""
    lane = t.vehicle[b, s].lane
    base = t.vehicle[b, s].position
    speed = t.vehicle[b, s].speed  # one by one: what a tuple takes from an array is read again at every use
    tries = int(0)
    if rule == real(-2.0):
        tries = RANDOM_TRIES
    elif rule == real(-3.0):
        tries = 1
    for k in range(tries):
        draw = uniform(t.seed[b], PLACE, trip, t.now[b] * RANDOM_TRIES + k)
        t.vehicle[b, s].position = draw * r.lane_length[lane]
        t.vehicle[b, s].speed = speed
        if is_safe(r, t, b, s):
            return True
    t.vehicle[b, s].position = base
    t.vehicle[b, s].speed = speed
    return tries != 1 and is_safe(r, t, b, s)


@wp.func
def fail(r: Road, t: Traffic, b: int, edge: int, lane: int):
    """Closes a lane for this second, and the edge with its last lane."""
    t.failed[b, lane] = t.now[b]
    closed = bool(True)
    for other in range(r.edge_lane[edge], r.edge_lane[edge + 1]):
        closed = closed and t.failed[b, other] == t.now[b]
    if closed:
        t.edge_failed[b, edge] = t.now[b]


@wp.func
def try_insert(r: Road, t: Traffic, b: int, trip: int) -> bool:
    """Tries one trip; a failure closes its lane for this second."""
    row = t.first_trip[b] + trip
    kind, way = r.trip_type[row], r.trip_way[row] + t.open_ways[b]
    edge = r.way_edge[way]
    if t.edge_failed[b, edge] == t.now[b]:
        return False
    lane = depart_lane(r, t, b, way, kind, r.trip_lane[row])
    if lane < 0:
        return False
    if t.failed[b, lane] == t.now[b]:
        return False
    s = t.count[b]
    if s >= t.vehicle.shape[1]:
        t.flag[b] = t.flag[b] | FLAG_FULL
        return False
    t.vehicle[b, s].kind = kind
    t.vehicle[b, s].way = way
    t.vehicle[b, s].lane = lane
    rule = r.trip_position[row]
    at = r.size[kind] + MARGIN
    if rule >= real(0.0):
        at = rule
    t.vehicle[b, s].position = wp.min(at, r.lane_length[lane])
    safe = rule < real(-1.0) or has_room(r, t, b, s)
    if safe:
        prepare(r, t, b, s, trip)
        t.vehicle[b, s].speed = depart_speed(r, t, b, s, r.trip_speed[row])
        safe = is_safe_anywhere(r, t, b, s, trip, rule)
    if not safe:
        fail(r, t, b, edge, lane)
        return False
    enter(t, b, s)
    return True


@wp.func
def insert(r: Road, t: Traffic, b: int):
    """Everyone who wants to depart and has not yet, in order."""
    now = t.now[b]
    waiting = t.pending_count[b]
    kept = int(0)
    i = int(0)
    going = bool(True)
    while going:
        trip = int(0)
        if i < waiting:
            trip = t.pending[b, i]
        else:
            trip = t.departed[b]
            going = trip < t.trips[b]
            if going:
                going = r.trip_depart[t.first_trip[b] + trip] <= now
            if going:
                t.departed[b] = trip + 1
        i += 1
        if going:
            if not try_insert(r, t, b, trip):
                t.pending[b, kept] = trip
                kept += 1
    t.pending_count[b] = kept
