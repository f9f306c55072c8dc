"""Insertion; see `reference.inserting`."""

import warp as wp

from fedsched.envs.intersections.kernels.around import follower_beyond, may_use, secure
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
def depart_lane(r: Road, t: Traffic, b: int, s: int, wanted: int) -> int:
    """The lane that is tried; by default the emptiest of those that need no change."""
    row = t.way[b, s]
    edge = r.way_edge[row]
    first, end = r.edge_lane[edge], r.edge_lane[edge + 1]
    if wanted >= 0:
        return first + wanted
    best = int(-1)
    most = real(-1.0)
    fallback = int(-1)
    for lane in range(first, end):
        if may_use(r, t, b, s, lane):
            if fallback < 0:
                fallback = lane
            if r.way_offset[row, r.lane_index[lane]] == 0 and wanted != -2:
                room = real(1.0e9)
                if t.lane_last[b, lane] >= 0:
                    room = t.position[b, t.lane_last[b, lane]]
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
    while ahead >= 0 and t.position[b, ahead] < t.position[b, s]:
        behind = ahead
        ahead = t.ahead[b, ahead]
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
    kind = t.kind[b, s]
    speed = real(t.speed[b, s])
    lane = int(t.lane[b, s])
    place = int(0)
    decel, tau = r.decel[kind], r.tau[kind]
    reach = brake_gap(speed, decel, tau) + r.gap[kind]
    seen = real(r.lane_length[lane] - t.position[b, s])
    behind = int(-1)
    while True:
        leader, rear = leader_on(r, t, b, s, lane, False)
        if lane == t.lane[b, s] and place == 0:
            ahead, ahead_rear, after = around_place(r, t, b, s, lane)
            leader = ahead
            rear = ahead_rear
            behind = after
        if leader >= 0:
            gap = rear + seen - r.lane_length[lane] - r.gap[kind]
            if gap < real(0.0):
                return False
            room = gap + brake_gap(t.speed[b, leader], wp.max(decel, r.decel[t.kind[b, leader]]), real(0.0))
            if stop_speed(room, decel, tau) < speed:
                return False
        if seen > reach or (not r.lane_internal[lane] and place == t.last[b, s]):
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
    t.speed[b, s] = speed
    follower = int(behind)
    back = real(0.0)
    if follower >= 0:
        back = rear_of(r, t, b, s) - t.position[b, follower] - r.gap[t.kind[b, follower]]
    else:
        beyond, beyond_gap = follower_beyond(r, t, b, s, t.lane[b, s])
        follower = beyond
        back = beyond_gap
    if follower >= 0:
        if back < wp.max(real(0.0), secure(r, t, b, follower, s)):
            return False
    return True


@wp.func
def prepare(r: Road, t: Traffic, b: int, s: int, trip: int):
    """Fills a free slot with a vehicle that is not on the road yet."""
    row = t.first_trip[b] + trip
    kind = r.trip_type[row]
    t.id[b, s] = trip
    t.kind[b, s] = kind
    t.way[b, s] = r.trip_way[row]
    t.last[b, s] = r.trip_last[row]
    t.place[b, s] = 0
    t.factor[b, s] = speed_factor(
        t.seed[b], trip, r.factor_mean[kind], r.factor_deviation[kind], r.factor_low[kind], r.factor_high[kind]
    )
    for i in range(REARS):
        t.behind[b, s, i] = -1
    t.junction_entry[b, s] = NEVER
    t.conflict_entry[b, s] = NEVER
    t.first_entry[b, s] = NEVER
    t.waiting[b, s] = 0
    t.hindered[b, s] = False
    t.wants[b, s] = False
    t.look[b, s] = real(0.0)
    t.keep_right[b, s] = real(0.0)
    t.gain[b, s] = real(0.0)
    t.advice[b, s] = NO_ADVICE
    t.acceleration[b, s] = real(0.0)
    t.helps[b, s] = 0
    t.leads_blocked[b, s] = False
    t.change_blocked[b, s] = False
    t.wants_side[b, s] = 0
    t.left_space[b, s] = real(0.0)
    t.reserved[b, s] = real(0.0)
    t.total_waiting[b, s] = 0
    t.time_loss[b, s] = real(0.0)
    t.stops[b, s] = 0
    t.items[b, s] = 0


@wp.func
def try_insert(r: Road, t: Traffic, b: int, trip: int) -> bool:
    """Tries one trip; a failure closes its lane for this second."""
    s = t.count[b]
    if s >= t.id.shape[1]:
        t.flag[b] = t.flag[b] | FLAG_FULL
        return False
    prepare(r, t, b, s, trip)
    row = t.first_trip[b] + trip
    lane = depart_lane(r, t, b, s, r.trip_lane[row])
    now = t.now[b]
    if t.failed[b, lane] == now:
        return False
    kind = t.kind[b, s]
    t.lane[b, s] = lane
    t.position[b, s] = wp.min(r.size[kind] + MARGIN, r.lane_length[lane])
    mean = real(r.lane_speed[lane])
    other = int(t.lane_first[b, lane])
    if other >= 0:
        total = real(0.0)
        n = int(0)
        while other >= 0:
            total += t.speed[b, other]
            n += 1
            other = t.after[b, other]
        mean = total / real(n)
    if r.trip_speed[row] >= real(0.0):
        mean = r.trip_speed[row]
    speed = wp.min(allowed(r, t, b, s, lane), mean)
    t.speed[b, s] = speed
    safe = bool(False)
    rule = r.trip_position[row]
    if rule >= real(0.0):
        t.position[b, s] = wp.min(rule, r.lane_length[lane])
        safe = is_safe(r, t, b, s)
    elif rule == real(-1.0):
        safe = is_safe(r, t, b, s)
    else:
        tries = int(RANDOM_TRIES)
        if rule == real(-3.0):
            tries = int(1)
        base = t.position[b, s]
        for k in range(tries):
            if not safe:
                t.position[b, s] = uniform(t.seed[b], PLACE, trip, now * RANDOM_TRIES + k) * r.lane_length[lane]
                t.speed[b, s] = speed
                safe = is_safe(r, t, b, s)
        if not safe and tries > 1:
            t.position[b, s] = base
            t.speed[b, s] = speed
            safe = is_safe(r, t, b, s)
    if not safe:
        t.failed[b, lane] = now
        return False
    t.inserted[b, s] = now
    t.trip_inserted[b, trip] = now
    t.count[b] = s + 1
    link_in(t, b, s, lane)
    return True


@wp.func
def insert(r: Road, t: Traffic, b: int):
    """Everyone who wants to depart and has not yet, in order."""
    now = t.now[b]
    kept = int(0)
    for i in range(t.pending_count[b]):
        trip = t.pending[b, i]
        if not try_insert(r, t, b, trip):
            t.pending[b, kept] = trip
            kept += 1
    going = bool(True)
    while going:
        trip = t.departed[b]
        going = False
        if trip < t.trips[b]:
            if r.trip_depart[t.first_trip[b] + trip] <= now:
                going = True
                t.departed[b] = trip + 1
                if not try_insert(r, t, b, trip):
                    t.pending[b, kept] = trip
                    kept += 1
    t.pending_count[b] = kept
