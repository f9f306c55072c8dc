"""Linked lists of the vehicles on each lane, and of the rears that stick into lanes left already."""

import warp as wp

from fedsched.envs.intersections.kernels.state import REARS, Road, Traffic, real


@wp.func
def rear_of(r: Road, t: Traffic, b: int, s: int) -> real:
    return t.position[b, s] - r.size[t.kind[b, s]]


@wp.func
def is_ahead(t: Traffic, b: int, other: int, s: int) -> bool:
    """Whether `other` counts as ahead of `s` on one lane: by position, ties by the smaller id."""
    if t.position[b, other] != t.position[b, s]:
        return t.position[b, other] > t.position[b, s]
    return t.id[b, other] < t.id[b, s]


@wp.func
def unlink(t: Traffic, b: int, s: int, lane: int):
    before, behind = t.ahead[b, s], t.after[b, s]
    if before >= 0:
        t.after[b, before] = behind
    else:
        t.lane_first[b, lane] = behind
    if behind >= 0:
        t.ahead[b, behind] = before
    else:
        t.lane_last[b, lane] = before


@wp.func
def link_in(t: Traffic, b: int, s: int, lane: int):
    """Puts a vehicle into its place on a lane, looked for from the rear."""
    behind = int(-1)
    place = int(t.lane_last[b, lane])
    while place >= 0 and is_ahead(t, b, s, place):
        behind = place
        place = t.ahead[b, place]
    t.ahead[b, s] = place
    t.after[b, s] = behind
    if place >= 0:
        t.after[b, place] = s
    else:
        t.lane_first[b, lane] = s
    if behind >= 0:
        t.ahead[b, behind] = s
    else:
        t.lane_last[b, lane] = s


@wp.func
def move_slot(t: Traffic, b: int, source: int, target: int):
    """Gives a vehicle another slot; lists of rears and approaches are rebuilt afterwards anyway."""
    t.id[b, target] = t.id[b, source]
    t.kind[b, target] = t.kind[b, source]
    t.way[b, target] = t.way[b, source]
    t.last[b, target] = t.last[b, source]
    t.factor[b, target] = t.factor[b, source]
    t.place[b, target] = t.place[b, source]
    t.lane[b, target] = t.lane[b, source]
    t.position[b, target] = t.position[b, source]
    t.speed[b, target] = t.speed[b, source]
    for i in range(REARS):
        t.behind[b, target, i] = t.behind[b, source, i]
    t.junction_entry[b, target] = t.junction_entry[b, source]
    t.conflict_entry[b, target] = t.conflict_entry[b, source]
    t.first_entry[b, target] = t.first_entry[b, source]
    t.waiting[b, target] = t.waiting[b, source]
    t.hindered[b, target] = t.hindered[b, source]
    t.wants[b, target] = t.wants[b, source]
    t.look[b, target] = t.look[b, source]
    t.keep_right[b, target] = t.keep_right[b, source]
    t.gain[b, target] = t.gain[b, source]
    t.advice[b, target] = t.advice[b, source]
    t.acceleration[b, target] = t.acceleration[b, source]
    t.helps[b, target] = t.helps[b, source]
    t.leads_blocked[b, target] = t.leads_blocked[b, source]
    t.change_blocked[b, target] = t.change_blocked[b, source]
    t.wants_side[b, target] = t.wants_side[b, source]
    t.left_space[b, target] = t.left_space[b, source]
    t.reserved[b, target] = t.reserved[b, source]
    t.inserted[b, target] = t.inserted[b, source]
    t.total_waiting[b, target] = t.total_waiting[b, source]
    t.time_loss[b, target] = t.time_loss[b, source]
    t.stops[b, target] = t.stops[b, source]
    before, behind, lane = t.ahead[b, source], t.after[b, source], t.lane[b, source]
    t.ahead[b, target] = before
    t.after[b, target] = behind
    if before >= 0:
        t.after[b, before] = target
    else:
        t.lane_first[b, lane] = target
    if behind >= 0:
        t.ahead[b, behind] = target
    else:
        t.lane_last[b, lane] = target


@wp.func
def clear_rears(t: Traffic, b: int):
    for s in range(t.count[b]):
        for i in range(REARS):
            lane = t.behind[b, s, i]
            if lane >= 0:
                t.rear_first[b, lane] = -1


@wp.func
def list_rears(r: Road, t: Traffic, b: int):
    """Finds the rears anew; lanes behind that are not reached any more are forgotten."""
    for s in range(t.count[b]):
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
