"""Deciding and moving; see `reference.moving`."""

import warp as wp

from fedsched.envs.intersections.kernels.draws import DAWDLE, uniform
from fedsched.envs.intersections.kernels.following import brake_gap, stop_speed
from fedsched.envs.intersections.kernels.gates import pass_gate
from fedsched.envs.intersections.kernels.junctions import is_open
from fedsched.envs.intersections.kernels.lists import clear_rears, is_ahead, link_in, list_rears, move_slot, unlink
from fedsched.envs.intersections.kernels.state import (
    ARRIVED,
    ENTRY,
    EXIT,
    ITEMS,
    NEVER,
    NO_ADVICE,
    REARS,
    STANDING,
    VISIBILITY,
    Road,
    Traffic,
    real,
)
from fedsched.envs.intersections.kernels.ways import allowed, is_minor, is_yellow


@wp.func
def list_approaches(t: Traffic, b: int):
    """Notes for every link who wants to pass it in this second."""
    for s in range(t.count[b]):
        for i in range(t.items[b, s]):
            if t.request[b, s, i]:
                link = t.link[b, s, i]
                node = s * ITEMS + i
                t.approach_next[b, node] = t.approach_first[b, link]
                t.approach_first[b, link] = node


@wp.func
def clear_approaches(t: Traffic, b: int):
    for s in range(t.count[b]):
        for i in range(t.items[b, s]):
            t.approach_first[b, t.link[b, s, i]] = -1


@wp.func
def for_changes(r: Road, t: Traffic, b: int, s: int, low_in: real, wanted: real, high_in: real) -> real:
    """The speed that lane changes, the own and others', make of the wanted one."""
    low = real(low_in)
    high = real(high_in)
    speed = real(wanted)
    asked = bool(False)
    kind = t.kind[b, s]
    v = t.speed[b, s]
    if t.reserved[b, s] > real(0.0):
        space = t.left_space[b, s] - t.reserved[b, s] - real(1.0) - r.gap[kind]
        if space > real(0.0):
            safe = wp.min(stop_speed(space, r.decel[kind], real(1.0)), v + r.accel[kind])
            hardest = wp.max(real(0.0), v - r.emergency[kind])
            high = wp.min(high, wp.max(safe, hardest))
            if safe < wanted:
                if hardest <= safe and safe < low:
                    low = wp.max(hardest, safe)
                speed = wp.max(low, safe)
                asked = True
    advice = t.advice[b, s]
    if advice < NO_ADVICE and low <= advice and advice <= high:
        speed = wp.min(speed, advice)
        asked = True
    if not asked:
        if t.change_blocked[b, s] or t.leads_blocked[b, s]:
            speed = (high + wanted) * real(0.5)
        elif r.lane_single[t.lane[b, s]]:
            t.gain[b, s] = real(0.0)
            t.keep_right[b, s] = real(0.0)
            t.look[b, s] = real(0.0)
    return speed


@wp.func
def decide(r: Road, t: Traffic, b: int, s: int) -> real:
    """The speed of this second: links in order until one is closed, then limits, dawdling and advice."""
    kind = t.kind[b, s]
    accel, decel = r.accel[kind], r.decel[kind]
    v = t.speed[b, s]
    brake = brake_gap(v, decel, real(0.0))
    bound = real(t.end_speed[b, s])
    least = real(0.0)
    line = real(0.0)
    least_can_stop = bool(False)
    hindered = bool(False)
    stopped = bool(False)
    t.gives_up[b, s] = False
    for i in range(t.items[b, s]):
        link = t.link[b, s, i]
        distance = t.distance[b, s, i]
        can_stop = distance > brake or v < decel
        yellow = is_yellow(t, b, link)
        if not t.request[b, s, i]:
            t.gives_up[b, s] = r.lane_internal[t.lane[b, s]] and r.lane_internal[r.link_source[link]]
            bound = t.stopping[b, s, i]
            hindered = hindered or bound < v or bound < STANDING
            stopped = True
            break
        opened = bool(yellow and not can_stop)
        if not yellow:
            opened = is_open(r, t, b, s, i, can_stop)
        stop = bool(yellow and can_stop)
        if opened and is_minor(r, t, b, link) and not r.link_cont[link]:
            if distance > VISIBILITY and (can_stop or not yellow):
                stop = True
            else:
                least = wp.min(wp.min(distance + real(0.1), t.passing[b, s, i]), v + accel)
                line = distance
                least_can_stop = can_stop
        if not opened and not stop:
            too_fast = not can_stop and r.link_signal[link] < 0
            stop = not (too_fast and distance < brake_gap(v, r.emergency[kind], real(0.0)))
        if stop:
            bound = t.stopping[b, s, i]
            hindered = True
            stopped = True
            break
        bound = t.passing[b, s, i]
        if opened and bound < decel and bound <= t.stopping[b, s, i] and bound < v + accel:
            hindered = True
    if not stopped:
        bound = t.end_speed[b, s]
    if bound + real(1.0e-3) < least:
        if least_can_stop and bound < v:
            bound = wp.min(bound, wp.max(v - decel, stop_speed(line, decel, real(1.0))))
            least = real(0.0)
            hindered = True
        else:
            least = bound
    t.hindered[b, s] = hindered
    low = wp.min(wp.max(v - decel, real(0.0)), wp.max(bound, wp.max(v - r.emergency[kind], real(0.0))))
    top = wp.max(allowed(r, t, b, s, t.lane[b, s]), bound)
    high = wp.max(low, wp.min(wp.min(top, bound), v + accel))
    slack = r.sigma[kind] * uniform(t.seed[b], DAWDLE, t.id[b, s], t.now[b])
    speed = high - slack * accel
    if high < accel:
        speed = high * (real(1.0) - slack)
    speed = wp.max(low, speed)
    speed = for_changes(r, t, b, s, low, speed, high)
    if least > real(0.0):
        speed = wp.max(speed, wp.min(least, high))
    if speed < real(1.0e-4):
        speed = real(0.0)
    return speed


@wp.func
def advance(r: Road, t: Traffic, b: int, s: int) -> bool:
    """Takes a vehicle along its way, lists untouched; returns whether it has arrived."""
    now = t.now[b]
    lane = int(t.lane[b, s])
    speed = t.next_speed[b, s]
    position = real(t.position[b, s] + speed)
    t.acceleration[b, s] = speed - t.speed[b, s]
    t.speed[b, s] = speed
    if speed <= STANDING:
        if t.waiting[b, s] == 0:
            t.stops[b, s] = t.stops[b, s] + 1
        t.waiting[b, s] = t.waiting[b, s] + 1
        t.total_waiting[b, s] = t.total_waiting[b, s] + 1
    else:
        t.waiting[b, s] = 0
    if t.gives_up[b, s]:
        t.junction_entry[b, s] = NEVER
        t.conflict_entry[b, s] = NEVER
    i = int(0)
    arrived = bool(False)
    while True:
        length = r.lane_length[lane]
        if not r.lane_internal[lane] and t.place[b, s] == t.last[b, s]:
            arrived = position > length - ARRIVED
            break
        if position <= length + real(1.0e-6):
            break
        if i >= t.items[b, s]:
            position = length
            break
        link = t.link[b, s, i]
        pass_gate(r, t, b, link)
        i += 1
        position -= length
        for k in range(REARS - 1):
            t.behind[b, s, REARS - 1 - k] = t.behind[b, s, REARS - 2 - k]
        t.behind[b, s, 0] = lane
        lane = r.link_next[link]
        if not r.lane_internal[lane]:
            t.place[b, s] = t.place[b, s] + 1
            t.first_entry[b, s] = NEVER
            t.junction_entry[b, s] = NEVER
            t.conflict_entry[b, s] = NEVER
        else:
            if r.link_kind[link] == ENTRY:
                t.junction_entry[b, s] = now
                t.first_entry[b, s] = now
            if r.link_kind[r.lane_link[lane]] == EXIT:
                t.conflict_entry[b, s] = now
    t.position[b, s] = position
    t.wants[b, s] = False
    if i < t.items[b, s]:
        t.wants[b, s] = t.request[b, s, i]
    t.next_lane[b, s] = lane
    own = allowed(r, t, b, s, lane)
    t.time_loss[b, s] = t.time_loss[b, s] + (own - speed) / own
    return arrived


@wp.func
def arrive(t: Traffic, b: int, s: int):
    """Notes an ended trip and gives its slot to the last vehicle."""
    trip = t.id[b, s]
    t.trip_arrived[b, trip] = t.now[b]
    t.trip_loss[b, trip] = wp.float32(t.time_loss[b, s])
    t.trip_waiting[b, trip] = t.total_waiting[b, s]
    t.trip_stops[b, trip] = t.stops[b, s]
    t.arrived[b] = t.arrived[b] + 1
    last = t.count[b] - 1
    t.count[b] = last
    if last != s:
        move_slot(t, b, last, s)


@wp.func
def move(r: Road, t: Traffic, b: int):
    """Everyone decides from the plans, then everyone moves; lists follow."""
    clear_rears(t, b)
    for s in range(t.count[b]):
        t.next_speed[b, s] = decide(r, t, b, s)
    clear_approaches(t, b)
    for s in range(t.count[b]):
        t.gone[b, s] = advance(r, t, b, s)
    for s in range(t.count[b]):
        if t.gone[b, s] or t.next_lane[b, s] != t.lane[b, s]:
            unlink(t, b, s, t.lane[b, s])
    for s in range(t.count[b]):
        lane = t.next_lane[b, s]
        if not t.gone[b, s] and lane != t.lane[b, s]:
            t.lane[b, s] = lane
            link_in(t, b, s, lane)
    for s in range(t.count[b]):
        other = t.ahead[b, s]
        if not t.gone[b, s] and other >= 0:
            if is_ahead(t, b, s, other):
                unlink(t, b, s, t.lane[b, s])
                link_in(t, b, s, t.lane[b, s])
    n = t.count[b]
    for back in range(n):
        s = n - 1 - back
        if t.gone[b, s]:
            arrive(t, b, s)
    list_rears(r, t, b)
