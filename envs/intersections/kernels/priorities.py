"""Priorities of movements: which are in force at a signal, by the clock or by where one vehicle is."""

import warp as wp

from fedsched.envs.intersections.kernels.state import Road, Traffic, real

EVERYBODY = wp.constant(-1)
NOTHING = wp.constant(-1)


@wp.struct
class PriorityArrays:
    """What signals serve first; a row has room for P priorities, the weightier ones before the others."""

    serves: wp.array3d[wp.int32]  # [A, N, E] what a phase gives a movement: 0 red, 1 permissive, 2 protected green
    link_movement: wp.array1d[wp.int32]  # [Q] number of the movement of a signal link among its signal's
    along_s: wp.array1d[real]  # [W] s at the speed limits from the start of a way to the edge of a row
    signal: wp.array2d[wp.int32]  # [B, P] which agent; -1: no priority
    movement: wp.array2d[wp.int32]  # [B, P] number among the signal's
    begin: wp.array2d[wp.int32]  # [B, P] s
    end: wp.array2d[wp.int32]  # [B, P] s
    every: wp.array2d[wp.int32]  # [B, P] s of a period
    lasts: wp.array2d[wp.int32]  # [B, P] s at the start of each period
    trip: wp.array2d[wp.int32]  # [B, P] for whom, -1: for all
    place: wp.array2d[wp.int32]  # [B, P] on the vehicle's way: the edge before the stop line
    lead: wp.array2d[wp.int32]  # [B, P] s before the vehicle gets there


Priorities = wp.ref[PriorityArrays]


@wp.func
def place_of(r: Road, t: Traffic, b: int, s: int) -> int:
    """The edge of its way that a vehicle is on, inside a junction the one behind it."""
    if r.lane_internal[t.vehicle[b, s].lane]:
        return t.vehicle[b, s].place + 1
    return t.vehicle[b, s].place


@wp.func
def seconds_ahead(r: Road, t: Traffic, x: Priorities, b: int, s: int, place: int) -> real:
    """How long a vehicle takes at the speed limits to the end of an edge that is not behind it on its way."""
    lane, way = t.vehicle[b, s].lane, t.vehicle[b, s].way
    done = t.vehicle[b, s].position / r.lane_speed[lane]
    if r.lane_internal[lane]:
        done = real(0.0)
    ahead = x.along_s[way + place + 1] - x.along_s[way + place_of(r, t, b, s)] - done
    return wp.max(ahead, real(0.0))


@wp.func
def head_movement(t: Traffic, x: Priorities, b: int, s: int, own: int) -> int:
    """The movement of the first vehicle on the lane of another one, `own` where it meets no signal."""
    head = int(s)
    for k in range(t.count[b]):
        if t.vehicle[b, k].lane == t.vehicle[b, s].lane and t.vehicle[b, k].position > t.vehicle[b, head].position:
            head = k
    link = t.vehicle[b, head].signal
    if head == s or link < 0:
        return own
    return x.link_movement[link]


@wp.func
def movement_for(r: Road, t: Traffic, x: Priorities, b: int, i: int) -> int:
    """What a signal must serve for the vehicle of a priority now, -1 for nothing.

    On the way to the stop line's edge it is the vehicle's movement, unless the vehicle stands; there it is that of the
    first one on its lane: served otherwise, that one would bar its way.
    """
    place = x.place[b, i]
    for s in range(t.count[b]):
        if t.vehicle[b, s].id == x.trip[b, i]:
            at = place_of(r, t, b, s)
            if at > place or seconds_ahead(r, t, x, b, s, place) > real(x.lead[b, i]):
                return NOTHING
            if at == place and not r.lane_internal[t.vehicle[b, s].lane]:
                return head_movement(t, x, b, s, x.movement[b, i])
            return wp.where(t.vehicle[b, s].waiting > 0, NOTHING, x.movement[b, i])
    return NOTHING


@wp.func
def in_time(t: Traffic, x: Priorities, b: int, i: int) -> bool:
    """Whether the clock allows a priority now."""
    now = t.now[b]
    inside = now >= x.begin[b, i] and now < x.end[b, i]
    return inside and (now - x.begin[b, i]) % x.every[b, i] < x.lasts[b, i]
