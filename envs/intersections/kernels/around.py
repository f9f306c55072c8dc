"""Who is ahead, behind and beside on another lane; see `reference.changing`."""

import warp as wp

from fedsched.envs.intersections.kernels.following import brake_gap, braking_gap, secure_gap
from fedsched.envs.intersections.kernels.junctions import crossing_leader
from fedsched.envs.intersections.kernels.lists import rear_of
from fedsched.envs.intersections.kernels.state import REARS, Road, Traffic, real
from fedsched.envs.intersections.kernels.ways import is_red, leader_on, link_from, next_lane

UPSTREAM_M = wp.constant(real(100.0))
STACK = wp.constant(32)


@wp.struct
class Around:
    """Vehicles around a place on a lane, -1 for none; gaps in m with the least gap of the one behind taken off."""

    leader: wp.int32
    front: real
    follower: wp.int32
    back: real


@wp.func
def is_open_to(r: Road, t: Traffic, b: int, kind: int, lane: int) -> bool:
    return (r.lane_allowed[t.open_lanes[b] + lane] >> r.vehicle_class[kind]) & 1 == 1


@wp.func
def secure_at(r: Road, t: Traffic, b: int, follower: int, leader: int, speed: real, leader_speed: real) -> real:
    """The gap that a follower needs at these speeds, m; less where it brakes already."""
    k = t.vehicle[b, follower].kind
    decel = r.decel[t.vehicle[b, leader].kind]
    gap = secure_gap(speed, leader_speed, r.decel[k], r.tau[k], decel)
    acceleration = t.vehicle[b, follower].acceleration
    if acceleration < real(-1.0e-3):
        gap = wp.min(gap, braking_gap(speed, leader_speed, -acceleration, decel))
    return gap


@wp.func
def secure(r: Road, t: Traffic, b: int, follower: int, leader: int) -> real:
    return secure_at(r, t, b, follower, leader, t.vehicle[b, follower].speed, t.vehicle[b, leader].speed)


@wp.func
def leader_beyond(r: Road, t: Traffic, b: int, s: int, from_lane: int):
    """The first vehicle on the lanes that continue the route, and m to its rear."""
    lane = int(from_lane)
    kind = t.vehicle[b, s].kind
    seen = real(r.lane_length[lane] - t.vehicle[b, s].position)
    place = int(t.vehicle[b, s].place)
    speed = t.vehicle[b, s].speed
    reach = speed + brake_gap(speed, r.decel[kind], r.tau[kind]) + real(10.0)
    if r.lane_internal[lane]:
        beside_it, gap_to_it = crossing_leader(r, t, b, s, lane, -t.vehicle[b, s].position)
        if beside_it >= 0:
            return beside_it, gap_to_it
    while seen < reach:
        if not r.lane_internal[lane] and place >= t.vehicle[b, s].last:
            break
        link = link_from(r, t, b, s, lane, place)
        if link < 0:
            break
        if is_red(t, b, link):
            break
        lane = r.link_next[link]
        if r.lane_internal[lane]:
            crossing, gap = crossing_leader(r, t, b, s, lane, seen)
            if crossing >= 0:
                return crossing, gap
        else:
            place += 1
        found, rear = leader_on(r, t, b, s, lane, False)
        if found >= 0:
            return found, rear + seen - r.gap[kind]
        seen += r.lane_length[lane]
    return -1, real(0.0)


@wp.func
def follower_beyond(r: Road, t: Traffic, b: int, s: int, lane: int):
    """Of the vehicles that come onto a lane next, the one that leaves least; and its gap."""
    best = int(-1)
    best_gap = real(0.0)
    best_room = real(1.0e9)
    depth = int(0)
    rear = rear_of(r, t, b, s)
    for i in range(r.lane_before_begin[lane], r.lane_before_begin[lane + 1]):
        if depth < STACK:
            t.stack[b, depth] = r.lane_before[i]
            t.stack_at[b, depth] = rear
            depth += 1
    while depth > 0:
        depth -= 1
        source = t.stack[b, depth]
        start = t.stack_at[b, depth]
        if start <= UPSTREAM_M:
            other = int(t.lane_first[b, source])
            if other == s:
                other = t.vehicle[b, other].after
            length = r.lane_length[source]
            if other >= 0:
                gap = start + length - t.vehicle[b, other].position - r.gap[t.vehicle[b, other].kind]
                room = gap - secure(r, t, b, other, s)
                if room < best_room:
                    best = other
                    best_gap = gap
                    best_room = room
            else:
                for i in range(r.lane_before_begin[source], r.lane_before_begin[source + 1]):
                    if depth < STACK:
                        t.stack[b, depth] = r.lane_before[i]
                        t.stack_at[b, depth] = start + length
                        depth += 1
    return best, best_gap


@wp.func
def look_around(r: Road, t: Traffic, b: int, s: int, lane: int) -> Around:
    """Everyone but a follower who is not on the lane yet."""
    found = Around()
    found.leader = -1
    found.follower = -1
    position = t.vehicle[b, s].position
    rear = rear_of(r, t, b, s)
    min_gap = r.gap[t.vehicle[b, s].kind]
    other = int(t.lane_last[b, lane])
    while other >= 0:
        if t.vehicle[b, other].position >= position:
            found.leader = other
            break
        found.follower = other
        other = t.vehicle[b, other].ahead
    if found.follower >= 0:
        at = t.vehicle[b, found.follower].position
        found.back = rear - at - r.gap[t.vehicle[b, found.follower].kind]
    if found.leader >= 0:
        found.front = rear_of(r, t, b, found.leader) - position - min_gap
    node = int(t.rear_first[b, lane])
    while node >= 0:
        sticking = node / REARS
        gap = t.rear_at[b, node] - position - min_gap
        if sticking != s and (found.leader < 0 or gap < found.front):
            found.leader = sticking
            found.front = gap
        node = t.rear_next[b, node]
    if found.leader < 0:
        leader, front = leader_beyond(r, t, b, s, lane)
        found.leader = leader
        found.front = front
    return found


@wp.func
def look_behind(r: Road, t: Traffic, b: int, s: int, lane: int, around: Around) -> Around:
    """The same with the follower who is not on the lane yet: few need him, and it takes long to find him."""
    found = around
    if found.follower < 0:
        follower, back = follower_beyond(r, t, b, s, lane)
        found.follower = follower
        found.back = back
    return found


@wp.func
def beside(r: Road, lane: int, offset: int) -> int:
    """The lane so many to the left on the same edge; the lane itself where that edge has none."""
    other = lane + offset
    if other < 0 or other >= r.lane_edge.shape[0]:
        return lane
    if r.lane_edge[other] != r.lane_edge[lane]:
        return lane
    return other


@wp.func
def is_close_behind(r: Road, t: Traffic, b: int, s: int, around: Around) -> bool:
    if around.follower < 0:
        return False
    return around.back < secure(r, t, b, around.follower, s)


@wp.func
def load_of(r: Road, t: Traffic, b: int, lane: int) -> real:
    """m that the vehicles on a lane take with their gaps; summed once as long as nobody changes onto it or off it."""
    if t.load_at[b, lane] != t.now[b]:
        total = real(0.0)
        other = int(t.lane_first[b, lane])
        while other >= 0:
            total += r.size[t.vehicle[b, other].kind] + r.gap[t.vehicle[b, other].kind]
            other = t.vehicle[b, other].after
        t.load[b, lane] = total
        t.load_at[b, lane] = t.now[b]
    return t.load[b, lane]


@wp.func
def occupied(r: Road, t: Traffic, b: int, s: int, from_lane: int) -> real:
    """m that the vehicles ahead take on a lane and on the lanes that continue the route from it."""
    lane = int(from_lane)
    total = real(0.0)
    place = int(t.vehicle[b, s].place)
    other = int(t.lane_first[b, lane])
    position = t.vehicle[b, s].position
    while other >= 0 and t.vehicle[b, other].position > position:
        if other != s:
            total += r.size[t.vehicle[b, other].kind] + r.gap[t.vehicle[b, other].kind]
        other = t.vehicle[b, other].after
    if r.lane_internal[lane]:
        lane = r.link_target[r.lane_link[lane]]
        place += 1
    end = r.way_length[t.vehicle[b, s].way + place, r.lane_index[lane]]
    covered = real(r.lane_length[lane])
    while covered < end:
        onto = next_lane(r, t, b, s, lane, place)
        if onto < 0:
            break
        lane = onto
        if not r.lane_internal[lane]:
            place += 1
            covered += r.lane_length[lane]
        total += load_of(r, t, b, lane)
    return total
