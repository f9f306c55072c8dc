"""Inside junctions; see `reference.junctions`."""

import warp as wp

from fedsched.envs.intersections.kernels.following import brake_gap, follow_speed, stop_speed
from fedsched.envs.intersections.kernels.lists import rear_of
from fedsched.envs.intersections.kernels.state import (
    CROSSING,
    GREEN,
    INNER,
    MERGE,
    REARS,
    SIBLING,
    STANDING,
    STOP_SIGN,
    Road,
    Traffic,
    real,
)
from fedsched.envs.intersections.kernels.ways import has_priority, is_green, is_red, is_yellow

PATIENCE_S = wp.constant(5)
IMPATIENT_AFTER_S = wp.constant(real(180.0))
LOOK_AHEAD_S = wp.constant(real(1.0))
STOPS_S = wp.constant(real(30.0))
FREE = wp.constant(real(1.0e9))


@wp.func
def stands(r: Road, t: Traffic, b: int, s: int, leader: int) -> bool:
    """Whether waiting for this leader means giving up the right of way."""
    if t.vehicle[b, leader].waiting > PATIENCE_S:
        return True
    lane = t.vehicle[b, leader].lane
    if not r.lane_internal[lane]:
        return False
    source = r.link_source[r.lane_into[lane]]
    own = t.vehicle[b, s].lane
    if source == own:
        return True
    return r.lane_internal[own] and source == r.link_source[r.lane_into[own]]


@wp.func
def right_of_way(r: Road, t: Traffic, b: int, s: int, other: int, q: int, gap: real):
    """Whether vehicle s must yield to the other, and the other to it."""
    own_entry, foe_entry = r.lane_entry[t.vehicle[b, s].lane], r.lane_entry[t.vehicle[b, other].lane]
    own_red, foe_red = is_red(t, b, own_entry), is_red(t, b, foe_entry)
    speed, foe_speed = t.vehicle[b, s].speed, t.vehicle[b, other].speed
    if own_red or foe_red:
        if not foe_red and foe_speed > STANDING and gap < real(0.0):
            k = t.vehicle[b, other].kind
            cannot_stop = -gap - r.size[k] < brake_gap(foe_speed, r.decel[k], r.tau[k])
            return cannot_stop, not cannot_stop
        return foe_red, own_red
    own_priority, foe_priority = has_priority(t, b, own_entry), has_priority(t, b, foe_entry)
    if own_priority != foe_priority:
        return not own_priority, not foe_priority
    if is_yellow(t, b, own_entry) and is_yellow(t, b, foe_entry):
        return foe_speed >= speed, speed >= foe_speed
    return r.must_yield[q], r.other_yields[q]


@wp.func
def goes_first(r: Road, t: Traffic, b: int, s: int, other: int, q: int, lane: int, gap: real) -> bool:
    """Whether `other` goes before vehicle s."""
    own_lane, foe_lane = t.vehicle[b, s].lane, t.vehicle[b, other].lane
    junction = r.lane_junction[lane]
    if r.lane_junction[own_lane] != junction or r.lane_junction[foe_lane] != junction:
        return True
    first = int(0)
    second = int(0)
    if r.link_source[r.lane_entry[lane]] == r.link_source[r.lane_entry[foe_lane]]:
        first = t.vehicle[b, s].first_entry
        second = t.vehicle[b, other].first_entry
    else:
        yields, yielded = right_of_way(r, t, b, s, other, q, gap)
        first = t.vehicle[b, s].junction_entry
        second = t.vehicle[b, other].conflict_entry
        if yields:
            first = t.vehicle[b, s].conflict_entry
            if not yielded:
                second = t.vehicle[b, other].junction_entry
    if first != second:
        return first > second
    if t.vehicle[b, other].speed != t.vehicle[b, s].speed:
        return t.vehicle[b, other].speed > t.vehicle[b, s].speed
    return t.vehicle[b, s].id < t.vehicle[b, other].id


@wp.func
def speed_for(r: Road, t: Traffic, b: int, s: int, leader: int, gap: real, start: real, point: real) -> real:
    """Safe speed behind a vehicle on a conflicting lane; `point` is negative where it must stop before the lane."""
    kind = t.vehicle[b, s].kind
    speed = t.vehicle[b, s].speed
    accel, decel = r.accel[kind], r.decel[kind]
    safe = real(0.0)
    if gap >= real(0.0):
        safe = follow_speed(
            gap, speed, t.vehicle[b, leader].speed, accel, decel, r.tau[kind], r.decel[t.vehicle[b, leader].kind]
        )
    else:
        safe = wp.min(stop_speed(start - real(0.1), decel, real(1.0)), speed + accel)
    if point < real(0.0):
        return safe
    room = point - r.gap[kind]
    stop = wp.min(stop_speed(room, decel, real(1.0)), speed + accel)
    if gap == -FREE:
        return wp.max(safe, stop)
    seconds = (point - gap) / wp.max(t.vehicle[b, leader].speed, STANDING)
    final = wp.max(speed, real(2.0) * room / seconds - speed)
    return wp.max(safe, wp.min(speed + (final - speed) / seconds, stop))


@wp.func
def bend(radius: real, size: real) -> real:
    """m by which a vehicle in a bend bulges inwards; see `reference.junctions`."""
    half = (size + real(2.0)) * real(0.5)
    if half < radius and radius < FREE:
        return radius - wp.sqrt(radius * radius - half * half)
    return real(0.0)


@wp.func
def meeting(r: Road, t: Traffic, b: int, s: int, leader: int, q: int, lane: int, start: real, rear: real):
    """The gap to a vehicle on a conflicting lane, FREE where it does not matter; and whether it is in the way."""
    kind = r.conflict_kind[q]
    other = r.conflict_lane[q]
    merge = kind == MERGE
    sibling = kind == SIBLING
    point = start + r.own_begin[q]
    rear_distance = r.other_begin[q] - rear
    foe_width = real(0.0)
    if sibling:
        point = start + r.own_end[q]
        rear_distance = r.other_end[q] - rear
    if kind == CROSSING:
        foe_width = r.other_end[q] - r.other_begin[q]
    size = r.size[t.vehicle[b, leader].kind]
    waits = r.lane_waiting[other]
    before_waiting = waits and not r.lane_waiting[lane] and not r.lane_second[lane]
    past = rear_distance + foe_width + bend(r.lane_radius[lane], r.size[t.vehicle[b, s].kind]) < real(0.0)
    in_the_way = rear_distance < size and not waits
    in_the_way = in_the_way and ((not past and point > real(0.0)) or (merge and point > rear_distance - size))
    on_lane = t.vehicle[b, leader].lane == other
    if not in_the_way:
        if before_waiting:
            own_entry, foe_entry = r.lane_entry[lane], r.lane_entry[other]
            if is_green(t, b, own_entry) and is_green(t, b, foe_entry):
                if r.link_source[own_entry] != r.link_source[foe_entry]:
                    return FREE, False
        if point < real(-0.1):
            return FREE, False
        if (merge or not (before_waiting or sibling)) and on_lane and not t.vehicle[b, leader].wants:
            return FREE, False
    if sibling and waits and r.lane_second[lane] and t.vehicle[b, leader].speed < STANDING:
        return FREE, False
    if sibling and r.lane_edge[t.vehicle[b, s].lane] == r.lane_edge[lane]:
        if rear + size < t.vehicle[b, s].position - r.size[t.vehicle[b, s].kind]:
            return FREE, False
    always = before_waiting and not sibling
    if not always and past and not merge:
        return FREE, False
    if merge and rear_distance < real(0.0):
        own_behind = r.lane_length[lane] - r.own_begin[q]
        rear_distance += wp.max(real(0.0), r.lane_length[other] - r.other_begin[q] - own_behind)
    gap = point - r.gap[t.vehicle[b, s].kind] - rear_distance - foe_width
    if always:
        gap = -FREE
    return gap, in_the_way


@wp.func
def held(r: Road, t: Traffic, b: int, s: int, leader: int, q: int, lane: int, start: real, rear: real) -> real:
    """The speed that one vehicle on a conflicting lane leaves; FREE where it does not matter."""
    gap, in_the_way = meeting(r, t, b, s, leader, q, lane, start, rear)
    if gap == FREE:
        return FREE
    if not in_the_way:
        if not goes_first(r, t, b, s, leader, q, lane, gap):
            return FREE
    kind = r.conflict_kind[q]
    other = r.conflict_lane[q]
    before_waiting = r.lane_waiting[other] and not r.lane_waiting[lane] and not r.lane_second[lane]
    point = start + r.own_begin[q]
    if kind == MERGE or kind == SIBLING or r.lane_second[lane]:
        point = real(-1.0)
    elif before_waiting and t.vehicle[b, leader].lane == other:
        point = real(-1.0)
    return speed_for(r, t, b, s, leader, gap, start, point)


@wp.func
def gap_left(r: Road, t: Traffic, b: int, s: int, leader: int, q: int, lane: int, start: real, rear: real) -> real:
    """The gap to a vehicle on a conflicting lane that matters for a change of lane, else FREE."""
    gap, in_the_way = meeting(r, t, b, s, leader, q, lane, start, rear)
    if gap == FREE or in_the_way or lane != t.vehicle[b, s].lane:
        return gap
    if goes_first(r, t, b, s, leader, q, lane, gap):
        return gap
    return FREE


@wp.func
def crossing_leader(r: Road, t: Traffic, b: int, s: int, lane: int, start: real):
    """Of the vehicles that cross or join an internal lane `start` m ahead the one that leaves least, and the gap."""
    best = int(-1)
    best_gap = real(0.0)
    least = real(FREE)
    for q in range(r.conflict_begin[lane], r.conflict_begin[lane + 1]):
        if start + r.own_end[q] >= real(0.0) or r.conflict_kind[q] == MERGE:
            foe_lane = r.conflict_lane[q]
            other = int(t.lane_first[b, foe_lane])
            node = int(t.rear_first[b, foe_lane])
            while other >= 0 or node >= 0:
                who = other
                rear = real(0.0)
                if other >= 0:
                    rear = rear_of(r, t, b, other)
                    other = t.vehicle[b, other].after
                else:
                    who = node / REARS
                    rear = t.rear_at[b, node]
                    node = t.rear_next[b, node]
                if who != s:
                    gap = gap_left(r, t, b, s, who, q, lane, start, rear)
                    if gap != FREE:
                        decel = r.decel[t.vehicle[b, who].kind]
                        reach = gap + brake_gap(t.vehicle[b, who].speed, decel, real(0.0))
                        if reach < least:
                            best = who
                            best_gap = gap
                            least = reach
    return best, best_gap


@wp.func
def if_braked_speed(own_arrival: real, distance: real, arrival: real, decel: real, now: real):
    """When a foe would arrive, and how fast, if it braked from the moment of the own arrival."""
    late = arrival - own_arrival
    speed = distance / (arrival - now + real(1.0))
    left = distance - speed * (own_arrival - now)
    if real(0.5) * speed * speed / decel <= left:
        return arrival + STOPS_S, real(0.0)
    slower = late * decel
    root = wp.max(real(0.0), real(4.0) * (speed - slower) * (speed - slower) - real(4.0) * decel * late * slower)
    more = (speed - slower - real(0.5) * wp.sqrt(root)) / decel
    return arrival + more, speed - (late + more) * decel


@wp.func
def unsafe_merge(leader: real, follower: real, leader_decel: real, follower_decel: real) -> bool:
    return leader * leader / leader_decel <= follower * follower / follower_decel


@wp.func
def blocked_by(r: Road, t: Traffic, b: int, own: int, other: int, same: bool, impatience: real) -> bool:
    """Whether the windows of time of two items overlap too far."""
    s, foe = t.item[b, own].vehicle, t.item[b, other].vehicle
    own_decel, foe_decel = r.decel[t.vehicle[b, s].kind], r.decel[t.vehicle[b, foe].kind]
    own_arrival = t.item[b, own].arrival
    arrival = t.item[b, other].arrival
    braking = t.item[b, other].braking_speed
    if impatience > real(0.0) and own_arrival < arrival:
        if wp.floor(own_arrival) != wp.floor(arrival):
            braked, slowed = if_braked_speed(
                own_arrival, t.item[b, other].distance, arrival, foe_decel * impatience, real(t.now[b])
            )
            braking = slowed
            arrival = (real(1.0) - impatience) * arrival + impatience * braked
    if t.item[b, other].leave < own_arrival:
        if not same:
            return False
        if own_arrival - t.item[b, other].leave < LOOK_AHEAD_S:
            return True
        return unsafe_merge(t.item[b, other].leave_speed, t.item[b, own].arrival_speed, foe_decel, own_decel)
    if arrival > t.item[b, own].leave + LOOK_AHEAD_S:
        return same and unsafe_merge(t.item[b, own].leave_speed, braking, own_decel, foe_decel)
    return True


@wp.func
def is_open(r: Road, t: Traffic, b: int, s: int, item: int, can_stop: bool) -> bool:
    """Whether the link of an item may be passed."""
    link = t.item[b, item].link
    if is_red(t, b, link):
        return False
    if r.link_cont[link] or has_priority(t, b, link):
        return True
    inner = r.link_kind[link] == INNER
    entry = r.link_entry[link]
    if inner and t.state[b, entry] == GREEN:
        return True
    if t.state[b, link] == STOP_SIGN and t.vehicle[b, s].waiting == 0:
        return False
    impatience = real(1.0)
    if can_stop:
        impatience = wp.min(real(1.0), real(t.vehicle[b, s].waiting) / IMPATIENT_AFTER_S)
    for place in range(r.response_begin[link], r.response_begin[link + 1]):
        foe_link = r.response[place]
        same = r.link_target[foe_link] == r.link_target[link]
        node = int(t.approach_first[b, foe_link])
        while node >= 0:
            foe = t.item[b, node].vehicle
            if foe != s:
                if blocked_by(r, t, b, item, node, same, impatience):
                    return False
            node = t.item[b, node].next
    return True
