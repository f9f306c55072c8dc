"""Who may not enter a junction, since there is no room behind it; see `reference.keepclear`."""

import warp as wp

from fedsched.envs.intersections.kernels.following import brake_gap
from fedsched.envs.intersections.kernels.lists import rear_of
from fedsched.envs.intersections.kernels.state import EXIT, ITEMS, REARS, STANDING, Road, Traffic, real
from fedsched.envs.intersections.kernels.ways import is_red

BEYOND = wp.constant(real(1000.0))


@wp.func
def room_on(r: Road, t: Traffic, b: int, link: int):
    """What the lane behind a link adds to the free space, and whether somebody stands or has to wait there."""
    lane = r.link_next[link]
    used = real(0.0)
    other = int(t.lane_last[b, lane])
    rearmost = other
    internal = r.lane_internal[lane]
    if internal and r.link_clear[link]:
        while other >= 0:
            used += r.size[t.vehicle[b, other].kind] + r.gap[t.vehicle[b, other].kind]
            other = t.vehicle[b, other].ahead
        return -used, False
    if rearmost < 0 and t.rear_first[b, lane] < 0:
        return r.lane_length[lane], False
    while other >= 0:
        if t.vehicle[b, other].speed < STANDING:
            reach = t.vehicle[b, other].speed * r.tau[t.vehicle[b, other].kind]
            return rear_of(r, t, b, other) + reach - used, True
        used += r.size[t.vehicle[b, other].kind] + r.gap[t.vehicle[b, other].kind]
        other = t.vehicle[b, other].ahead
    if rearmost < 0:
        rearmost = t.rear_first[b, lane] / REARS
    return r.lane_length[lane] - used, t.vehicle[b, rearmost].hindered and not internal


@wp.func
def is_held_behind(r: Road, t: Traffic, b: int, link: int) -> bool:
    """Whether somebody stands or has to wait on the lane behind a link: what `room_on` says, without the room."""
    lane = r.link_next[link]
    internal = r.lane_internal[lane]
    if internal and r.link_clear[link]:
        return False
    rearmost = int(t.lane_last[b, lane])
    other = int(rearmost)
    while other >= 0:
        if t.vehicle[b, other].speed < STANDING:
            return True
        other = t.vehicle[b, other].ahead
    if rearmost < 0:
        if t.rear_first[b, lane] < 0:
            return False
        rearmost = t.rear_first[b, lane] / REARS
    return t.vehicle[b, rearmost].hindered and not internal


@wp.func
def is_opened(r: Road, t: Traffic, b: int, at: int, n: int, i: int) -> bool:
    """Whether the vehicle gets over the link before item i and on from there."""
    link = t.item[b, at + i - 1].link
    can_leave = bool(i == n or not r.lane_internal[r.link_next[link]])
    if not can_leave:
        can_leave = t.item[b, at + i].request
    return can_leave and (i == 1 or not is_red(t, b, link))


@wp.func
def may_have_to_stop(r: Road, t: Traffic, b: int, s: int) -> bool:
    """Whether the room matters at all."""
    n, at = t.vehicle[b, s].items, t.vehicle[b, s].first_item
    concerned = bool(False)
    for i in range(n):
        concerned = concerned or r.link_clear[t.item[b, at + i].link]
    if not concerned:
        return False
    for i in range(n):
        if is_held_behind(r, t, b, t.item[b, at + i].link):
            return True
        if i > 0:
            if not is_opened(r, t, b, at, n, i):
                return True
    return t.vehicle[b, s].ends and not is_opened(r, t, b, at, n, n)


@wp.func
def space_behind(r: Road, t: Traffic, b: int, s: int):
    """The room for the vehicle behind each of its links."""
    n, at = t.vehicle[b, s].items, t.vehicle[b, s].first_item
    ends = t.vehicle[b, s].ends
    space = real(0.0)
    other = int(t.vehicle[b, s].ahead)
    while other >= 0:
        space -= r.size[t.vehicle[b, other].kind] + r.gap[t.vehicle[b, other].kind]
        other = t.vehicle[b, other].ahead
    stopped = bool(False)
    for i in range(n):
        t.met[b, i] = False
        if not stopped:
            more, stands_there = room_on(r, t, b, t.item[b, at + i].link)
            space += more
            t.met[b, i] = stands_there
            stopped = stands_there
        t.space[b, i] = space
    if ends and not stopped:
        space += BEYOND
    for back in range(n):
        i = n - back
        if i < n or ends:
            opened = is_opened(r, t, b, at, n, i)
            allows = bool((r.link_cont[t.item[b, at + i - 1].link] or opened) and not t.met[b, i - 1])
            if not opened and i > 1 and not allows:
                allows = r.link_cont[t.item[b, at + i - 2].link]
            if allows:
                if i == n:
                    t.space[b, i - 1] = space
                else:
                    t.space[b, i - 1] = t.space[b, i]


@wp.func
def keep_clear(r: Road, t: Traffic, b: int, s: int):
    """Takes back the requests from the first link on behind which there is no room for the vehicle."""
    if may_have_to_stop(r, t, b, s):
        space_behind(r, t, b, s)
        n, at = t.vehicle[b, s].items, t.vehicle[b, s].first_item
        kind = t.vehicle[b, s].kind
        need = r.size[kind] + r.gap[kind]
        first = int(ITEMS)
        for i in range(n):
            if first == ITEMS and r.link_clear[t.item[b, at + i].link] and t.space[b, i] < need:
                first = i
        if first == 0 and r.lane_internal[t.vehicle[b, s].lane]:
            first = ITEMS
        brake = brake_gap(t.vehicle[b, s].speed, r.decel[kind], real(0.0))
        for i in range(first, n):
            t.item[b, at + i].passing = t.item[b, at + i].stopping
            if i == n - 1:
                t.vehicle[b, s].end_speed = wp.min(t.vehicle[b, s].end_speed, t.item[b, at + i].stopping)
            leaves = bool(r.link_kind[t.item[b, at + i].link] == EXIT and i > 0)
            if leaves:
                leaves = t.item[b, at + i - 1].request
            if t.item[b, at + i].distance >= brake + real(0.1) and not leaves:
                t.item[b, at + i].request = False
