"""Who is ahead, behind and beside on another lane, and how full the lanes ahead are."""

from dataclasses import dataclass

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.state import Street, Vehicle

UPSTREAM_M = 100.0
"""m that are looked back for followers."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Who is around a place on a lane.

    Attributes:
        leader: The next vehicle ahead, None for none in reach.
        front: m to its rear, least gap taken off.
        follower: The next one behind.
        back: m from its front to the own rear, its least gap taken off.
    """

    leader: Vehicle | None
    front: float
    follower: Vehicle | None
    back: float


def may_use(street: Street, ego: Vehicle, lane: int) -> bool:
    """Whether vehicles of its class are allowed on a lane."""
    kind = int(street.tables.types.vehicle_class[ego.kind])
    return bool(int(street.tables.closures.allowed[street.open_lanes + lane]) >> kind & 1)


def neighbours(street: Street, ego: Vehicle, lane: int) -> Neighbours:
    """Who is ahead and behind of `ego` on another lane of its edge, beyond the lane's ends too."""
    position, rear = ego.position, street.rear(ego)
    leader, front, follower, back = None, 0.0, None, 0.0
    for other in street.on[lane]:
        if other.position < position:
            follower, back = other, rear - other.position - street.gap[other.kind]
            break
        leader, front = other, street.rear(other) - position - street.gap[ego.kind]
    for other_rear, other in street.rears[lane]:
        gap = other_rear - position - street.gap[ego.kind]
        if other is not ego and (leader is None or gap < front):
            leader, front = other, gap
    if leader is None:
        leader, front = leader_beyond(street, ego, lane)
    if follower is None:
        follower, back = follower_beyond(street, ego, lane)
    return Neighbours(leader, front, follower, back)


def leader_beyond(street: Street, ego: Vehicle, lane: int) -> tuple[Vehicle | None, float]:
    """The first vehicle on the lanes that continue the route."""
    seen, place = street.length[lane] - ego.position, ego.place
    reach = ego.speed + krauss.brake_gap(ego.speed, street.decel[ego.kind], street.tau[ego.kind]) + 2 * 5.0
    while seen < reach and not (not street.internal[lane] and place == ego.last):
        link = street.link_from(ego, lane, place)
        if link < 0:
            break
        lane = street.next[link]
        if not street.internal[lane]:
            place += 1
        found = [(street.rear(v), v) for v in street.on[lane][-1:]] + street.rears[lane]
        found = [pair for pair in found if pair[1] is not ego]
        if found:
            rear, other = min(found, key=lambda pair: pair[0])
            return other, rear + seen - street.gap[ego.kind]
        seen += street.length[lane]
    return None, 0.0


def follower_beyond(street: Street, ego: Vehicle, lane: int) -> tuple[Vehicle | None, float]:
    """The vehicle that will come onto the lane next from the lanes before it, with the smallest gap it leaves."""
    best: tuple[float, Vehicle | None, float] = (1e9, None, 0.0)
    frontier = [(source, street.rear(ego)) for source in street.before[lane]]
    while frontier:
        source, start = frontier.pop()
        if start > UPSTREAM_M:
            continue
        others = [v for v in street.on[source][:1] if v is not ego]
        if others:
            other = others[0]
            gap = start + street.length[source] - other.position - street.gap[other.kind]
            link = (
                street.link_from(other, source, other.place)
                if street.internal[source] or other.place < other.last
                else -1
            )
            if link < 0 or not _leads_to(street, other, source, lane):
                continue
            need = secure(street, other, ego)
            if gap - need < best[0]:
                best = (gap - need, other, gap)
            continue
        frontier += [(more, start + street.length[source]) for more in street.before[source]]
    return best[1], best[2]


def _leads_to(street: Street, vehicle: Vehicle, lane: int, goal: int) -> bool:
    place = vehicle.place
    for _ in range(4):
        if lane == goal:
            return True
        if not street.internal[lane] and place >= vehicle.last:
            return False
        link = street.link_from(vehicle, lane, place)
        if link < 0:
            return False
        lane = street.next[link]
        place += not street.internal[lane]
    return lane == goal


def secure(street: Street, follower: Vehicle, leader: Vehicle) -> float:
    """The gap that a follower needs now, m."""
    return secure_at(street, follower, leader, follower.speed, leader.speed)


def secure_at(street: Street, follower: Vehicle, leader: Vehicle, speed: float, leader_speed: float) -> float:
    """The gap that a follower needs at these speeds, m; less where it brakes already."""
    k, decel = follower.kind, street.decel[leader.kind]
    gap = krauss.secure_gap(speed, leader_speed, street.decel[k], street.tau[k], decel)
    if follower.acceleration < -1e-3:
        gap = min(gap, krauss.braking_gap(speed, leader_speed, -follower.acceleration, decel))
    return gap


def occupied(street: Street, ego: Vehicle, lane: int) -> float:
    """M that the vehicles ahead take on a lane and on the lanes that continue the route from it."""
    total = sum(
        street.size[v.kind] + street.gap[v.kind] for v in street.on[lane] if v is not ego and v.position > ego.position
    )
    place = ego.place
    row = street.way_length[ego.way + place][street.number[lane]]
    covered = street.length[lane]
    while covered < row and not (not street.internal[lane] and place == ego.last):
        link = street.link_from(ego, lane, place)
        if link < 0:
            break
        lane = street.next[link]
        place += not street.internal[lane]
        total += sum(street.size[v.kind] + street.gap[v.kind] for v in street.on[lane])
        covered += 0.0 if street.internal[lane] else street.length[lane]
    return total
