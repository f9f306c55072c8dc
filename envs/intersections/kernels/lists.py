"""Linked lists of the vehicles on each lane, and of the rears that stick into lanes left already."""

import warp as wp

from fedsched.envs.intersections.kernels.state import REARS, Road, Traffic, real


@wp.func
def rear_of(r: Road, t: Traffic, b: int, s: int) -> real:
    return t.vehicle[b, s].position - r.size[t.vehicle[b, s].kind]


@wp.func
def is_ahead(t: Traffic, b: int, other: int, s: int) -> bool:
    """Whether `other` counts as ahead of `s` on one lane: by position, ties by the smaller id."""
    if t.vehicle[b, other].position != t.vehicle[b, s].position:
        return t.vehicle[b, other].position > t.vehicle[b, s].position
    return t.vehicle[b, other].id < t.vehicle[b, s].id


@wp.func
def unlink(t: Traffic, b: int, s: int, lane: int):
    before, behind = t.vehicle[b, s].ahead, t.vehicle[b, s].after
    if before >= 0:
        t.vehicle[b, before].after = behind
    else:
        t.lane_first[b, lane] = behind
    if behind >= 0:
        t.vehicle[b, behind].ahead = before
    else:
        t.lane_last[b, lane] = before


@wp.func
def link_in(t: Traffic, b: int, s: int, lane: int):
    """Puts a vehicle into its place on a lane, looked for from the rear."""
    behind = int(-1)
    place = int(t.lane_last[b, lane])
    while place >= 0 and is_ahead(t, b, s, place):
        behind = place
        place = t.vehicle[b, place].ahead
    t.vehicle[b, s].ahead = place
    t.vehicle[b, s].after = behind
    if place >= 0:
        t.vehicle[b, place].after = s
    else:
        t.lane_first[b, lane] = s
    if behind >= 0:
        t.vehicle[b, behind].ahead = s
    else:
        t.lane_last[b, lane] = s


@wp.func
def move_slot(t: Traffic, b: int, source: int, target: int):
    """Gives a vehicle another slot; lists of rears and approaches are rebuilt afterwards anyway."""
    t.vehicle[b, target] = t.vehicle[b, source]
    for i in range(REARS):
        t.behind[b, target, i] = t.behind[b, source, i]
    before, behind, lane = t.vehicle[b, source].ahead, t.vehicle[b, source].after, t.vehicle[b, source].lane
    if before >= 0:
        t.vehicle[b, before].after = target
    else:
        t.lane_first[b, lane] = target
    if behind >= 0:
        t.vehicle[b, behind].ahead = target
    else:
        t.lane_last[b, lane] = target


@wp.func
def clear_rears(t: Traffic, b: int):
    for s in range(t.count[b]):
        if t.behind[b, s, 0] >= 0:
            for i in range(REARS):
                lane = t.behind[b, s, i]
                if lane >= 0:
                    t.rear_first[b, lane] = -1


@wp.func
def list_rears_of(r: Road, t: Traffic, b: int, s: int):
    offset = rear_of(r, t, b, s)
    for i in range(REARS):
        lane = t.behind[b, s, i]
        if lane >= 0:
            if offset >= real(0.0):
                t.behind[b, s, i] = -1
            else:
                offset += r.lane_length[lane]
                node = s * REARS + i
                t.rear_at[b, node] = offset
                t.rear_next[b, node] = t.rear_first[b, lane]
                t.rear_first[b, lane] = node


@wp.func
def list_rears(r: Road, t: Traffic, b: int):
    """Finds the rears anew; lanes behind that are not reached any more are forgotten."""
    for s in range(t.count[b]):
        if t.behind[b, s, 0] >= 0:
            list_rears_of(r, t, b, s)


@wp.func
def unlink_rear(t: Traffic, b: int, node: int, lane: int):
    """Takes a rear out of a lane's list."""
    if t.rear_first[b, lane] == node:
        t.rear_first[b, lane] = t.rear_next[b, node]
    else:
        at = int(t.rear_first[b, lane])
        while at >= 0:
            if t.rear_next[b, at] == node:
                t.rear_next[b, at] = t.rear_next[b, node]
            at = t.rear_next[b, at]


@wp.func
def take_rear_along(r: Road, t: Traffic, b: int, s: int):
    """After a change of lane: the rear changes too where the new lane has a predecessor on the rear's edge."""
    lane = int(t.vehicle[b, s].lane)
    offset = real(rear_of(r, t, b, s))
    going = bool(True)
    for i in range(REARS):
        old = t.behind[b, s, i]
        onto = int(old)
        if old >= 0 and offset < real(0.0) and going:
            found = bool(False)
            for q in range(r.lane_before_begin[lane], r.lane_before_begin[lane + 1]):
                if not found and r.lane_edge[r.lane_before[q]] == r.lane_edge[old]:
                    onto = r.lane_before[q]
                    found = True
        going = going and onto != old
        if going:
            node = s * REARS + i
            unlink_rear(t, b, node, old)
            offset += r.lane_length[onto]
            t.rear_at[b, node] = offset
            t.rear_next[b, node] = t.rear_first[b, onto]
            t.rear_first[b, onto] = node
            t.behind[b, s, i] = onto
            lane = onto
