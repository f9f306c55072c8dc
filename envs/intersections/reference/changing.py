"""Lane changes: for the route, for speed, to keep right; and what others are asked to do for them.

Edge by edge, front vehicle first; a change is a jump. Sources: the rules of SUMO's MSLCM_LC2013 with its default
parameters (Erdmann, SUMO's lane-changing model, 2015) in our own words.
"""

from dataclasses import dataclass

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.planning import stopping
from fedsched.envs.intersections.reference.state import Street, Vehicle

RIGHT, LEFT = -1, 1
LOOK_AHEAD_S = 10.0
"""s of driving that a change for the route is begun ahead; twice as much to the left."""
TURN_LANE = 200.0
"""m; lanes that end within it are for turning and not for overtaking."""
GAIN_LEFT, GAIN_RIGHT, KEEP_RIGHT = 0.2, 2.0, 2.0
"""Inclinations at which a vehicle changes."""
KEEP_RIGHT_S, ACCEPTANCE_S = 5.0, 7.0
LEAST_USE_S = 20.0
"""s that a faster lane must be of use."""
HELP_DECEL, OVERTAKE_SPEED = 1.0, 2.78
"""m/s^2 that a helper is expected to brake by; m/s that one overtakes with."""
LEAST_SLOWDOWN = 1.94
"""m/s^2."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Who is around a place on a lane.

    Attributes:
        leader: The next vehicle ahead, None for none in reach.
        front: m to its rear, least gap taken off.
        follower: The next one behind.
        back: m from its front to the own rear, its least gap taken off.
        overlaps: Whether somebody is beside.
    """

    leader: Vehicle | None
    front: float
    follower: Vehicle | None
    back: float
    overlaps: bool


def change_lanes(street: Street, vehicles: list[Vehicle]) -> None:
    """One second of lane changes on all normal edges."""
    for vehicle in vehicles:
        vehicle.advice = None
    edges: dict[int, list[Vehicle]] = {}
    for vehicle in vehicles:
        lane = vehicle.lane
        if not street.internal[lane] and (street.left[lane] >= 0 or street.right[lane] >= 0):
            edges.setdefault(street.edge[lane], []).append(vehicle)
    for edge in sorted(edges):
        for vehicle in sorted(edges[edge], key=lambda v: (-v.position, v.id)):
            _consider(street, vehicle)


def _consider(street: Street, ego: Vehicle) -> None:
    ego.look = ego.speed if ego.speed > ego.look else 0.9 * ego.look + 0.1 * ego.speed
    for side in (RIGHT, LEFT):
        lane = street.right[ego.lane] if side == RIGHT else street.left[ego.lane]
        if lane < 0 or not may_use(street, ego, lane):
            continue
        around = neighbours(street, ego, lane)
        wish, urgent = _wish(street, ego, lane, side, around)
        if not wish:
            continue
        front, back = _blocked(street, ego, around)
        if not around.overlaps and not front and not back:
            _jump(street, ego, lane)
            return
        if urgent:
            _ask(street, ego, around, front, back)


def may_use(street: Street, ego: Vehicle, lane: int) -> bool:
    kind = int(street.tables.types.vehicle_class[ego.kind])
    return bool(int(street.tables.lanes.allowed[lane]) >> kind & 1)


def _jump(street: Street, ego: Vehicle, lane: int) -> None:
    street.on[ego.lane].remove(ego)
    ego.lane = lane
    street.on[lane].append(ego)
    street.on[lane].sort(key=lambda v: (-v.position, v.id))
    ego.keep_right = ego.gain = ego.look = 0.0


def neighbours(street: Street, ego: Vehicle, lane: int) -> Neighbours:
    """Who is ahead, behind and beside of `ego` on another lane of its edge, beyond the lane's ends too."""
    position, rear = ego.position, street.rear(ego)
    leader, front, follower, back = None, 0.0, None, 0.0
    overlaps = False
    for other in street.on[lane]:
        if other.position >= position:
            leader, front = other, street.rear(other) - position - street.gap[ego.kind]
            overlaps = street.rear(other) < position
        else:
            follower, back = other, rear - other.position - street.gap[other.kind]
            overlaps = overlaps or other.position > rear
            break
    for other_rear, other in street.rears[lane]:
        if leader is None or other_rear - position - street.gap[ego.kind] < front:
            leader, front = other, other_rear - position - street.gap[ego.kind]
            overlaps = overlaps or other_rear < position
    if leader is None:
        leader, front = _leader_beyond(street, ego, lane)
    if follower is None:
        follower, back = follower_beyond(street, ego, lane)
    return Neighbours(leader, front, follower, back, overlaps)


def _leader_beyond(street: Street, ego: Vehicle, lane: int) -> tuple[Vehicle | None, float]:
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
        if start > 100.0:
            continue
        others = [v for v in street.on[source][:1] if v is not ego]
        if others:
            other = others[0]
            gap = start + street.length[source] - other.position - street.gap[other.kind]
            link = street.link_from(other, source, other.place) if street.internal[source] or other.place < other.last else -1
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


def secure(street: Street, follower: Vehicle, leader: Vehicle, speed: float | None = None) -> float:
    k = follower.kind
    own = follower.speed if speed is None else speed
    return krauss.secure_gap(own, leader.speed, street.decel[k], street.tau[k], street.decel[leader.kind])


def _blocked(street: Street, ego: Vehicle, around: Neighbours) -> tuple[bool, bool]:
    """Whether the leader, and whether the follower, is too close."""
    front = around.leader is not None and around.front < secure(street, ego, around.leader)
    back = around.follower is not None and around.back < secure(street, around.follower, ego)
    return front, back


def occupied(street: Street, ego: Vehicle, lane: int) -> float:
    """m that the vehicles ahead take on a lane and on the lanes that continue the route from it."""
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


def _wish(street: Street, ego: Vehicle, lane: int, side: int, around: Neighbours) -> tuple[bool, bool]:
    """Whether the vehicle wants to change, and whether its route urges it."""
    row = ego.way + ego.place
    own, there = street.number[ego.lane], street.number[lane]
    offset, beyond = street.way_offset[row][own], street.way_offset[row][there]
    own_length, there_length = street.way_length[row][own], street.way_length[row][there]
    to_best = offset * side > 0
    look = ego.look * LOOK_AHEAD_S * (2.0 if side == LEFT else 1.0)
    look += 2 * (street.size[ego.kind] + street.gap[ego.kind])
    best = ego.lane + offset
    if to_best and (own_length - ego.position - occupied(street, ego, best)) / abs(offset) < look:
        return True, True
    taken = max(occupied(street, ego, ego.lane), occupied(street, ego, lane))
    place_there = max(0.0, there_length - ego.position - taken)
    if not to_best and not (offset == 0 and beyond == 0):
        if place_there / (abs(offset) + 2) < look:
            return False, False
        if offset == 0 and (2 * place_there < look or there_length < TURN_LANE):
            return False, False
    return _speed_wish(street, ego, lane, side, around, there_length, to_best, beyond == 0 or to_best), False


def _speed_wish(
    street: Street,
    ego: Vehicle,
    lane: int,
    side: int,
    around: Neighbours,
    there_length: float,
    to_best: bool,
    usable: bool,
) -> bool:
    """Whether speed, or keeping right, speaks for the change; updates the inclinations."""
    here = _anticipated(street, ego, ego.lane, *_ahead(street, ego))
    there = _anticipated(street, ego, lane, around.leader, around.front)
    gain = (there - here) / max(there, 10.0)
    use = (there_length - ego.position) / max(0.1, ego.speed) > LEAST_USE_S
    if to_best and there >= here:
        return True
    if side == RIGHT:
        if here - 5 / 3.6 > there:
            ego.gain = ego.gain * 0.5 if ego.gain < 0 else ego.gain
        else:
            ego.gain -= gain
            ego.keep_right -= _right_share(street, ego, lane, around, there_length)
            if ego.keep_right < -KEEP_RIGHT:
                return True
        return ego.gain < -GAIN_RIGHT and use
    if here > there:
        ego.gain = ego.gain * 0.5 if ego.gain > 0 else ego.gain
    elif here == there:
        ego.gain = ego.gain * 0.8 if ego.gain > 0 else ego.gain
    else:
        ego.gain += gain
    return ego.gain > GAIN_LEFT and gain > 1e-6 and use


def _right_share(street: Street, ego: Vehicle, lane: int, around: Neighbours, there_length: float) -> float:
    """How much one second adds to the inclination to the right."""
    fastest = street.allowed(ego, ego.lane)
    patience = ACCEPTANCE_S * fastest / street.limit[ego.lane] * max(1.0, ego.speed)
    gap = max(0.0, there_length - ego.position - krauss.brake_gap(fastest, street.decel[ego.kind], street.tau[ego.kind]))
    seconds = min(patience, gap / fastest)
    leader = around.leader
    if leader is not None and leader.speed < fastest:
        need = krauss.secure_gap(
            fastest, leader.speed, street.decel[ego.kind], street.tau[ego.kind], street.decel[leader.kind]
        )
        gap = max(0.0, min(gap, around.front - need))
        seconds = min(seconds, gap / (fastest - leader.speed))
    return KEEP_RIGHT * seconds / patience / KEEP_RIGHT_S


def _ahead(street: Street, ego: Vehicle) -> tuple[Vehicle | None, float]:
    """The leader on the own lane, and m to its rear."""
    best: tuple[float, Vehicle] | None = None
    for other in street.on[ego.lane]:
        if (other.position, -other.id) > (ego.position, -ego.id):
            best = (street.rear(other), other)
    for rear, other in street.rears[ego.lane]:
        if other is not ego and (best is None or rear < best[0]):
            best = (rear, other)
    if best is not None:
        return best[1], best[0] - ego.position - street.gap[ego.kind]
    return _leader_beyond(street, ego, ego.lane)


def _anticipated(street: Street, ego: Vehicle, lane: int, leader: Vehicle | None, gap: float) -> float:
    """The speed to expect on a lane."""
    kind = ego.kind
    fastest = street.allowed(ego, lane)
    if leader is not None:
        safe = krauss.follow_speed(
            max(gap, 0.0),
            ego.speed,
            leader.speed,
            street.accel[kind],
            street.decel[kind],
            street.tau[kind],
            street.decel[leader.kind],
        )
        return min(fastest, safe)
    row = street.way_length[ego.way + ego.place][street.number[lane]]
    return min(fastest, stopping(street, ego, row - ego.position))


def _ask(street: Street, ego: Vehicle, around: Neighbours, front: bool, back: bool) -> None:
    """What the vehicle and its neighbours do for a change that the route urges and that is blocked."""
    kind = ego.kind
    row = ego.way + ego.place
    own = street.number[ego.lane]
    left = street.way_length[row][own] - ego.position - occupied(street, ego, ego.lane)
    offset = abs(street.way_offset[row][own])
    remaining = max(1.0, left / max(1e-3, ego.look) / max(1, offset) / 2)
    planned = min(ego.speed, stopping(street, ego, left))
    leader, follower = around.leader, around.follower
    if (front or around.overlaps) and leader is not None and leader.position >= ego.position:
        planned = min(planned, _behind(street, ego, leader, around.front, left, remaining))
    if back and follower is not None:
        planned = min(planned, _with_follower(street, ego, follower, around.back, planned, remaining))
    if planned < ego.speed:
        _advise(ego, planned)
    del kind


def _behind(street: Street, ego: Vehicle, leader: Vehicle, gap: float, left: float, remaining: float) -> float:
    """The own speed when the leader blocks: fall back behind it unless it can be overtaken in time."""
    kind = ego.kind
    faster = ego.speed - leader.speed
    length = max(0.0, gap) + street.size[leader.kind] + street.size[kind] + secure(street, leader, ego)
    brake = krauss.brake_gap(ego.speed, street.decel[kind], street.tau[kind])
    if faster > 0 and left - brake > length and length / max(faster, 1e-3) <= remaining:
        return ego.speed
    target = krauss.follow_speed(
        max(0.0, gap),
        ego.speed,
        max(0.0, leader.speed - HELP_DECEL),
        street.accel[kind],
        street.decel[kind],
        street.tau[kind],
        street.decel[leader.kind],
    )
    slower = min(max((ego.speed - target) / remaining, LEAST_SLOWDOWN), street.decel[kind])
    return max(target, ego.speed - slower)


def _with_follower(
    street: Street, ego: Vehicle, follower: Vehicle, gap: float, planned: float, remaining: float
) -> float:
    """What the follower is asked for; the own speed where it is let pass."""
    k = follower.kind
    decel = street.decel[k]
    slow = max(0.0, follower.speed - decel)
    opened = gap + planned - slow
    need = krauss.secure_gap(slow, planned, decel, street.tau[k], street.decel[ego.kind])
    if opened > 0 and opened >= need:
        first = _follow_at(street, follower, ego, gap + planned, planned)
        second = _follow_at(street, follower, ego, gap + planned - first, planned)
        _advise(follower, max(slow, second))
        return planned
    if (planned - slow) * remaining > need - opened:
        _advise(follower, slow)
        return planned
    passing = max(follower.speed, ego.speed + OVERTAKE_SPEED)
    distance = gap + street.size[k] + street.size[ego.kind] + 2 * street.gap[k] + need
    return max(passing - distance / remaining, ego.speed - street.decel[ego.kind])


def _follow_at(street: Street, follower: Vehicle, leader: Vehicle, gap: float, speed: float) -> float:
    k = follower.kind
    return krauss.follow_speed(
        max(0.0, gap), follower.speed, speed, street.accel[k], street.decel[k], street.tau[k], street.decel[leader.kind]
    )


def _advise(vehicle: Vehicle, speed: float) -> None:
    vehicle.advice = speed if vehicle.advice is None else min(vehicle.advice, speed)
