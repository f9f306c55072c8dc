"""Insertion; see `reference.inserting`."""

import warp as wp

from fedsched.envs.intersections.kernels.around import is_open_to
from fedsched.envs.intersections.kernels.draws import PLACE, speed_factor, uniform
from fedsched.envs.intersections.kernels.entering import MARGIN, enters_anywhere, has_room, is_safe
from fedsched.envs.intersections.kernels.lists import link_in
from fedsched.envs.intersections.kernels.state import FLAG_FULL, NEVER, NO_ADVICE, REARS, Road, Traffic, real
from fedsched.envs.intersections.kernels.ways import allowed

RANDOM_TRIES = wp.constant(10)
RANDOM_FREE, RANDOM = wp.constant(real(-2.0)), wp.constant(real(-3.0))


@wp.func
def factor_of(r: Road, t: Traffic, b: int, trip: int, kind: int) -> real:
    return speed_factor(
        t.seed[b], trip, r.factor_mean[kind], r.factor_deviation[kind], r.factor_low[kind], r.factor_high[kind]
    )


@wp.func
def depart_lane(r: Road, t: Traffic, b: int, trip: int, row: int, kind: int, wanted: int) -> int:
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
    going = bool(True)
    for lane in range(first, end):
        if going and is_open_to(r, t, b, kind, lane):
            if fallback < 0:
                fallback = lane
            if r.way_offset[row, r.lane_index[lane]] == 0 and wanted != -2:
                last = t.lane_last[b, lane]
                room = real(1.0e9)
                if last >= 0:
                    room = t.vehicle[b, last].position
                    if lane + 1 < end:
                        own = wp.min(r.lane_speed[lane] * factor_of(r, t, b, trip, kind), r.fastest[kind])
                        going = allowed(r, t, b, last, lane) <= own
                if room > most:
                    best = lane
                    most = room
    if best < 0:
        return fallback
    return best


@wp.func
def prepare(r: Road, t: Traffic, b: int, s: int, trip: int):
    """Fills what is read of a vehicle before it is on the road."""
    row = t.first_trip[b] + trip
    kind = r.trip_type[row]
    t.vehicle[b, s].id = trip
    t.vehicle[b, s].last = r.trip_last[row]
    t.vehicle[b, s].place = 0
    t.vehicle[b, s].factor = factor_of(r, t, b, trip, kind)
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
def is_safe_anywhere(r: Road, t: Traffic, b: int, s: int, trip: int, rule: real, adapts: bool) -> bool:
    """Tries the places that the rule for departures allows."""
    lane = t.vehicle[b, s].lane
    speed = t.vehicle[b, s].speed  # one by one: what a tuple takes from an array is read again at every use
    if rule >= real(-1.0):
        return is_safe(r, t, b, s, adapts)
    tries = int(0)
    if rule == RANDOM_FREE:
        tries = RANDOM_TRIES
    elif rule == RANDOM:
        tries = 1
    for k in range(tries):
        draw = uniform(t.seed[b], PLACE, trip, t.now[b] * RANDOM_TRIES + k)
        t.vehicle[b, s].position = draw * r.lane_length[lane]
        t.vehicle[b, s].speed = speed
        if is_safe(r, t, b, s, adapts):
            return True
    return tries != 1 and enters_anywhere(r, t, b, s, speed)


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
    kind, way = r.trip_type[row], r.way_begin[t.open_ways[b] + r.trip_key[row]]
    edge = r.way_edge[way]
    if t.edge_failed[b, edge] == t.now[b]:
        return False
    lane = depart_lane(r, t, b, trip, way, kind, r.trip_lane[row])
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
        adapts = t.lane_first[b, lane] < 0 and r.trip_speed[row] < real(0.0)
        safe = is_safe_anywhere(r, t, b, s, trip, rule, adapts)
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
