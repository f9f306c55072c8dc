"""Planning: how fast every vehicle may go, link by link along its way, from the state of the second before.

Sources: the rules of SUMO's MSVehicle::planMove and MSLink in our own words, with SUMO's defaults.
"""

from dataclasses import dataclass, field

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.junctions import junction_speed
from fedsched.envs.intersections.reference.state import Item, Street, Vehicle
from fedsched.envs.intersections.tables import LinkKind

LINE_MARGIN = 0.1
"""m kept to the line of a minor link, and to whatever else must be stopped at."""
STOP_LINE = 1.0
"""m kept to the line of a signal or of a link with priority."""
VISIBILITY = 4.5
"""m before a minor link from which foes are seen."""
LOOK_AHEAD = 5.0
"""Vehicle lengths of normal lanes that a plan covers at least."""


@dataclass(slots=True)
class Plan:
    """What a vehicle means to do in this second.

    Attributes:
        items: The links on its way, in order.
        end_speed: m/s if all of them may be passed.
        yields: Whether it gives up its right of way on the junction.
    """

    items: list[Item] = field(default_factory=list)
    end_speed: float = 0.0
    yields: bool = False


def leader_on(street: Street, vehicle: Vehicle, lane: int, own: bool) -> tuple[float, Vehicle] | None:
    """The rear (m from the lane's start) of the next vehicle ahead on a lane, and the vehicle."""
    found: tuple[float, Vehicle] | None = None
    if own:
        for other in reversed(street.on[lane]):
            if other is not vehicle and (other.position, -other.id) > (vehicle.position, -vehicle.id):
                found = (street.rear(other), other)
                break
    elif street.on[lane]:
        other = street.on[lane][-1]
        found = (street.rear(other), other)
    for rear, other in street.rears[lane]:
        if other is not vehicle and (found is None or rear < found[0]):
            found = (rear, other)
    return found


def following(street: Street, ego: Vehicle, leader: Vehicle, gap: float) -> float:
    """Safe speed of `ego` behind `leader`, m/s."""
    k, j = ego.kind, leader.kind
    return krauss.follow_speed(
        gap, ego.speed, leader.speed, street.accel[k], street.decel[k], street.tau[k], street.decel[j]
    )


def stopping(street: Street, ego: Vehicle, gap: float) -> float:
    """Speed of `ego` that stops before a line `gap` m ahead, m/s."""
    k = ego.kind
    return min(krauss.stop_speed(gap, street.decel[k], 1.0), ego.speed + street.accel[k])


def is_minor(street: Street, link: int) -> bool:
    """Whether the vehicle must look for others at this link."""
    kind = street.link_kind[link]
    if kind == LinkKind.EXIT:
        return False
    if kind == LinkKind.INNER:
        entry = street.link_entry[link]
        return not (street.link_state[entry] == "G" or street.is_yellow(entry))
    return not street.has_priority(link)


def plan(street: Street, ego: Vehicle, now: int) -> Plan:
    """Plans one vehicle, looking along its way as far as it may have to brake for."""
    made = Plan()
    kind = ego.kind
    accel, decel, size = street.accel[kind], street.decel[kind], street.size[kind]
    lane, place = ego.lane, ego.place
    speed = min(ego.speed + accel, street.fastest[kind], max(street.allowed(ego, lane), ego.speed - decel))
    horizon = ego.speed + accel + krauss.brake_gap(ego.speed + accel, decel, street.tau[kind])
    brake = krauss.brake_gap(ego.speed, decel, 0.0)
    seen = street.length[lane] - ego.position
    inside, normal = (seen, 0.0) if street.internal[lane] else (0.0, seen)
    slowed = False
    if street.internal[lane]:
        way = junction_speed(street, ego, lane, -ego.position, speed, 0.0)
        speed, made.yields = way.speed, way.yields
    while True:
        speed = _behind_leader(street, ego, lane, seen, speed, made.items)
        if not street.internal[lane] and place == ego.last:
            break
        link = street.link_from(ego, lane, place)
        if link < 0:
            speed = min(speed, stopping(street, ego, seen))
            break
        item, slows, closed = _item(street, ego, link, seen, speed, brake, slowed, now)
        if not made.items and made.yields:
            item.request = False
        made.items.append(item)
        slowed = slowed or slows
        speed = item.passing
        if closed:
            break
        if (not item.request or speed <= 0 or seen > horizon) and normal > max(LOOK_AHEAD * size, size + inside):
            break
        lane = street.next[link]
        speed = min(speed, max(krauss.free_speed(seen, street.allowed(ego, lane), decel), ego.speed - decel))
        seen += street.length[lane]
        if street.internal[lane]:
            inside += street.length[lane]
        else:
            place += 1
            normal += street.length[lane]
    made.end_speed = speed
    _leave_times(street, ego, made.items)
    return made


def _behind_leader(street: Street, ego: Vehicle, lane: int, seen: float, speed: float, items: list[Item]) -> float:
    """The speed that the next vehicle ahead on a lane leaves; also what it means for the link before the lane."""
    leader = leader_on(street, ego, lane, own=not items)
    if leader is None:
        return speed
    start = seen - street.length[lane]
    gap = leader[0] + start - street.gap[ego.kind]
    safe = following(street, ego, leader[1], gap) if gap >= 0 else stopping(street, ego, start - LINE_MARGIN)
    if items:
        items[-1].leave_speed = min(items[-1].leave_speed, safe)
    return min(speed, safe)


def _line_offset(street: Street, ego: Vehicle, link: int, seen: float, brake: float) -> float:
    """m before the lane's end where the vehicle stops."""
    strict = street.link_kind[link] == LinkKind.ENTRY and (
        street.is_red(link) or street.is_yellow(link) or street.has_priority(link)
    )
    offset = STOP_LINE if strict else LINE_MARGIN
    if seen >= brake:
        offset = min(offset, seen - brake)
    return max(LINE_MARGIN, offset)


def _item(
    street: Street, ego: Vehicle, link: int, seen: float, speed: float, brake: float, slowed: bool, now: int
) -> tuple[Item, bool, bool]:
    """The plan for one link; whether it slows for foes; whether the plan ends here."""
    kind = ego.kind
    accel, decel = street.accel[kind], street.decel[kind]
    entry = street.link_kind[link] == LinkKind.ENTRY
    waiting = min(speed, stopping(street, ego, seen - _line_offset(street, ego, link, seen, brake)))
    if entry and (street.is_red(link) or street.is_yellow(link)) and seen >= brake:
        return Item(link, waiting, waiting, False, distance=seen), False, True
    leaving = street.link_kind[link] == LinkKind.EXIT and ego.lane == street.source[link]
    request = leaving or (speed > 0 and not (slowed and entry))
    ahead = street.next[link]
    if street.internal[ahead]:
        way = junction_speed(street, ego, ahead, seen, speed, waiting)
        speed = way.speed
        request = request and not way.yields
    arrival_speed = min(krauss.speed_after(seen, speed, accel), street.allowed(ego, street.source[link]))
    slows = is_minor(street, link) and brake < seen and seen > VISIBILITY
    if slows:
        cap = krauss.stop_speed(VISIBILITY, decel, 0.0)
        arrival_speed = min(arrival_speed, krauss.speed_after(VISIBILITY, cap, accel))
    item = Item(link, speed, waiting, request, distance=seen, arrival_speed=arrival_speed)
    item.arrival = now - 1 + krauss.travel_time(seen, speed, arrival_speed, accel, decel)
    item.leave_speed = min(street.allowed(ego, ahead), krauss.speed_after(street.via[link], arrival_speed, accel))
    if seen > brake:
        item.arrival_braking = item.arrival + 30.0
    else:
        item.braking_speed = max(0.0, ego.speed * ego.speed - 2 * decel * seen) ** 0.5
        item.arrival_braking = now - 1 + krauss.travel_time(seen, ego.speed, max(item.braking_speed, 0.1), accel, decel)
    return item, slows, False


def _leave_times(street: Street, ego: Vehicle, items: list[Item]) -> None:
    """When the rear will have left the junction behind each link."""
    for item in items:
        mean = max(0.001, (item.arrival_speed + item.leave_speed) / 2)
        item.leave = item.arrival + (street.via[item.link] + street.size[ego.kind]) / mean
