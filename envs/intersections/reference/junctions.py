"""Inside junctions: whom a vehicle must let pass, and whether a link is open.

Sources: what SUMO's MSLink (getLeaderInfo, opened, blockedByFoe) and MSVehicle (isLeader, adaptToJunctionLeader) do, in
our own words.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.state import STANDING, Item, Street, Vehicle
from fedsched.envs.intersections.tables import ConflictKind, LinkKind

PATIENCE_S = 5
"""s that a leader on a junction may stand before the right of way is given up."""
IMPATIENT_AFTER_S = 180.0
"""s of waiting after which a driver forces its way."""
LOOK_AHEAD_S = 1.0
"""s between two vehicles that cross."""
STOPS_S = 30.0
"""s by which a foe is late that can stop."""
FREE = 1e9
"""A speed that nothing limits."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What one vehicle on a conflicting lane means for the one that plans.

    Attributes:
        speed: m/s that it leaves.
        yields: Whether it stands so that the right of way is given up.
    """

    speed: float
    yields: bool


def holds(street: Street, ego: Vehicle, lane: int, start: float) -> list[Hold]:
    """All that hold up `ego` on an internal lane of its way, `start` m ahead (negative where it is on it)."""
    found = []
    for q, point in _conflicts_ahead(street, lane, start):
        other = street.conflict_lane[q]
        for rear, leader in _occupants(street, other):
            if leader is not ego:
                speed = _held(street, ego, leader, q, lane, start, point, rear)
                if speed is not None:
                    found.append(Hold(speed, _stands(street, ego, leader)))
    return found


def _conflicts_ahead(street: Street, lane: int, start: float) -> Iterator[tuple[int, float]]:
    """Conflicts of an internal lane that are not passed yet, with where they begin in m ahead."""
    for q in range(street.conflict_begin[lane], street.conflict_begin[lane + 1]):
        kind = street.conflict_kind[q]
        point = start + (street.own_end[q] if kind == ConflictKind.SIBLING else street.own_begin[q])
        width = street.own_end[q] - street.own_begin[q] if kind == ConflictKind.CROSSING else 0.0
        if point + width < 0 and kind != ConflictKind.MERGE:
            continue
        yield q, point


def _occupants(street: Street, lane: int) -> list[tuple[float, Vehicle]]:
    """Rears (m from the lane's start) of everyone on a lane, those who have moved on included."""
    return [(street.rear(v), v) for v in street.on[lane]] + street.rears[lane]


def _stands(street: Street, ego: Vehicle, leader: Vehicle) -> bool:
    """Whether waiting for this leader means giving up the right of way."""
    before = street.source[street.link_into[leader.lane]] if street.internal[leader.lane] else -1
    own_before = street.source[street.link_into[ego.lane]] if street.internal[ego.lane] else -2
    return leader.waiting > PATIENCE_S or before in (own_before, ego.lane)


def crossing_leader(street: Street, ego: Vehicle, lane: int, start: float) -> tuple[Vehicle | None, float]:
    """Of the vehicles that cross or join an internal lane `start` m ahead the one that leaves least, and the gap."""
    best: tuple[float, Vehicle | None, float] = (FREE, None, 0.0)
    for q, point in _conflicts_ahead(street, lane, start):
        for rear, leader in _occupants(street, street.conflict_lane[q]):
            met = _meeting(street, ego, leader, q, lane, point, rear) if leader is not ego else None
            if met is not None and (lane != ego.lane or met[1] or _goes_first(street, ego, leader, q, lane, met[0])):
                reach = met[0] + krauss.brake_gap(leader.speed, street.decel[leader.kind], 0.0)
                if reach < best[0]:
                    best = (reach, leader, met[0])
    return best[1], best[2]


def _held(
    street: Street, ego: Vehicle, leader: Vehicle, q: int, lane: int, start: float, point: float, rear: float
) -> float | None:
    """The speed that one vehicle on a conflicting lane leaves; None where it does not matter."""
    met = _meeting(street, ego, leader, q, lane, point, rear)
    if met is None:
        return None
    gap, in_the_way = met
    if not in_the_way and not _goes_first(street, ego, leader, q, lane, gap):
        return None
    kind, other = street.conflict_kind[q], street.conflict_lane[q]
    before_waiting = street.waiting_lane[other] and not street.waiting_lane[lane] and not street.after_waiting[lane]
    asap = kind in (ConflictKind.MERGE, ConflictKind.SIBLING) or street.after_waiting[lane]
    asap = asap or (leader.lane == other and before_waiting)
    return _speed_for(street, ego, leader, gap, start, -1.0 if asap else point)


def _meeting(
    street: Street, ego: Vehicle, leader: Vehicle, q: int, lane: int, point: float, rear: float
) -> tuple[float, bool] | None:
    """The gap to a vehicle on a conflicting lane, and whether it is in the way; None where it does not matter."""
    kind, other = street.conflict_kind[q], street.conflict_lane[q]
    merge, sibling = kind == ConflictKind.MERGE, kind == ConflictKind.SIBLING
    size = street.size[leader.kind]
    waits = street.waiting_lane[other]
    before_waiting = waits and not street.waiting_lane[lane] and not street.after_waiting[lane]
    foe_width = street.other_end[q] - street.other_begin[q] if kind == ConflictKind.CROSSING else 0.0
    rear_distance = (street.other_end[q] if sibling else street.other_begin[q]) - rear
    past = rear_distance + foe_width + _bend(street.radius[lane], street.size[ego.kind]) < 0
    in_the_way = rear_distance < size and not waits
    in_the_way = in_the_way and ((not past and point > 0) or (merge and point > rear_distance - size))
    on_lane = leader.lane == other
    if not in_the_way:
        if before_waiting and _both_green(street, lane, other):
            return None
        if point < -0.1:
            return None
        if (merge or not (before_waiting or sibling)) and on_lane and not leader.wants:
            return None
    if sibling and waits and street.after_waiting[lane] and leader.speed < STANDING:
        return None  # who has left the waiting area does not wait for one that stands there
    if sibling and street.edge[ego.lane] == street.edge[lane] and rear + size < ego.position - street.size[ego.kind]:
        return None
    always = before_waiting and not sibling
    if not always and past and not merge:
        return None
    if merge and rear_distance < 0:
        own_behind = street.length[lane] - street.own_begin[q]
        rear_distance += max(0.0, street.length[other] - street.other_begin[q] - own_behind)
    gap = -FREE if always else point - street.gap[ego.kind] - rear_distance - foe_width
    return gap, in_the_way


def _bend(radius: float, size: float) -> float:
    """M by which a vehicle in a bend bulges inwards: the height of the arc over its length and 2 m."""
    half = (size + 2) / 2
    return radius - math.sqrt(radius * radius - half * half) if half < radius < FREE else 0.0


def _both_green(street: Street, lane: int, other: int) -> bool:
    own, foe = street.entry_of[lane], street.entry_of[other]
    return street.is_green(own) and street.is_green(foe) and street.source[own] != street.source[foe]


def _speed_for(street: Street, ego: Vehicle, leader: Vehicle, gap: float, start: float, point: float) -> float:
    """Safe speed behind a vehicle on a conflicting lane, both laid over each other at the point where they meet."""
    kind = ego.kind
    accel, decel = street.accel[kind], street.decel[kind]
    if gap >= 0:
        safe = krauss.follow_speed(
            gap, ego.speed, leader.speed, accel, decel, street.tau[kind], street.decel[leader.kind]
        )
    else:
        safe = min(krauss.stop_speed(start - 0.1, decel, 1.0), ego.speed + accel)
    if point < 0:
        return safe
    # up to the meeting point the vehicle may roll, to be there when the leader has cleared it
    room = point - street.gap[kind]
    stop = min(krauss.stop_speed(room, decel, 1.0), ego.speed + accel)
    if gap == -FREE:
        return max(safe, stop)
    seconds = (point - gap) / max(leader.speed, STANDING)
    final = max(ego.speed, 2 * room / seconds - ego.speed)
    return max(safe, min(ego.speed + (final - ego.speed) / seconds, stop))


def _goes_first(street: Street, ego: Vehicle, other: Vehicle, q: int, lane: int, gap: float) -> bool:
    """Whether `other` goes first: for those before the junction always, on it by time and right of way."""
    if not street.internal[ego.lane] or street.junction[ego.lane] != street.junction[lane]:
        return True
    if not street.internal[other.lane] or street.junction[other.lane] != street.junction[lane]:
        return True
    own_entry, foe_entry = street.entry_of[lane], street.entry_of[other.lane]
    if street.source[own_entry] == street.source[foe_entry]:
        first, second = ego.first_entry, other.first_entry
    else:
        yields, yielded = _right_of_way(street, ego, other, q, gap)
        first = ego.conflict_entry if yields else ego.junction_entry
        second = other.junction_entry if yields and not yielded else other.conflict_entry
    if first != second:
        return first > second
    if other.speed != ego.speed:
        return other.speed > ego.speed
    return ego.id < other.id


def _right_of_way(street: Street, ego: Vehicle, other: Vehicle, q: int, gap: float) -> tuple[bool, bool]:
    """Whether ego must yield to the other, and the other to ego."""
    own_entry, foe_entry = street.entry_of[ego.lane], street.entry_of[other.lane]
    own_red, foe_red = street.is_red(own_entry), street.is_red(foe_entry)
    if own_red or foe_red:
        if not foe_red and other.speed > STANDING and gap < 0:
            k = other.kind
            brake = krauss.brake_gap(other.speed, street.decel[k], street.tau[k])
            cannot_stop = -gap - street.size[k] < brake
            return cannot_stop, not cannot_stop
        return foe_red, own_red
    if street.has_priority(own_entry) != street.has_priority(foe_entry):
        return not street.has_priority(own_entry), not street.has_priority(foe_entry)
    if street.is_yellow(own_entry) and street.is_yellow(foe_entry):
        return other.speed >= ego.speed, ego.speed >= other.speed
    return street.must_yield[q], street.other_yields[q]


def is_open(street: Street, ego: Vehicle, item: Item, can_stop: bool, now: int) -> bool:
    """Whether a link may be passed: its signal, and gap acceptance where it is minor."""
    link = item.link
    if street.is_red(link):
        return False
    if street.cont[link] or street.has_priority(link):
        return True
    inner = street.link_kind[link] == LinkKind.INNER
    entry = street.link_entry[link]
    if inner and street.link_state[entry] == "G":
        return True
    if street.link_state[link] in "sw" and ego.waiting == 0:
        return False
    impatience = min(1.0, ego.waiting / IMPATIENT_AFTER_S) if can_stop else 1.0
    for foe_link in street.response[street.response_begin[link] : street.response_begin[link + 1]]:
        same = street.lane_after[foe_link] == street.lane_after[link]
        for foe, plan in street.approaching[foe_link]:
            if foe is ego:
                continue
            if _blocked(street, ego, item, foe, plan, same, impatience, now):
                return False
    return True


def _blocked(
    street: Street, ego: Vehicle, own: Item, foe: Vehicle, other: Item, same: bool, impatience: float, now: int
) -> bool:
    """Whether the windows of time overlap too far."""
    b, c = street.decel[ego.kind], street.decel[foe.kind]
    arrival, braking_speed = other.arrival, other.braking_speed
    if impatience > 0 and own.arrival < arrival:
        braked, braking_speed = _if_braked(own.arrival, other, c * impatience, now)
        arrival = (1 - impatience) * arrival + impatience * braked
    if other.leave < own.arrival:
        if not same:
            return False
        return own.arrival - other.leave < LOOK_AHEAD_S or _unsafe(other.leave_speed, own.arrival_speed, c, b)
    if arrival > own.leave + LOOK_AHEAD_S:
        return same and _unsafe(own.leave_speed, braking_speed, b, c)
    return True


def _if_braked(own_arrival: float, foe: Item, decel: float, now: int) -> tuple[float, float]:
    """When a foe would arrive, and how fast, if it braked from the moment of the own arrival."""
    if math.floor(own_arrival) == math.floor(foe.arrival):
        return foe.arrival, foe.braking_speed
    late = foe.arrival - own_arrival
    speed = foe.distance / (foe.arrival - now + 1)
    left = foe.distance - speed * (own_arrival - now)
    if 0.5 * speed * speed / decel <= left:
        return foe.arrival + STOPS_S, 0.0
    slower = late * decel
    root = max(0.0, 4 * (speed - slower) ** 2 - 4 * decel * late * slower)
    more = (speed - slower - 0.5 * math.sqrt(root)) / decel
    return foe.arrival + more, speed - (late + more) * decel


def _unsafe(leader: float, follower: float, leader_decel: float, follower_decel: float) -> bool:
    return leader * leader / leader_decel <= follower * follower / follower_decel
