"""Whether a vehicle that departs may enter a lane at a place; see `reference.inserting`."""

import warp as wp

from fedsched.envs.intersections.kernels.around import follower_beyond, secure, secure_at
from fedsched.envs.intersections.kernels.following import brake_gap, free_speed, stop_speed
from fedsched.envs.intersections.kernels.lists import rear_of
from fedsched.envs.intersections.kernels.state import REARS, SIBLING, Road, Traffic, real
from fedsched.envs.intersections.kernels.ways import allowed, is_minor, is_red, is_yellow, leader_on, link_from

MARGIN = wp.constant(real(0.1))


@wp.func
def around_place(r: Road, t: Traffic, b: int, s: int, lane: int):
    """Of a vehicle that is not on the lane yet: who would be ahead, where that one's rear is, who would be behind."""
    behind = int(-1)
    ahead = int(t.lane_last[b, lane])
    while ahead >= 0 and t.vehicle[b, ahead].position < t.vehicle[b, s].position:
        behind = ahead
        ahead = t.vehicle[b, ahead].ahead
    rear = real(0.0)
    if ahead >= 0:
        rear = rear_of(r, t, b, ahead)
    node = int(t.rear_first[b, lane])
    while node >= 0:
        if ahead < 0 or t.rear_at[b, node] < rear:
            ahead = node / REARS
            rear = t.rear_at[b, node]
        node = t.rear_next[b, node]
    return ahead, rear, behind


@wp.func
def has_room(r: Road, t: Traffic, b: int, s: int) -> bool:
    """Whether there is any room at its place: what fails most often, before all else is looked at."""
    ahead, rear, _ = around_place(r, t, b, s, t.vehicle[b, s].lane)
    return ahead < 0 or rear - t.vehicle[b, s].position - r.gap[t.vehicle[b, s].kind] >= real(0.0)


@wp.func
def speed_behind(r: Road, t: Traffic, b: int, s: int, leader: int, gap: real) -> real:
    """The speed at which the vehicle may enter behind a leader; negative where there is no room."""
    if gap < real(0.0):
        return real(-1.0)
    kind = t.vehicle[b, s].kind
    decel = r.decel[kind]
    room = gap + brake_gap(t.vehicle[b, leader].speed, wp.max(decel, r.decel[t.vehicle[b, leader].kind]), real(0.0))
    return stop_speed(room, decel, r.tau[kind])


@wp.func
def somebody_crosses(r: Road, t: Traffic, b: int, lane: int) -> bool:
    """Whether somebody is on a lane inside the junction that crosses this one or merges with it."""
    found = bool(False)
    for q in range(r.conflict_begin[lane], r.conflict_begin[lane + 1]):
        other = r.conflict_lane[q]
        if r.conflict_kind[q] != SIBLING and (t.lane_first[b, other] >= 0 or t.rear_first[b, other] >= 0):
            found = True
    return found


@wp.func
def speed_beyond(r: Road, t: Traffic, b: int, s: int, adapts: bool) -> real:
    """The speed that the lanes ahead allow; negative where it may not enter."""
    kind = t.vehicle[b, s].kind
    speed = real(t.vehicle[b, s].speed)
    lane = int(t.vehicle[b, s].lane)
    place = int(0)
    decel, tau = r.decel[kind], r.tau[kind]
    seen = real(r.lane_length[lane] - t.vehicle[b, s].position)
    while seen < brake_gap(speed, decel, tau) + r.gap[kind] and (
        r.lane_internal[lane] or place != t.vehicle[b, s].last
    ):
        link = link_from(r, t, b, s, lane, place)
        line = stop_speed(seen, decel, real(1.0))
        bound = speed
        closed = link < 0
        if not closed:
            closed = is_red(t, b, link) or is_yellow(t, b, link) or is_minor(r, t, b, link)
        if closed:
            bound = line
        else:
            lane = r.link_next[link]
            leader, rear = leader_on(r, t, b, s, lane, False)
            if leader >= 0:
                bound = wp.min(bound, speed_behind(r, t, b, s, leader, rear + seen - r.gap[kind]))
        if bound < speed:
            if not adapts or bound < real(0.0):
                return real(-1.0)
            speed = bound
        if closed:
            break
        speed = wp.min(speed, free_speed(seen, allowed(r, t, b, s, lane), decel))
        if speed > line and somebody_crosses(r, t, b, lane):
            if not adapts:
                return real(-1.0)
            speed = line
        if not r.lane_internal[lane]:
            place += 1
        seen += r.lane_length[lane]
    return speed


@wp.func
def is_safe(r: Road, t: Traffic, b: int, s: int, adapts: bool) -> bool:
    """Whether it may enter with its speed, or with the lower one that it adapts to."""
    speed = speed_beyond(r, t, b, s, adapts)
    if speed < real(0.0):
        return False
    lane = t.vehicle[b, s].lane
    leader, rear, behind = around_place(r, t, b, s, lane)
    if leader >= 0:
        bound = speed_behind(r, t, b, s, leader, rear - t.vehicle[b, s].position - r.gap[t.vehicle[b, s].kind])
        if bound < speed:
            if not adapts or bound < real(0.0):
                return False
            speed = bound
    t.vehicle[b, s].speed = speed
    follower = int(behind)
    back = real(0.0)
    if follower >= 0:
        back = rear_of(r, t, b, s) - t.vehicle[b, follower].position - r.gap[t.vehicle[b, follower].kind]
    else:
        beyond, beyond_gap = follower_beyond(r, t, b, s, lane)
        follower = beyond
        back = beyond_gap
    if follower >= 0:
        if back < wp.max(real(0.0), secure(r, t, b, follower, s)):
            return False
    return True


@wp.func
def enters_behind(r: Road, t: Traffic, b: int, s: int, ahead: int, follower: int, wanted: real) -> bool:
    """Between two vehicles, as near to the follower as it allows."""
    lane = t.vehicle[b, s].lane
    kind = t.vehicle[b, s].kind
    speed = real(wanted)
    front = real(r.lane_length[lane])
    leader = int(ahead)
    rear = real(0.0)
    if leader >= 0:
        rear = rear_of(r, t, b, leader)
    else:
        node = int(t.rear_first[b, lane])
        while node >= 0:
            if leader < 0 or t.rear_at[b, node] < rear:
                leader = node / REARS
                rear = t.rear_at[b, node]
            node = t.rear_next[b, node]
    if leader >= 0:
        speed = wp.min(speed, t.vehicle[b, leader].speed)
        front = rear - secure_at(r, t, b, s, leader, speed, t.vehicle[b, leader].speed) - r.gap[kind]
    t.vehicle[b, s].speed = real(0.0)
    back = t.vehicle[b, follower].position + r.gap[t.vehicle[b, follower].kind]
    back += secure(r, t, b, follower, s) + r.size[kind] + MARGIN
    if front <= real(0.0) or back >= front:
        return False
    t.vehicle[b, s].position = back
    t.vehicle[b, s].speed = speed
    return is_safe(r, t, b, s, True)


@wp.func
def enters_anywhere(r: Road, t: Traffic, b: int, s: int, wanted: real) -> bool:
    """At the lane's start, with the rear before it; or else in the first gap that is wide enough."""
    lane = t.vehicle[b, s].lane
    t.vehicle[b, s].position = real(0.0)
    t.vehicle[b, s].speed = real(0.0)
    first = t.lane_first[b, lane]
    if first < 0:
        follower, gap = follower_beyond(r, t, b, s, lane)
        missing = real(0.0)
        if follower >= 0:
            need_behind = secure_at(r, t, b, follower, s, t.vehicle[b, follower].speed, wanted)
            missing = wp.max(real(0.0), need_behind - gap)
        if missing > r.lane_length[lane]:
            return False
        t.vehicle[b, s].position = missing
        t.vehicle[b, s].speed = wanted
        return is_safe(r, t, b, s, True)
    slow = t.vehicle[b, first].speed
    need = secure_at(r, t, b, s, first, slow, slow) + r.gap[t.vehicle[b, s].kind]
    if rear_of(r, t, b, first) >= need:
        t.vehicle[b, s].speed = wp.min(wanted, speed_behind(r, t, b, s, first, need))
        if is_safe(r, t, b, s, True):
            return True
    other = int(t.lane_last[b, lane])
    while other >= 0:
        ahead = t.vehicle[b, other].ahead
        if enters_behind(r, t, b, s, ahead, other, wanted):
            return True
        other = ahead
    return False
