"""Planning; see `reference.planning` and `reference.keepclear`."""

import warp as wp

from fedsched.envs.intersections.kernels.following import brake_gap, free_speed, speed_after, stop_speed, travel_time
from fedsched.envs.intersections.kernels.junctions import junction_speed
from fedsched.envs.intersections.kernels.lists import rear_of
from fedsched.envs.intersections.kernels.state import (
    ENTRY,
    EXIT,
    ITEMS,
    LINE_MARGIN,
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


@wp.func
def plan(r: Road, t: Traffic, b: int, s: int):
    """Plans one vehicle: its items, its speed behind them, and whether it gives up its right of way."""
    now = real(t.now[b])
    kind = t.kind[b, s]
    accel, decel, size = r.accel[kind], r.decel[kind], r.size[kind]
    v = t.speed[b, s]
    lane = int(t.lane[b, s])
    place = int(t.place[b, s])
    last = t.last[b, s]
    first_lane = t.lane[b, s]
    speed = real(wp.min(wp.min(v + accel, r.fastest[kind]), wp.max(allowed(r, t, b, s, lane), v - decel)))
    horizon = v + accel + brake_gap(v + accel, decel, r.tau[kind])
    brake = brake_gap(v, decel, real(0.0))
    seen = real(r.lane_length[lane] - t.position[b, s])
    inside = real(0.0)
    normal = real(0.0)
    yields = bool(False)
    if r.lane_internal[lane]:
        inside = seen
        kept, gives = junction_speed(r, t, b, s, lane, -t.position[b, s], speed, real(0.0))
        speed = kept
        yields = gives
    else:
        normal = seen
    n = int(0)
    slowed = bool(False)
    going = bool(True)
    while going:
        start = seen - r.lane_length[lane]
        leader, rear = leader_on(r, t, b, s, lane, n == 0)
        if leader >= 0:
            gap = rear + start - r.gap[kind]
            safe = real(0.0)
            if gap >= real(0.0):
                safe = behind(r, t, b, s, leader, gap)
            else:
                safe = before(r, t, b, s, start - LINE_MARGIN)
            if n > 0:
                t.leave_speed[b, s, n - 1] = wp.min(t.leave_speed[b, s, n - 1], safe)
            speed = wp.min(speed, safe)
        if n == ITEMS or (place == last and not r.lane_internal[lane]):
            break
        link = link_from(r, t, b, s, lane, place)
        if link < 0:
            speed = wp.min(speed, before(r, t, b, s, seen))
            break
        entry = r.link_kind[link] == ENTRY
        lights = entry and (is_red(t, b, link) or is_yellow(t, b, link))
        offset = real(LINE_MARGIN)
        if entry and (lights or has_priority(t, b, link)):
            offset = STOP_LINE
        if seen >= brake:
            offset = wp.min(offset, seen - brake)
        offset = wp.max(offset, LINE_MARGIN)
        stopping = wp.min(speed, before(r, t, b, s, seen - offset))
        t.link[b, s, n] = link
        t.stopping[b, s, n] = stopping
        t.distance[b, s, n] = seen
        if lights and seen >= brake:
            t.passing[b, s, n] = stopping
            t.request[b, s, n] = False
            t.leave_speed[b, s, n] = real(0.0)
            speed = stopping
            n += 1
            break
        request = (r.link_kind[link] == EXIT and first_lane == r.link_source[link]) or (
            speed > real(0.0) and not (slowed and entry)
        )
        if n == 0 and yields:
            request = False
        ahead = r.link_next[link]
        if r.lane_internal[ahead]:
            kept_ahead, gives_ahead = junction_speed(r, t, b, s, ahead, seen, speed, stopping)
            speed = kept_ahead
            request = request and not gives_ahead
        arrival_speed = wp.min(speed_after(seen, speed, accel), allowed(r, t, b, s, lane))
        if is_minor(r, t, b, link) and brake < seen and seen > VISIBILITY:
            cap = stop_speed(VISIBILITY, decel, real(0.0))
            arrival_speed = wp.min(arrival_speed, speed_after(VISIBILITY, cap, accel))
            slowed = True
        arrival = now - real(1.0) + travel_time(seen, speed, arrival_speed, accel, decel)
        t.passing[b, s, n] = speed
        t.request[b, s, n] = request
        t.arrival_speed[b, s, n] = arrival_speed
        t.arrival[b, s, n] = arrival
        t.leave_speed[b, s, n] = wp.min(
            allowed(r, t, b, s, ahead), speed_after(r.link_via[link], arrival_speed, accel)
        )
        if seen > brake:
            t.braking_speed[b, s, n] = real(0.0)
            t.arrival_braking[b, s, n] = arrival + real(30.0)
        else:
            braking = wp.sqrt(wp.max(real(0.0), v * v - real(2.0) * decel * seen))
            t.braking_speed[b, s, n] = braking
            t.arrival_braking[b, s, n] = (
                now - real(1.0) + travel_time(seen, v, wp.max(braking, real(0.1)), accel, decel)
            )
        n += 1
        if (not request or speed <= real(0.0) or seen > horizon) and normal > wp.max(
            LOOK_AHEAD * size, size + inside
        ):
            break
        lane = ahead
        speed = wp.min(speed, wp.max(free_speed(seen, allowed(r, t, b, s, lane), decel), v - decel))
        seen += r.lane_length[lane]
        if r.lane_internal[lane]:
            inside += r.lane_length[lane]
        else:
            place += 1
            normal += r.lane_length[lane]
    t.items[b, s] = n
    t.end_speed[b, s] = speed
    t.yields[b, s] = yields
    for i in range(n):
        mean = wp.max(real(0.001), (t.arrival_speed[b, s, i] + t.leave_speed[b, s, i]) * real(0.5))
        t.leave[b, s, i] = t.arrival[b, s, i] + (r.link_via[t.link[b, s, i]] + size) / mean


@wp.func
def room_on(r: Road, t: Traffic, b: int, lane: int):
    """What a lane adds to the free space; whether a vehicle stands there; whether its last one has to wait."""
    used = real(0.0)
    other = int(t.lane_last[b, lane])
    rearmost = other
    internal = r.lane_internal[lane]
    while other >= 0:
        if t.speed[b, other] < STANDING and not internal:
            return rear_of(r, t, b, other) - used, True, True
        used += r.size[t.kind[b, other]] + r.gap[t.kind[b, other]]
        other = t.ahead[b, other]
    if internal:
        return -used, False, False
    if rearmost < 0:
        return r.lane_length[lane], False, False
    return r.lane_length[lane] - used, False, t.hindered[b, rearmost]


@wp.func
def keep_clear(r: Road, t: Traffic, b: int, s: int):
    """Takes back the requests from the first link on behind which there is no room for the vehicle."""
    n = t.items[b, s]
    concerned = bool(False)
    for i in range(n):
        concerned = concerned or r.link_clear[t.link[b, s, i]]
    if concerned:
        kind = t.kind[b, s]
        need = r.size[kind] + r.gap[kind]
        space = real(0.0)
        other = int(t.ahead[b, s])
        while other >= 0:
            space -= r.size[t.kind[b, other]] + r.gap[t.kind[b, other]]
            other = t.ahead[b, other]
        stopped = bool(False)
        for i in range(n):
            t.met[b, i] = stopped
            if not stopped:
                more, stands, waits = room_on(r, t, b, r.link_next[t.link[b, s, i]])
                space += more
                t.met[b, i] = stands
                stopped = stands or waits
            t.space[b, i] = space
        for back in range(1, n):
            i = n - back
            link = t.link[b, s, i]
            passable = r.link_kind[link] != ENTRY or (t.request[b, s, i] and not is_red(t, b, link))
            if passable and not t.met[b, i - 1]:
                t.space[b, i - 1] = t.space[b, i]
        first = int(ITEMS)
        for i in range(n):
            leaving = i == 0 and r.lane_internal[t.lane[b, s]]
            if first == ITEMS and not leaving and r.link_clear[t.link[b, s, i]] and t.space[b, i] < need:
                first = i
        brake = brake_gap(t.speed[b, s], r.decel[kind], real(0.0))
        for i in range(first, n):
            if t.distance[b, s, i] >= brake + real(0.1):
                t.request[b, s, i] = False
                t.passing[b, s, i] = t.stopping[b, s, i]
