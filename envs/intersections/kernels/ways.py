"""What a vehicle reads off the road: its limit, its next link, who is ahead."""

import warp as wp

from fedsched.envs.intersections.kernels.following import follow_speed, stop_speed
from fedsched.envs.intersections.kernels.lists import rear_of
from fedsched.envs.intersections.kernels.state import (
    BIG_YELLOW,
    GREEN,
    INNER,
    REARS,
    RED,
    SMALL_GREEN,
    YELLOW,
    Road,
    Traffic,
    real,
)


@wp.func
def close_lanes(r: Road, t: Traffic, b: int):
    """Closes and opens lanes whose time has come: everyone reads the ways of the streets as they are then."""
    while r.change_s[t.change[b]] <= t.now[b]:
        n = t.change[b]
        shift = r.change_ways[n] - t.open_ways[b]
        for s in range(t.count[b]):
            t.vehicle[b, s].way = t.vehicle[b, s].way + shift
        t.open_ways[b] = r.change_ways[n]
        t.open_lanes[b] = r.change_lanes[n]
        t.change[b] = n + 1


@wp.func
def allowed(r: Road, t: Traffic, b: int, s: int, lane: int) -> real:
    return wp.min(r.lane_speed[lane] * t.vehicle[b, s].factor, r.fastest[t.vehicle[b, s].kind])


@wp.func
def link_from(r: Road, t: Traffic, b: int, s: int, lane: int, place: int) -> int:
    if r.lane_internal[lane]:
        return r.lane_link[lane]
    return r.way_link[t.vehicle[b, s].way + place, r.lane_index[lane]]


@wp.func
def next_lane(r: Road, t: Traffic, b: int, s: int, lane: int, place: int) -> int:
    """Where the route goes on from a lane; -1 where it ends, or does not go on from here."""
    if not r.lane_internal[lane] and place >= t.vehicle[b, s].last:
        return -1
    link = link_from(r, t, b, s, lane, place)
    if link < 0:
        return -1
    return r.link_next[link]


@wp.func
def is_red(t: Traffic, b: int, link: int) -> bool:
    return t.state[b, link] == RED


@wp.func
def is_yellow(t: Traffic, b: int, link: int) -> bool:
    return t.state[b, link] == YELLOW or t.state[b, link] == BIG_YELLOW


@wp.func
def has_priority(t: Traffic, b: int, link: int) -> bool:
    state = t.state[b, link]
    return state >= 65 and state <= 90


@wp.func
def is_green(t: Traffic, b: int, link: int) -> bool:
    return t.state[b, link] == GREEN or t.state[b, link] == SMALL_GREEN


@wp.func
def is_minor(r: Road, t: Traffic, b: int, link: int) -> bool:
    if has_priority(t, b, link):
        return False
    if r.link_kind[link] == INNER:
        entry = r.link_entry[link]
        return not (has_priority(t, b, entry) or is_yellow(t, b, entry))
    return True


@wp.func
def leader_on(r: Road, t: Traffic, b: int, s: int, lane: int, own: bool):
    """The next vehicle ahead on a lane (-1 for none), and its rear in m from the lane's start."""
    found = int(-1)
    rear = real(0.0)
    if own:
        found = t.vehicle[b, s].ahead
    else:
        found = t.lane_last[b, lane]
        if found == s:
            found = int(-1)
    if found >= 0:
        rear = rear_of(r, t, b, found)
    node = int(t.rear_first[b, lane])
    while node >= 0:
        other = node / REARS
        if other != s and (found < 0 or t.rear_at[b, node] < rear):
            found = other
            rear = t.rear_at[b, node]
        node = t.rear_next[b, node]
    return found, rear


@wp.func
def behind(r: Road, t: Traffic, b: int, s: int, leader: int, gap: real, speed: real) -> real:
    """Safe speed of a vehicle, now at `speed`, behind a leader."""
    k, j = t.vehicle[b, s].kind, t.vehicle[b, leader].kind
    return follow_speed(gap, speed, t.vehicle[b, leader].speed, r.accel[k], r.decel[k], r.tau[k], r.decel[j])


@wp.func
def before(r: Road, t: Traffic, b: int, s: int, gap: real) -> real:
    """Speed that stops before a line."""
    k = t.vehicle[b, s].kind
    return wp.min(stop_speed(gap, r.decel[k], real(1.0)), t.vehicle[b, s].speed + r.accel[k])
