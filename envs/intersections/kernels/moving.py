"""Deciding and moving; see `reference.moving`."""

import warp as wp

from fedsched.envs.intersections.kernels.draws import DAWDLE, uniform
from fedsched.envs.intersections.kernels.following import brake_gap, stop_speed
from fedsched.envs.intersections.kernels.gates import lose, pass_gate
from fedsched.envs.intersections.kernels.junctions import is_open
from fedsched.envs.intersections.kernels.lists import clear_rears, is_ahead, link_in, move_slot, unlink
from fedsched.envs.intersections.kernels.state import (
    ARRIVED,
    ENTRY,
    EXIT,
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
def count_standing(t: Traffic, b: int, s: int, speed: real):
    """Seconds of standing, in a row and in all, and how often it came to stand."""
    if speed <= STANDING:
        if t.vehicle[b, s].waiting == 0:
            t.vehicle[b, s].stops = t.vehicle[b, s].stops + 1
        t.vehicle[b, s].waiting = t.vehicle[b, s].waiting + 1
        t.vehicle[b, s].total_waiting = t.vehicle[b, s].total_waiting + 1
    else:
        t.vehicle[b, s].waiting = 0


@wp.func
def list_approaches(t: Traffic, b: int):
    """Notes for every link who wants to pass it in this second."""
    for node in range(t.planned[b]):
        if t.item[b, node].request:
            link = t.item[b, node].link
            t.item[b, node].next = t.approach_first[b, link]
            t.approach_first[b, link] = node


@wp.func
def clear_approaches(t: Traffic, b: int):
    for node in range(t.planned[b]):
        t.approach_first[b, t.item[b, node].link] = -1
    t.planned[b] = 0


@wp.func
def for_changes(r: Road, t: Traffic, b: int, s: int, low_in: real, wanted: real, high_in: real) -> real:
    """The speed that lane changes, the own and others', make of the wanted one."""
    low = real(low_in)
    high = real(high_in)
    speed = real(wanted)
    asked = bool(False)
    kind = t.vehicle[b, s].kind
    v = t.vehicle[b, s].speed
    if t.vehicle[b, s].reserved > real(0.0):
        space = t.vehicle[b, s].left_space - t.vehicle[b, s].reserved - real(1.0) - r.gap[kind]
        if space > real(0.0):
            safe = wp.min(stop_speed(space, r.decel[kind], real(1.0)), v + r.accel[kind])
            hardest = wp.max(real(0.0), v - r.emergency[kind])
            high = wp.min(high, wp.max(safe, hardest))
            if safe < wanted:
                if hardest <= safe and safe < low:
                    low = wp.max(hardest, safe)
                speed = wp.max(low, safe)
                asked = True
    advice = t.vehicle[b, s].advice
    if advice < NO_ADVICE and low <= advice and advice <= high:
        speed = wp.min(speed, advice)
        asked = True
    if not asked:
        if t.vehicle[b, s].change_blocked or t.vehicle[b, s].leads_blocked:
            speed = (high + wanted) * real(0.5)
        elif r.lane_single[t.vehicle[b, s].lane]:
            t.vehicle[b, s].gain = real(0.0)
            t.vehicle[b, s].keep_right = real(0.0)
            t.vehicle[b, s].look = real(0.0)
    return speed


@wp.func
def heed_links(r: Road, t: Traffic, b: int, s: int):
    """Links in order until one is closed: the speed they allow, the least to pass one with, whether it is hindered."""
    kind = t.vehicle[b, s].kind
    accel, decel = r.accel[kind], r.decel[kind]
    v = t.vehicle[b, s].speed
    brake = brake_gap(v, decel, real(0.0))
    bound = real(t.vehicle[b, s].end_speed)
    least = real(0.0)
    line = real(0.0)
    least_can_stop = bool(False)
    hindered = bool(False)
    stopped = bool(False)
    t.vehicle[b, s].gives_up = False
    at = t.vehicle[b, s].first_item
    for i in range(t.vehicle[b, s].items):
        link = t.item[b, at + i].link
        distance = t.item[b, at + i].distance
        can_stop = distance > brake or v < decel
        yellow = is_yellow(t, b, link)
        if not t.item[b, at + i].request:
            t.vehicle[b, s].gives_up = r.lane_internal[t.vehicle[b, s].lane] and r.lane_internal[r.link_source[link]]
            bound = t.item[b, at + i].stopping
            hindered = hindered or bound < v or bound < STANDING
            stopped = True
            break
        opened = bool(yellow and not can_stop)
        if not yellow:
            opened = is_open(r, t, b, s, at + i, can_stop)
        stop = bool(yellow and can_stop)
        if opened and is_minor(r, t, b, link) and not r.link_cont[link]:
            if distance > VISIBILITY and (can_stop or not yellow):
                stop = True
            else:
                least = wp.min(wp.min(distance + real(0.1), t.item[b, at + i].passing), v + accel)
                line = distance
                least_can_stop = can_stop
        if not opened and not stop:
            too_fast = not can_stop and r.link_signal[link] < 0
            stop = not (too_fast and distance < brake_gap(v, r.emergency[kind], real(0.0)))
        if stop:
            bound = t.item[b, at + i].stopping
            hindered = True
            stopped = True
            break
        bound = t.item[b, at + i].passing
        if opened and bound < decel and bound <= t.item[b, at + i].stopping and bound < v + accel:
            hindered = True
    if not stopped:
        bound = t.vehicle[b, s].end_speed
    if bound + real(1.0e-3) < least:
        if least_can_stop and bound < v:
            bound = wp.min(bound, wp.max(v - decel, stop_speed(line, decel, real(1.0))))
            least = real(0.0)
            hindered = True
        else:
            least = bound
    return bound, least, hindered


@wp.func
def decide(r: Road, t: Traffic, b: int, s: int) -> real:
    """The speed of this second: what the links allow, then limits, dawdling and advice."""
    bound, least, hindered = heed_links(r, t, b, s)
    kind = t.vehicle[b, s].kind
    accel, decel = r.accel[kind], r.decel[kind]
    v = t.vehicle[b, s].speed
    t.vehicle[b, s].hindered = hindered
    low = wp.min(wp.max(v - decel, real(0.0)), wp.max(bound, wp.max(v - r.emergency[kind], real(0.0))))
    top = wp.max(allowed(r, t, b, s, t.vehicle[b, s].lane), bound)
    high = wp.max(low, wp.min(wp.min(top, bound), v + accel))
    slack = r.sigma[kind] * uniform(t.seed[b], DAWDLE, t.vehicle[b, s].id, t.now[b])
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
    lane = int(t.vehicle[b, s].lane)
    speed = t.vehicle[b, s].next_speed
    position = real(t.vehicle[b, s].position + speed)
    t.vehicle[b, s].acceleration = speed - t.vehicle[b, s].speed
    t.vehicle[b, s].speed = speed
    count_standing(t, b, s, speed)
    if t.vehicle[b, s].gives_up:
        t.vehicle[b, s].junction_entry = NEVER
        t.vehicle[b, s].conflict_entry = NEVER
    i = int(0)
    at = t.vehicle[b, s].first_item
    arrived = bool(False)
    while True:
        length = r.lane_length[lane]
        if not r.lane_internal[lane] and t.vehicle[b, s].place == t.vehicle[b, s].last:
            arrived = position > length - ARRIVED
            break
        if position <= length + real(1.0e-6):
            break
        if i >= t.vehicle[b, s].items:
            position = length
            break
        link = t.item[b, at + i].link
        pass_gate(r, t, b, link)
        i += 1
        position -= length
        for k in range(REARS - 1):
            t.behind[b, s, REARS - 1 - k] = t.behind[b, s, REARS - 2 - k]
        t.behind[b, s, 0] = lane
        lane = r.link_next[link]
        if not r.lane_internal[lane]:
            t.vehicle[b, s].place = t.vehicle[b, s].place + 1
            t.vehicle[b, s].first_entry = NEVER
            t.vehicle[b, s].junction_entry = NEVER
            t.vehicle[b, s].conflict_entry = NEVER
        else:
            if r.link_kind[link] == ENTRY:
                t.vehicle[b, s].junction_entry = now
                t.vehicle[b, s].first_entry = now
            if r.link_kind[r.lane_link[lane]] == EXIT:
                t.vehicle[b, s].conflict_entry = now
    t.vehicle[b, s].position = position
    t.vehicle[b, s].wants = False
    if i < t.vehicle[b, s].items:
        t.vehicle[b, s].wants = t.item[b, at + i].request
    t.vehicle[b, s].next_lane = lane
    own = allowed(r, t, b, s, lane)
    t.vehicle[b, s].time_loss = t.vehicle[b, s].time_loss + (own - speed) / own
    lose(r, t, b, lane, (own - speed) / own)
    return arrived


@wp.func
def arrive(t: Traffic, b: int, s: int):
    """Notes an ended trip and gives its slot to the last vehicle."""
    trip = t.vehicle[b, s].id
    t.trip_arrived[b, trip] = t.now[b]
    t.trip_loss[b, trip] = wp.float32(t.vehicle[b, s].time_loss)
    t.trip_waiting[b, trip] = t.vehicle[b, s].total_waiting
    t.trip_stops[b, trip] = t.vehicle[b, s].stops
    t.arrived[b] = t.arrived[b] + 1
    last = t.count[b] - 1
    t.count[b] = last
    if last != s:
        move_slot(t, b, last, s)


@wp.func
def move(r: Road, t: Traffic, b: int):
    """Everyone decides from the plans, then everyone moves; lists follow, those of rears later."""
    clear_rears(t, b)
    for s in range(t.count[b]):
        t.vehicle[b, s].next_speed = decide(r, t, b, s)
    clear_approaches(t, b)
    for s in range(t.count[b]):
        t.vehicle[b, s].gone = advance(r, t, b, s)
        if t.vehicle[b, s].gone or t.vehicle[b, s].next_lane != t.vehicle[b, s].lane:
            unlink(t, b, s, t.vehicle[b, s].lane)
    for s in range(t.count[b]):
        lane = t.vehicle[b, s].next_lane
        if not t.vehicle[b, s].gone and lane != t.vehicle[b, s].lane:
            t.vehicle[b, s].lane = lane
            link_in(t, b, s, lane)
    for s in range(t.count[b]):
        other = t.vehicle[b, s].ahead
        if not t.vehicle[b, s].gone and other >= 0:
            if is_ahead(t, b, s, other):
                unlink(t, b, s, t.vehicle[b, s].lane)
                link_in(t, b, s, t.vehicle[b, s].lane)
    n = t.count[b]
    for back in range(n):
        s = n - 1 - back
        if t.vehicle[b, s].gone:
            arrive(t, b, s)
