"""Inside junctions: whom a vehicle must let pass, and whether a minor link is open.

Sources: the rules of SUMO's MSLink (getLeaderInfo, opened, blockedByFoe) and MSVehicle (isLeader) in our own words.
"""

from dataclasses import dataclass

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.state import NEVER, STANDING, Item, Street, Vehicle
from fedsched.envs.intersections.tables import ConflictKind, LinkKind

PATIENCE_S = 5
"""s that a leader on a junction may stand before the right of way is given up."""
IMPATIENT_AFTER_S = 180.0
"""s of waiting after which a driver forces its way."""
LOOK_AHEAD_S = 1.0
"""s between two vehicles that cross."""


@dataclass(frozen=True, slots=True)
class Way:
    """What a junction leaves of a speed.

    Attributes:
        speed: m/s.
        yields: Whether the right of way is given up because a leader stands.
    """

    speed: float
    yields: bool


def junction_speed(street: Street, ego: Vehicle, lane: int, start: float, speed: float, floor: float) -> Way:
    """The speed that the vehicles on conflicting lanes leave.

    Args:
        street: The street.
        ego: The vehicle that plans.
        lane: An internal lane on its way.
        start: m from its front to the lane's start; negative where it is on the lane.
        speed: m/s so far.
        floor: m/s that it may go in any case, up to the line before the junction.
    """
    yields = False
    if start >= 0 and leftover(street, lane):
        speed = min(speed, floor)
    for q in range(street.conflict_begin[lane], street.conflict_begin[lane + 1]):
        if start + street.own_end[q] < 0 and street.conflict_kind[q] != ConflictKind.MERGE:
            continue
        other = street.conflict_lane[q]
        for rear, front, leader in _occupants(street, other):
            if leader is ego or rear > street.other_end[q]:
                continue
            if not _counts(street, ego, leader, q, lane, start, front):
                continue
            safe = _conflict_speed(street, ego, leader, q, start, rear)
            held = max(safe, floor)
            if held < speed:
                speed = held
            if safe < STANDING and (leader.waiting > PATIENCE_S or _same_origin(street, lane, other)):
                yields = True
    return Way(speed, yields)


def leftover(street: Street, lane: int) -> bool:
    """Whether a vehicle is left over on the waiting area of a foe whose entry is red by now."""
    entry = street.entry_of[lane]
    if street.link_kind[street.link_begin[lane]] == LinkKind.EXIT and street.next[entry] != lane:
        return False
    for foe in street.foe[street.foe_begin[entry] : street.foe_begin[entry + 1]]:
        if street.cont[foe] and street.is_red(foe) and street.edge[street.source[foe]] != street.edge[street.source[entry]]:
            if street.on[street.next[foe]]:
                return True
    return False


def _occupants(street: Street, lane: int) -> list[tuple[float, float, Vehicle]]:
    """Rear and front (m from the lane's start) of everyone on a lane, sticking rears included."""
    fronts = [(street.rear(v), v.position, v) for v in street.on[lane]]
    return fronts + [(rear, rear + street.size[v.kind], v) for rear, v in street.rears[lane]]


def _same_origin(street: Street, lane: int, other: int) -> bool:
    return bool(street.source[street.entry_of[lane]] == street.source[street.entry_of[other]])


def _counts(street: Street, ego: Vehicle, other: Vehicle, q: int, lane: int, start: float, front: float) -> bool:
    """Whether `other` goes first."""
    kind = street.conflict_kind[q]
    inside = front > street.other_begin[q]
    if kind != ConflictKind.SIBLING and other.speed < STANDING and not inside and not _wants(street, other, q):
        return False
    if not street.internal[ego.lane]:
        return True
    if kind == ConflictKind.CROSSING and inside and start + street.own_begin[q] > 0:
        return True
    if _same_origin(street, lane, street.conflict_lane[q]):
        first, second = ego.junction_entry, other.junction_entry
    else:
        first, second = _times(street, ego, other, q, lane)
    if first != second:
        return first > second
    if other.speed != ego.speed:
        return other.speed > ego.speed
    return other.id < ego.id


def _wants(street: Street, vehicle: Vehicle, q: int) -> bool:
    """Whether a vehicle meant to leave the conflicting lane in the second before."""
    lane = street.conflict_lane[q]
    if vehicle.lane != lane:
        return True
    link = street.link_begin[lane]
    return any(item.link == link and item.request for item in vehicle.items)


def _times(street: Street, ego: Vehicle, other: Vehicle, q: int, lane: int) -> tuple[int, int]:
    """The times that decide who goes first: the own and the other's."""
    own_entry, foe_entry = street.entry_of[lane], street.entry_of[street.conflict_lane[q]]
    yields, yielded = street.must_yield[q], street.other_yields[q]
    own_red, foe_red = street.is_red(own_entry), street.is_red(foe_entry)
    if own_red != foe_red:
        yields, yielded = foe_red, own_red
    elif street.is_yellow(own_entry) and street.is_yellow(foe_entry):
        slower = (ego.speed, -ego.id) < (other.speed, -other.id)
        yields, yielded = slower, not slower
    elif street.has_priority(own_entry) != street.has_priority(foe_entry):
        yields, yielded = street.has_priority(foe_entry), street.has_priority(own_entry)
    if not yields:
        return ego.junction_entry, other.conflict_entry
    if yielded:
        return ego.conflict_entry, other.conflict_entry
    return ego.conflict_entry, other.junction_entry


def _conflict_speed(street: Street, ego: Vehicle, leader: Vehicle, q: int, start: float, rear: float) -> float:
    """Safe speed behind a vehicle on a conflicting lane, both laid over each other at the shared zone."""
    kind = ego.kind
    zone = start + street.own_begin[q]
    gap = zone - street.gap[kind] - (street.other_begin[q] - rear)
    crossing = street.conflict_kind[q] == ConflictKind.CROSSING
    if crossing:
        gap -= street.other_end[q] - street.other_begin[q]
    accel, decel = street.accel[kind], street.decel[kind]
    if gap >= 0:
        safe = krauss.follow_speed(
            gap, ego.speed, leader.speed, accel, decel, street.tau[kind], street.decel[leader.kind]
        )
    else:
        safe = min(krauss.stop_speed(start, decel, 1.0), ego.speed + accel)
    room = zone - street.gap[kind]
    if crossing and room > 0:
        # up to the zone the vehicle may roll, and be there when the leader has cleared it
        seconds = (zone - gap) / max(leader.speed, 0.1)
        final = max(ego.speed, 2 * room / seconds - ego.speed)
        roll = min(ego.speed + (final - ego.speed) / seconds, krauss.stop_speed(room, decel, 1.0))
        safe = max(safe, roll)
    return safe


def is_open(street: Street, ego: Vehicle, item: Item) -> bool:
    """Whether a link may be passed: its signal, and gap acceptance where it is minor."""
    link = item.link
    kind = street.link_kind[link]
    if kind == LinkKind.EXIT:
        return True
    if kind == LinkKind.INNER:
        entry = street.link_entry[link]
        if street.link_state[entry] == "G":
            return True
    else:
        entry = link
        if street.is_red(link):
            return item.distance < krauss.brake_gap(ego.speed, street.decel[ego.kind], 0.0)
        if street.is_yellow(link) or street.has_priority(link) or street.cont[link]:
            return True
        if street.link_state[link] == "s" and ego.waiting == 0:
            return False
    impatience = min(1.0, ego.waiting / IMPATIENT_AFTER_S)
    only_moving = kind == LinkKind.INNER and street.is_red(entry)
    for foe_link in street.response[street.response_begin[link] : street.response_begin[link + 1]]:
        same = street.target[foe_link] == street.target[link]
        for foe, plan in street.approaching[foe_link]:
            if foe is ego or (only_moving and foe.speed < STANDING):
                continue
            if _blocked(street, ego, item, foe, plan, same, impatience):
                return False
    return True


def _blocked(
    street: Street, ego: Vehicle, own: Item, foe: Vehicle, other: Item, same: bool, impatience: float
) -> bool:
    """Whether the windows of time overlap too far."""
    b, c = street.decel[ego.kind], street.decel[foe.kind]
    if other.leave < own.arrival:
        if not same:
            return False
        return own.arrival - other.leave < LOOK_AHEAD_S or _unsafe(other.leave_speed, own.arrival_speed, c, b)
    arrival = (1 - impatience) * other.arrival + impatience * other.arrival_braking
    if arrival > own.leave + LOOK_AHEAD_S:
        return same and _unsafe(own.leave_speed, other.braking_speed, b, c)
    return True


def _unsafe(leader: float, follower: float, leader_decel: float, follower_decel: float) -> bool:
    return leader * leader / leader_decel <= follower * follower / follower_decel


def give_up(vehicle: Vehicle) -> None:
    """Lets everyone else on the junction go first."""
    vehicle.junction_entry = NEVER
    vehicle.conflict_entry = NEVER
