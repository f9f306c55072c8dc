"""Inside junctions; see `reference.junctions`."""

import warp as wp

from fedsched.envs.intersections.kernels.following import brake_gap, follow_speed, stop_speed
from fedsched.envs.intersections.kernels.lists import rear_of
from fedsched.envs.intersections.kernels.state import (
    CROSSING,
    EXIT,
    GREEN,
    INNER,
    ITEMS,
    MERGE,
    REARS,
    SIBLING,
    STANDING,
    STOP_SIGN,
    Road,
    Traffic,
    real,
)
from fedsched.envs.intersections.kernels.ways import has_priority, is_red, is_yellow

PATIENCE_S = wp.constant(5)
IMPATIENT_AFTER_S = wp.constant(real(180.0))
LOOK_AHEAD_S = wp.constant(real(1.0))


@wp.func
def leftover(r: Road, t: Traffic, b: int, lane: int) -> bool:
    entry = r.lane_entry[lane]
    if r.link_next[entry] != lane and r.link_kind[r.lane_link[lane]] == EXIT:
        return False
    edge = r.lane_edge[r.link_source[entry]]
    for i in range(r.foe_begin[entry], r.foe_begin[entry + 1]):
        foe = r.foe[i]
        if r.link_cont[foe]:
            if is_red(t, b, foe) and r.lane_edge[r.link_source[foe]] != edge:
                if t.lane_last[b, r.link_next[foe]] >= 0:
                    return True
    return False


@wp.func
def same_origin(r: Road, lane: int, other: int) -> bool:
    return r.link_source[r.lane_entry[lane]] == r.link_source[r.lane_entry[other]]


@wp.func
def goes_first(r: Road, t: Traffic, b: int, s: int, other: int, q: int, lane: int, start: real, front: real) -> bool:
    """Whether `other`, on the lane of conflict q, goes before vehicle s."""
    kind = r.conflict_kind[q]
    foe_lane = r.conflict_lane[q]
    inside = front > r.other_begin[q]
    if kind != SIBLING and t.speed[b, other] < STANDING and not inside:
        if t.lane[b, other] == foe_lane and not t.wants[b, other]:
            return False
    if not r.lane_internal[t.lane[b, s]]:
        return True
    if kind == CROSSING and inside and start + r.own_begin[q] > real(0.0):
        return True
    first = int(0)
    second = int(0)
    if same_origin(r, lane, foe_lane):
        first = t.junction_entry[b, s]
        second = t.junction_entry[b, other]
    else:
        own_entry = r.lane_entry[lane]
        foe_entry = r.lane_entry[foe_lane]
        yields = r.must_yield[q]
        yielded = r.other_yields[q]
        if is_red(t, b, own_entry) != is_red(t, b, foe_entry):
            yields = is_red(t, b, foe_entry)
            yielded = not yields
        elif is_yellow(t, b, own_entry) and is_yellow(t, b, foe_entry):
            if t.speed[b, s] != t.speed[b, other]:
                yields = t.speed[b, s] < t.speed[b, other]
            else:
                yields = t.id[b, s] > t.id[b, other]
            yielded = not yields
        elif has_priority(t, b, own_entry) != has_priority(t, b, foe_entry):
            yields = has_priority(t, b, foe_entry)
            yielded = not yields
        if not yields:
            first = t.junction_entry[b, s]
            second = t.conflict_entry[b, other]
        elif yielded:
            first = t.conflict_entry[b, s]
            second = t.conflict_entry[b, other]
        else:
            first = t.conflict_entry[b, s]
            second = t.junction_entry[b, other]
    if first != second:
        return first > second
    if t.speed[b, other] != t.speed[b, s]:
        return t.speed[b, other] > t.speed[b, s]
    return t.id[b, other] < t.id[b, s]


@wp.func
def conflict_speed(r: Road, t: Traffic, b: int, s: int, leader: int, q: int, start: real, rear: real) -> real:
    kind = t.kind[b, s]
    speed = t.speed[b, s]
    zone = start + r.own_begin[q]
    room = zone - r.gap[kind]
    gap = room - (r.other_begin[q] - rear)
    crossing = r.conflict_kind[q] == CROSSING
    if crossing:
        gap -= r.other_end[q] - r.other_begin[q]
    accel = r.accel[kind]
    decel = r.decel[kind]
    leader_speed = t.speed[b, leader]
    safe = real(0.0)
    if gap >= real(0.0):
        safe = follow_speed(gap, speed, leader_speed, accel, decel, r.tau[kind], r.decel[t.kind[b, leader]])
    else:
        safe = wp.min(stop_speed(start, decel, real(1.0)), speed + accel)
    if crossing and room > real(0.0):
        seconds = (zone - gap) / wp.max(leader_speed, real(0.1))
        final = wp.max(speed, real(2.0) * room / seconds - speed)
        roll = wp.min(speed + (final - speed) / seconds, stop_speed(room, decel, real(1.0)))
        safe = wp.max(safe, roll)
    return safe


@wp.func
def held_by(
    r: Road, t: Traffic, b: int, s: int, other: int, q: int, lane: int, start: real, rear: real, front: real
):
    """The speed that one vehicle on a conflicting lane leaves, and whether the right of way is given up for it."""
    if other == s or rear > r.other_end[q]:
        return real(1.0e9), False
    if not goes_first(r, t, b, s, other, q, lane, start, front):
        return real(1.0e9), False
    safe = conflict_speed(r, t, b, s, other, q, start, rear)
    stands = t.waiting[b, other] > PATIENCE_S or same_origin(r, lane, r.conflict_lane[q])
    return safe, safe < STANDING and stands


@wp.func
def junction_speed(r: Road, t: Traffic, b: int, s: int, lane: int, start: real, speed_in: real, floor: real):
    """The speed that the vehicles on conflicting lanes leave, and whether the right of way is given up."""
    speed = real(speed_in)
    yields = bool(False)
    if start >= real(0.0) and speed > floor:
        if leftover(r, t, b, lane):
            speed = floor
    for q in range(r.conflict_begin[lane], r.conflict_begin[lane + 1]):
        other_lane = r.conflict_lane[q]
        past = start + r.own_end[q] < real(0.0) and r.conflict_kind[q] != MERGE
        if not past:
            other = int(t.lane_first[b, other_lane])
            while other >= 0:
                rear = rear_of(r, t, b, other)
                safe, gives = held_by(r, t, b, s, other, q, lane, start, rear, t.position[b, other])
                speed = wp.min(speed, wp.max(safe, floor))
                yields = yields or gives
                other = t.after[b, other]
            node = int(t.rear_first[b, other_lane])
            while node >= 0:
                sticking = node / REARS
                at = t.rear_at[b, node]
                front = at + r.size[t.kind[b, sticking]]
                safe_rear, gives_rear = held_by(r, t, b, s, sticking, q, lane, start, at, front)
                speed = wp.min(speed, wp.max(safe_rear, floor))
                yields = yields or gives_rear
                node = t.rear_next[b, node]
    return speed, yields


@wp.func
def unsafe_merge(leader: real, follower: real, leader_decel: real, follower_decel: real) -> bool:
    return leader * leader / leader_decel <= follower * follower / follower_decel


@wp.func
def is_open(r: Road, t: Traffic, b: int, s: int, i: int) -> bool:
    """Whether the link of item i may be passed."""
    link = t.link[b, s, i]
    kind = r.link_kind[link]
    entry = r.link_entry[link]
    own_decel = r.decel[t.kind[b, s]]
    if kind == EXIT:
        return True
    if kind == INNER:
        if t.state[b, entry] == GREEN:
            return True
    else:
        if is_red(t, b, link):
            return t.distance[b, s, i] < brake_gap(t.speed[b, s], own_decel, real(0.0))
        if is_yellow(t, b, link) or has_priority(t, b, link) or r.link_cont[link]:
            return True
        if t.state[b, link] == STOP_SIGN and t.waiting[b, s] == 0:
            return False
    impatience = wp.min(real(1.0), real(t.waiting[b, s]) / IMPATIENT_AFTER_S)
    only_moving = kind == INNER and is_red(t, b, entry)
    arrival = t.arrival[b, s, i]
    leave = t.leave[b, s, i]
    for place in range(r.response_begin[link], r.response_begin[link + 1]):
        foe_link = r.response[place]
        same = r.link_target[foe_link] == r.link_target[link]
        node = int(t.approach_first[b, foe_link])
        while node >= 0:
            foe = node / ITEMS
            j = node - foe * ITEMS
            if foe != s and not (only_moving and t.speed[b, foe] < STANDING):
                foe_decel = r.decel[t.kind[b, foe]]
                if t.leave[b, foe, j] < arrival:
                    if same:
                        close = arrival - t.leave[b, foe, j] < LOOK_AHEAD_S
                        if close or unsafe_merge(
                            t.leave_speed[b, foe, j], t.arrival_speed[b, s, i], foe_decel, own_decel
                        ):
                            return False
                else:
                    patient = (real(1.0) - impatience) * t.arrival[b, foe, j]
                    if patient + impatience * t.arrival_braking[b, foe, j] > leave + LOOK_AHEAD_S:
                        if same and unsafe_merge(
                            t.leave_speed[b, s, i], t.braking_speed[b, foe, j], own_decel, foe_decel
                        ):
                            return False
                    else:
                        return False
            node = t.approach_next[b, node]
    return True
