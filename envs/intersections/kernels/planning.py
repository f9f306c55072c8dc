"""Planning; see `reference.planning`."""

import warp as wp

from fedsched.envs.intersections.kernels.following import brake_gap, free_speed, speed_after, stop_speed, travel_time
from fedsched.envs.intersections.kernels.junctions import FREE, held, stands
from fedsched.envs.intersections.kernels.lists import rear_of
from fedsched.envs.intersections.kernels.state import (
    FLAG_PLANS,
    ITEMS,
    MARGIN,
    MERGE,
    REARS,
    STANDING,
    STOP_LINE,
    VISIBILITY,
    Road,
    Traffic,
    real,
)
from fedsched.envs.intersections.kernels.ways import (
    allowed,
    before,
    behind,
    has_priority,
    is_minor,
    is_red,
    is_yellow,
    leader_on,
    link_from,
)

LOOK_AHEAD = wp.constant(real(5.0))


@wp.struct
class Look:
    """How far the planning has come along the way; see `reference.planning`."""

    lane: wp.int32
    place: wp.int32
    n: wp.int32
    seen: real
    speed: real
    passing: real


@wp.func
def rear_on_way(r: Road, t: Traffic, b: int, s: int, other: int, lane: int) -> bool:
    """Whether the rear of a vehicle lies on a lane of the own way."""
    offset = rear_of(r, t, b, other)
    back = int(t.vehicle[b, other].lane)
    for k in range(REARS):
        behind_lane = t.behind[b, other, k]
        if behind_lane >= 0 and offset < real(0.0):
            offset += r.lane_length[behind_lane]
            back = behind_lane
    if back == lane or back == t.vehicle[b, s].lane:
        return True
    return r.lane_internal[lane] and back == r.link_source[r.lane_into[lane]]


@wp.func
def behind_leader(r: Road, t: Traffic, b: int, s: int, look: Look) -> Look:
    """The next vehicle ahead on the lane looked at; also what it means for the link before the lane."""
    leader, rear = leader_on(r, t, b, s, look.lane, look.n == 0)
    if leader >= 0:
        at = t.vehicle[b, s].first_item
        start = look.seen - r.lane_length[look.lane]
        gap = rear + start - r.gap[t.vehicle[b, s].kind]
        safe = real(0.0)
        on_way = bool(True)
        last = look.n - 1
        if gap < real(0.0) and last >= 0:
            on_way = rear_on_way(r, t, b, s, leader, look.lane)
        if on_way:
            safe = behind(r, t, b, s, leader, gap, t.vehicle[b, s].speed)
        else:
            source = r.link_source[t.item[b, at + last].link]
            if r.lane_internal[source]:
                start -= r.lane_length[source]
            safe = before(r, t, b, s, start - MARGIN)
        if last >= 0:
            future = t.item[b, at + last].leave_speed
            t.item[b, at + last].leave_speed = wp.min(future, behind(r, t, b, s, leader, gap, future))
            t.item[b, at + last].stopping = wp.min(t.item[b, at + last].stopping, wp.min(look.speed, safe))
        look.speed = wp.min(look.speed, safe)
        look.passing = wp.min(look.passing, safe)
    return look


@wp.func
def hold(t: Traffic, b: int, s: int, look: Look, safe: real) -> Look:
    """Takes over what one vehicle on a conflicting lane leaves."""
    look.speed = wp.min(look.speed, safe)
    look.passing = wp.min(look.passing, safe)
    if look.n > 0:
        last = t.vehicle[b, s].first_item + look.n - 1
        t.item[b, last].leave_speed = wp.min(t.item[b, last].leave_speed, safe)
        look.speed = wp.max(look.speed, t.item[b, last].stopping)
    return look


@wp.func
def among_foes(r: Road, t: Traffic, b: int, s: int, look_in: Look):
    """What vehicles on conflicting lanes leave of the speed on an internal lane; whether the right of way is kept."""
    look = look_in
    lane = look.lane
    keeps = bool(True)
    start = look.seen - r.lane_length[lane]
    for q in range(r.conflict_begin[lane], r.conflict_begin[lane + 1]):
        end = start + r.own_end[q]
        if end >= real(0.0) or r.conflict_kind[q] == MERGE:
            other_lane = r.conflict_lane[q]
            other = int(t.lane_first[b, other_lane])
            while other >= 0:
                if other != s:
                    safe = held(r, t, b, s, other, q, lane, start, rear_of(r, t, b, other))
                    if safe < FREE:
                        look = hold(t, b, s, look, safe)
                        if look.speed < STANDING and keeps:
                            keeps = not stands(r, t, b, s, other)
                other = t.vehicle[b, other].after
            node = int(t.rear_first[b, other_lane])
            while node >= 0:
                sticking = node / REARS
                if sticking != s:
                    left = held(r, t, b, s, sticking, q, lane, start, t.rear_at[b, node])
                    if left < FREE:
                        look = hold(t, b, s, look, left)
                        if look.speed < STANDING and keeps:
                            keeps = not stands(r, t, b, s, sticking)
                node = t.rear_next[b, node]
    return look, keeps


@wp.func
def slows(r: Road, t: Traffic, b: int, link: int, seen: real, brake: real) -> bool:
    return seen > VISIBILITY and brake < seen and is_minor(r, t, b, link)


@wp.func
def plan_link(r: Road, t: Traffic, b: int, s: int, look_in: Look, link: int, slowed: bool, brake: real):
    """The item for one link, and whether the plan ends here."""
    look = look_in
    kind = t.vehicle[b, s].kind
    accel, decel = r.accel[kind], r.decel[kind]
    seen = look.seen
    n = look.n
    at = t.vehicle[b, s].first_item
    lights = is_red(t, b, link) or is_yellow(t, b, link)
    offset = real(MARGIN)
    if lights or has_priority(t, b, link):
        offset = STOP_LINE
    if seen >= brake:
        offset = wp.min(offset, seen - brake)
    offset = wp.max(offset, MARGIN)
    stopping = wp.min(look.speed, before(r, t, b, s, wp.max(real(0.0), seen - offset)))
    t.item[b, at + n].link = link
    t.item[b, at + n].vehicle = s
    t.item[b, at + n].distance = seen
    t.item[b, at + n].passing = look.speed
    t.item[b, at + n].stopping = stopping
    t.item[b, at + n].arrival = real(0.0)
    t.item[b, at + n].arrival_speed = real(0.0)
    t.item[b, at + n].braking_speed = real(0.0)
    t.item[b, at + n].leave_speed = real(0.0)
    t.item[b, at + n].request = False
    look.n = n + 1
    if lights and seen >= brake:
        return look, True
    inside = r.lane_internal[look.lane]
    request = (inside and n == 0) or (look.speed > real(1.0e-6) and not (slowed and not inside))
    if inside:
        look.n = n
        look_after, keeps = among_foes(r, t, b, s, look)
        look = look_after
        look.n = n + 1
        request = request and keeps
        stopping = wp.min(stopping, look.speed)
    if n > 0:
        t.item[b, at + n - 1].leave_speed = wp.min(t.item[b, at + n - 1].leave_speed, allowed(r, t, b, s, look.lane))
    arrival_speed = look.passing
    if slows(r, t, b, link, seen, brake):
        cap = stop_speed(VISIBILITY, decel, real(0.0))
        arrival_speed = wp.min(arrival_speed, speed_after(VISIBILITY, cap, accel))
    t.item[b, at + n].request = request
    t.item[b, at + n].passing = look.speed
    t.item[b, at + n].stopping = stopping
    t.item[b, at + n].arrival_speed = arrival_speed
    t.item[b, at + n].arrival = real(t.now[b] - 1) + travel_time(seen, look.speed, arrival_speed, accel, decel)
    if seen < brake_gap(look.speed, decel, r.tau[kind]):
        t.item[b, at + n].braking_speed = wp.min(speed_after(seen, look.speed, -decel), arrival_speed)
    t.item[b, at + n].leave_speed = wp.min(
        allowed(r, t, b, s, r.link_next[link]), speed_after(r.link_through[link], arrival_speed, accel)
    )
    return look, False


@wp.func
def begin_items(t: Traffic, b: int, s: int) -> int:
    """Where the items of a vehicle begin: behind those of the vehicles before it."""
    at = int(t.planned[b])
    if at + ITEMS > t.item.shape[1]:
        t.flag[b] = t.flag[b] | FLAG_PLANS
        at = int(0)
    t.vehicle[b, s].first_item = at
    return at


@wp.func
def plan(r: Road, t: Traffic, b: int, s: int):
    """Plans one vehicle: its items, and its speed behind them."""
    kind = t.vehicle[b, s].kind
    accel, decel, size = r.accel[kind], r.decel[kind], r.size[kind]
    v = t.vehicle[b, s].speed
    last = t.vehicle[b, s].last
    look = Look()
    look.lane = t.vehicle[b, s].lane
    look.place = t.vehicle[b, s].place
    look.seen = r.lane_length[look.lane] - t.vehicle[b, s].position
    limit = allowed(r, t, b, s, look.lane)
    look.speed = wp.min(wp.min(v + accel, r.fastest[kind]), wp.max(limit, v - decel))
    look.passing = wp.min(speed_after(look.seen, look.speed, accel), limit)
    horizon = v + accel + brake_gap(v + accel, decel, r.tau[kind])
    brake = brake_gap(v, decel, real(0.0))
    inside = real(0.0)
    normal = real(0.0)
    if r.lane_internal[look.lane]:
        inside = look.seen
    else:
        normal = look.seen
    slowed = bool(False)
    ends = bool(False)
    at = begin_items(t, b, s)
    while True:
        look = behind_leader(r, t, b, s, look)
        if look.n == ITEMS or (look.place == last and not r.lane_internal[look.lane]):
            ends = True
            break
        link = link_from(r, t, b, s, look.lane, look.place)
        if link < 0:
            safe = before(r, t, b, s, look.seen)
            if look.n > 0:
                t.item[b, at + look.n - 1].leave_speed = wp.min(t.item[b, at + look.n - 1].leave_speed, safe)
            look.speed = wp.min(look.speed, safe)
            ends = True
            break
        look_after, closed = plan_link(r, t, b, s, look, link, slowed, brake)
        look = look_after
        if closed:
            break
        slowed = slowed or slows(r, t, b, link, look.seen, brake)
        done = not t.item[b, at + look.n - 1].request or look.speed <= real(0.0) or look.seen > horizon
        if done and normal > wp.max(LOOK_AHEAD * size, size + inside):
            break
        look.lane = r.link_next[link]
        length = r.lane_length[look.lane]
        limit_after = allowed(r, t, b, s, look.lane)
        look.speed = wp.min(look.speed, wp.max(wp.max(free_speed(look.seen, limit_after, decel), v - decel), real(0.0)))
        look.seen = look.seen + length
        look.passing = wp.min(speed_after(length, look.speed, accel), limit_after)
        if r.lane_internal[look.lane]:
            inside += length
        else:
            look.place = look.place + 1
            normal += length
    t.vehicle[b, s].items = look.n
    t.planned[b] = at + look.n
    t.vehicle[b, s].end_speed = look.speed
    t.vehicle[b, s].ends = ends
    for i in range(look.n):
        mean = wp.max(real(0.001), (t.item[b, at + i].arrival_speed + t.item[b, at + i].leave_speed) * real(0.5))
        t.item[b, at + i].leave = t.item[b, at + i].arrival + (r.link_through[t.item[b, at + i].link] + size) / mean
