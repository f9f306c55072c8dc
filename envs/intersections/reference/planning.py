"""Planning: how fast every vehicle may go, link by link along its way, from the state of the second before.

Sources: what SUMO's MSVehicle (planMoveInternal, adaptToLeader, checkLinkLeader) does with its defaults, in our own
words.
"""

from dataclasses import dataclass, field

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.junctions import holds
from fedsched.envs.intersections.reference.state import STANDING, Item, Street, Vehicle
from fedsched.envs.intersections.tables import LinkKind

MARGIN = 0.1
"""m kept to whatever must be stopped at."""
STOP_LINE = 1.0
"""m kept to the line of a signal or of a link with priority."""
VISIBILITY = 4.5
"""m before a minor link from which foes are seen."""
LOOK_AHEAD = 5.0
"""Vehicle lengths of normal lanes that a plan covers at least."""
ITEMS = 10
"""Links that a plan covers at most."""


@dataclass(slots=True)
class Plan:
    """What a vehicle means to do in this second.

    Attributes:
        items: The links on its way, in order.
        end_speed: m/s if all of them may be passed.
        ends: Whether its route or its lane ends behind the last item.
    """

    items: list[Item] = field(default_factory=list)
    end_speed: float = 0.0
    ends: bool = False


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


def following(street: Street, ego: Vehicle, leader: Vehicle, gap: float, speed: float) -> float:
    """Safe speed of `ego`, now at `speed`, behind `leader`, m/s."""
    k, j = ego.kind, leader.kind
    return krauss.follow_speed(
        gap, speed, leader.speed, street.accel[k], street.decel[k], street.tau[k], street.decel[j]
    )


def stopping(street: Street, ego: Vehicle, gap: float) -> float:
    """Speed of `ego` that stops before a line `gap` m ahead, m/s."""
    k = ego.kind
    return min(krauss.stop_speed(gap, street.decel[k], 1.0), ego.speed + street.accel[k])


def is_minor(street: Street, link: int) -> bool:
    """Whether the vehicle must look for others at this link."""
    if street.has_priority(link):
        return False
    entry = street.link_entry[link]
    inner = street.link_kind[link] == LinkKind.INNER
    return not (inner and (street.has_priority(entry) or street.is_yellow(entry)))


@dataclass(slots=True)
class _Look:
    """How far the planning has come along the way.

    Attributes:
        lane: The lane looked at.
        place: Place of the normal edge on the route.
        seen: m from the front to the lane's end.
        speed: m/s that is safe so far.
        passing: m/s at the lane's end at most.
    """

    lane: int
    place: int
    seen: float
    speed: float
    passing: float


def plan(street: Street, ego: Vehicle, now: int) -> Plan:
    """Plans one vehicle, looking along its way as far as it may have to brake for."""
    made = Plan()
    kind = ego.kind
    accel, decel, size = street.accel[kind], street.decel[kind], street.size[kind]
    lane, seen = ego.lane, street.length[ego.lane] - ego.position
    limit = street.allowed(ego, lane)
    speed = min(ego.speed + accel, street.fastest[kind], max(limit, ego.speed - decel))
    look = _Look(lane, ego.place, seen, speed, min(krauss.speed_after(seen, speed, accel), limit))
    horizon = ego.speed + accel + krauss.brake_gap(ego.speed + accel, decel, street.tau[kind])
    inside, normal = (seen, 0.0) if street.internal[lane] else (0.0, seen)
    slowed = False
    while True:
        last = made.items[-1] if made.items else None
        _behind_leader(street, ego, look, last)
        if (not street.internal[look.lane] and look.place == ego.last) or len(made.items) == ITEMS:
            made.ends = True
            break
        link = street.link_from(ego, look.lane, look.place)
        if link < 0:
            safe = stopping(street, ego, look.seen)
            if last is not None:
                last.leave_speed = min(last.leave_speed, safe)
            look.speed = min(look.speed, safe)
            made.ends = True
            break
        item, closed = _item(street, ego, look, link, last, slowed, now)
        made.items.append(item)
        if closed:
            break
        slowed = slowed or _slows(street, ego, link, look.seen)
        done = not item.request or look.speed <= 0 or look.seen > horizon
        if done and normal > max(LOOK_AHEAD * size, size + inside):
            break
        look.lane = street.next[link]
        length, limit = street.length[look.lane], street.allowed(ego, look.lane)
        look.speed = min(look.speed, max(krauss.free_speed(look.seen, limit, decel), ego.speed - decel, 0.0))
        look.seen += length
        look.passing = min(krauss.speed_after(length, look.speed, accel), limit)
        if street.internal[look.lane]:
            inside += length
        else:
            look.place += 1
            normal += length
    made.end_speed = look.speed
    for item in made.items:
        mean = max(0.001, (item.arrival_speed + item.leave_speed) / 2)
        item.leave = item.arrival + (street.through[item.link] + size) / mean
    return made


def _behind_leader(street: Street, ego: Vehicle, look: _Look, last: Item | None) -> None:
    """The next vehicle ahead on the lane looked at; also what it means for the link before the lane."""
    leader = leader_on(street, ego, look.lane, own=last is None)
    if leader is None:
        return
    start = look.seen - street.length[look.lane]
    gap = leader[0] + start - street.gap[ego.kind]
    other = leader[1]
    if gap < 0 and last is not None and not _rear_on_way(street, ego, other, look.lane):
        start -= street.length[street.source[last.link]] if street.internal[street.source[last.link]] else 0.0
        safe = stopping(street, ego, start - MARGIN)
    else:
        safe = following(street, ego, other, gap, ego.speed)
    if last is not None:
        last.leave_speed = min(last.leave_speed, following(street, ego, other, gap, last.leave_speed))
        last.waiting = min(last.waiting, min(look.speed, safe))
    look.speed = min(look.speed, safe)
    look.passing = min(look.passing, safe)


def _rear_on_way(street: Street, ego: Vehicle, other: Vehicle, lane: int) -> bool:
    """Whether the rear of a vehicle lies on a lane of the own way."""
    offset, back = street.rear(other), other.lane
    for behind in other.behind:
        if offset >= 0:
            break
        offset += street.length[behind]
        back = behind
    return back == lane or back == ego.lane or (street.internal[lane] and back == street.source[street.link_into[lane]])


def _slows(street: Street, ego: Vehicle, link: int, seen: float) -> bool:
    """Whether the vehicle slows down for foes that it cannot see yet."""
    brake = krauss.brake_gap(ego.speed, street.decel[ego.kind], 0.0)
    return is_minor(street, link) and brake < seen and seen > VISIBILITY


def _item(
    street: Street, ego: Vehicle, look: _Look, link: int, last: Item | None, slowed: bool, now: int
) -> tuple[Item, bool]:
    """The plan for one link, and whether the plan ends here."""
    kind = ego.kind
    accel, decel = street.accel[kind], street.decel[kind]
    seen, brake = look.seen, krauss.brake_gap(ego.speed, decel, 0.0)
    lights = street.is_red(link) or street.is_yellow(link)
    offset = STOP_LINE if lights or street.has_priority(link) else 0.0
    if seen >= brake:
        offset = min(offset, seen - brake)
    waiting = min(look.speed, stopping(street, ego, max(0.0, seen - max(MARGIN, offset))))
    if lights and seen >= brake:
        return Item(link, look.speed, waiting, False, distance=seen), True
    inside = street.internal[look.lane]
    request = (inside and last is None) or (look.speed > 1e-6 and not (slowed and not inside))
    if inside:
        request = _among_foes(street, ego, look, last) and request
        waiting = min(waiting, look.speed)
    if last is not None:
        last.leave_speed = min(last.leave_speed, street.allowed(ego, look.lane))
    item = Item(link, look.speed, waiting, request, distance=seen, arrival_speed=look.passing)
    if _slows(street, ego, link, seen):
        cap = krauss.stop_speed(VISIBILITY, decel, 0.0)
        item.arrival_speed = min(look.passing, krauss.speed_after(VISIBILITY, cap, accel))
    item.arrival = now - 1 + krauss.travel_time(seen, look.speed, item.arrival_speed, accel, decel)
    if seen < krauss.brake_gap(look.speed, decel, street.tau[kind]):
        item.braking_speed = min(krauss.speed_after(seen, look.speed, -decel), item.arrival_speed)
    item.leave_speed = min(
        street.allowed(ego, street.next[link]), krauss.speed_after(street.through[link], item.arrival_speed, accel)
    )
    return item, False


def _among_foes(street: Street, ego: Vehicle, look: _Look, last: Item | None) -> bool:
    """What vehicles on conflicting lanes leave of the speed on an internal lane; whether the right of way is kept."""
    keeps = True
    for hold in holds(street, ego, look.lane, look.seen - street.length[look.lane]):
        look.speed, look.passing = min(look.speed, hold.speed), min(look.passing, hold.speed)
        if last is not None:
            last.leave_speed = min(last.leave_speed, hold.speed)
            look.speed = max(look.speed, last.waiting)
        if look.speed < STANDING and hold.yields:
            keeps = False
    return keeps
