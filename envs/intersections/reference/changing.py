"""Lane changes: for the route, for speed, to keep right; and what others are asked to do for them.

Edge by edge, front vehicle first; a change is a jump. Sources: what SUMO's MSLCM_LC2013 and MSLaneChanger do with their
default parameters (Erdmann, SUMO's lane-changing model, 2015), in our own words.
"""

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.around import (
    Neighbours,
    leader_beyond,
    may_use,
    neighbours,
    occupied,
    secure,
    secure_at,
)
from fedsched.envs.intersections.reference.cooperation import HELP_SPEED, inform
from fedsched.envs.intersections.reference.state import STANDING, Street, Vehicle

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
CONGESTED, SLOW_ROAD, FAST_ROAD = 60 / 3.6, 60.1 / 3.6, 80 / 3.6
"""m/s: slower vehicles are congested; on slower roads one may overtake on the right; faster ones have on-ramps."""


def change_lanes(street: Street, vehicles: list[Vehicle]) -> None:
    """One second of lane changes on all edges of several lanes, those inside junctions too."""
    edges: dict[int, list[Vehicle]] = {}
    for vehicle in vehicles:
        vehicle.advice = None
        vehicle.helps = 0
        vehicle.leads_blocked = vehicle.change_blocked = False
        vehicle.left_space = vehicle.reserved = 0.0
        lane = vehicle.lane
        if street.left[lane] >= 0 or street.right[lane] >= 0:
            edges.setdefault(street.edge[lane], []).append(vehicle)
    for edge in sorted(edges):
        for lane in street.lanes_of[edge]:
            street.first_blocked[lane] = street.last_blocked[lane] = None
        for vehicle in sorted(edges[edge], key=lambda v: (-v.position, v.id)):
            _consider(street, vehicle)


def _consider(street: Street, ego: Vehicle) -> None:
    ego.gain = krauss.rounded_up(ego.gain)
    ego.keep_right = krauss.rounded_up(ego.keep_right)
    wanted = 0
    for side in (RIGHT, LEFT):
        lane = street.right[ego.lane] if side == RIGHT else street.left[ego.lane]
        if lane < 0 or not may_use(street, ego, lane):
            continue
        around = neighbours(street, ego, lane)
        front, back = _blocked(street, ego, around)
        wish, urgent = _wish(street, ego, lane, side, around, front, back)
        if not wish:
            continue
        if not front and not back:
            _jump(street, ego, lane)
            return
        if urgent:
            wanted = side
            ego.change_blocked = True
            street.last_blocked[lane] = ego
            if street.first_blocked[lane] is None:
                street.first_blocked[lane] = ego
    ego.wants_side = wanted


def _blocked(street: Street, ego: Vehicle, around: Neighbours) -> tuple[bool, bool]:
    """Whether the leader, and whether the follower, is too close."""
    front = around.leader is not None and around.front < secure(street, ego, around.leader)
    back = around.follower is not None and around.back < secure(street, around.follower, ego)
    return front, back


def _jump(street: Street, ego: Vehicle, lane: int) -> None:
    street.on[ego.lane].remove(ego)
    ego.lane = lane
    _take_rear_along(street, ego)
    street.on[lane].append(ego)
    street.on[lane].sort(key=lambda v: (-v.position, v.id))
    ego.keep_right = ego.gain = ego.look = 0.0
    ego.left_space = ego.reserved = 0.0
    ego.wants_side = 0
    ego.advice = None
    ego.change_blocked = False


def _take_rear_along(street: Street, ego: Vehicle) -> None:
    """Moves the rear over too, where the new lane has a predecessor on the edge that the rear is still on."""
    lane, offset = ego.lane, street.rear(ego)
    for n, old in enumerate(ego.behind):
        beside = next((one for one in street.before[lane] if street.edge[one] == street.edge[old]), old)
        if offset >= 0 or beside == old:
            return
        offset += street.length[beside]
        street.rears[old] = [pair for pair in street.rears[old] if pair[1] is not ego]
        street.rears[beside].append((offset, ego))
        ego.behind[n] = lane = beside


def _make_room(street: Street, ego: Vehicle) -> None:
    """A slow vehicle leaves room for those who cannot get onto its lane ahead of it."""
    last, first = street.last_blocked[ego.lane], street.first_blocked[ego.lane]
    for other in (last,) if last is first else (last, first):
        if other is None or other is ego:
            continue
        gap = street.rear(other) - ego.position - street.gap[ego.kind]
        if gap > 0.1 and ego.speed < street.decel[ego.kind]:
            ego.advise(_follow(street, ego, other, gap - 0.1), street.decel[ego.kind])


def _follow(street: Street, ego: Vehicle, other: Vehicle, gap: float) -> float:
    k = ego.kind
    return krauss.planned_speed(
        gap, ego.speed, other.speed, street.accel[k], street.decel[k], street.tau[k], street.decel[other.kind]
    )


def _wish(
    street: Street, ego: Vehicle, lane: int, side: int, around: Neighbours, front: bool, back: bool
) -> tuple[bool, bool]:
    """Whether the vehicle wants to change, and whether its route, or a help, urges it."""
    _make_room(street, ego)
    ego.look = ego.speed if ego.speed > ego.look else 0.9 * ego.look + 0.1 * ego.speed
    row = street.row_at(ego)
    own, there = street.number_on(ego.lane), street.number_on(ego.lane) + side
    if not 0 <= there < len(street.lanes_of[street.way_edge[row]]):
        return False, False
    offset = street.way_offset[row][own]
    aim = side if offset == 0 and street.way_offset[row][there] == 0 else offset
    here_length, there_length = street.way_length[row][own], street.way_length[row][there]
    to_best = aim * side > 0
    look = ego.look * LOOK_AHEAD_S * (2.0 if side == LEFT else 1.0)
    look += 2 * (street.size[ego.kind] + street.gap[ego.kind])
    usable = here_length - ego.position - occupied(street, ego, street.beside(ego.lane, aim))
    if to_best and aim == offset and usable / abs(aim) < look:
        inform(street, ego, around, side, offset, here_length, front, back)
        return True, True
    here, eager = street.allowed(ego, ego.lane), False
    avoid = ego.speed >= CONGESTED and street.limit[ego.lane] >= SLOW_ROAD
    if avoid and side == LEFT and around.leader is not None:
        here, eager = _not_on_the_right(street, ego, lane, around, here)
    taken = max(occupied(street, ego, ego.lane), occupied(street, ego, lane))
    room = max(0.0, there_length - ego.position - taken)
    if not to_best and room / (abs(aim) + 2) < look:
        return False, False
    if aim == 0 and (2 * room < look or there_length < TURN_LANE):
        return False, False
    if side == RIGHT and aim == 0 and street.limit[ego.lane] > FAST_ROAD and ego.look > STANDING:
        return False, False
    leader, gap = _ahead(street, ego)
    hurry = any(v is not None and v.acceleration > 0 for v in (leader, around.leader))
    here = min(here, _anticipated(street, ego, ego.lane, leader, gap, here_length, hurry))
    faster = _anticipated(street, ego, lane, around.leader, around.front, there_length, hurry)
    if ego.helps == side and (to_best or there_length / (abs(aim) + 1) >= look):
        return True, True
    gain = (faster - here) / max(faster, 10.0)
    use = there_length / max(0.1, ego.speed) > LEAST_USE_S
    if side == RIGHT:
        wish = _wish_right(street, ego, around, leader, gap, here, faster, gain, there_length, avoid, use)
    else:
        wish = _wish_left(ego, here, faster, gain, eager, use)
    if not wish and to_best and aim == offset and gain >= 0:
        wish = ego.gain < 0 if side == RIGHT else ego.gain > 0
    return wish, False


def _not_on_the_right(street: Street, ego: Vehicle, lane: int, around: Neighbours, here: float) -> tuple[float, bool]:
    """On fast roads a slower vehicle on the left is not overtaken: the own speed left, and the wish to change."""
    other = around.leader
    assert other is not None
    slower = max(here - street.allowed(other, lane), ego.speed - other.speed)
    if slower <= 0:
        return here, False
    decel = street.decel[ego.kind]
    safe = _follow(street, ego, other, around.front)
    if safe < ego.speed - decel:
        safe = max(ego.speed - decel, other.speed - HELP_SPEED)
    if ego.gain < GAIN_LEFT:
        safe = max(safe, other.speed)
    ego.advise(safe, decel)
    if _follow(street, ego, other, around.front - 8 * slower) >= safe:
        return min(here, safe), False
    ego.gain += slower / max(here, 10.0)
    return min(here, safe), True


def _wish_right(
    street: Street,
    ego: Vehicle,
    around: Neighbours,
    leader: Vehicle | None,
    gap: float,
    here: float,
    there: float,
    gain: float,
    length: float,
    avoid: bool,
    use: bool,
) -> bool:
    """Whether speed, or the duty to keep right, speaks for the right lane; updates the inclinations."""
    if here - 5 / 3.6 > there:
        ego.gain *= 0.5 if ego.gain < 0 else 1.0
        return ego.gain < -GAIN_RIGHT and use
    if ego.gain < 0 or gain > 0:
        ego.gain -= gain
    k = ego.kind
    fastest = street.allowed(ego, ego.lane)
    patience = ACCEPTANCE_S * fastest / street.limit[ego.lane] * max(1.0, ego.speed)
    free = max(0.0, length - krauss.brake_gap(fastest, street.decel[k], street.tau[k]))
    seconds = min(patience, free / fastest)
    other = around.leader
    if other is not None and other.speed < fastest:
        need = secure_at(street, ego, other, fastest, other.speed)
        free = max(0.0, min(free, around.front - need))
        seconds = min(seconds, free / (fastest - other.speed))
    if avoid and leader is not None and street.allowed(leader, leader.lane) < fastest:
        free = min(free, gap)
        seconds = min(seconds, free / (fastest - leader.speed))
        ego.gain += (fastest - street.allowed(leader, leader.lane)) / max(fastest, 10.0)
    ego.keep_right -= KEEP_RIGHT * seconds / patience / KEEP_RIGHT_S
    return ego.keep_right < -KEEP_RIGHT or (ego.gain < -GAIN_RIGHT and use)


def _wish_left(ego: Vehicle, here: float, there: float, gain: float, eager: bool, use: bool) -> bool:
    """Whether speed speaks for the left lane; updates the inclination."""
    if here > there:
        ego.gain *= 0.5 if ego.gain > 0 else 1.0
    elif here == there:
        ego.gain *= 0.8 if ego.gain > 0 else 1.0
    else:
        ego.gain += gain
    return ego.gain > GAIN_LEFT and (gain > 1e-6 or eager) and use


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
    return leader_beyond(street, ego, ego.lane)


def _anticipated(
    street: Street, ego: Vehicle, lane: int, leader: Vehicle | None, gap: float, length: float, hurry: bool
) -> float:
    """The speed to expect on a lane; of the next second only while a leader accelerates."""
    k = ego.kind
    fastest, decel, tau = street.allowed(ego, lane), street.decel[k], street.tau[k]
    if leader is None:
        safe = krauss.stop_speed(length, decel, tau)
        return min(fastest, safe, ego.speed + street.accel[k]) if hurry else min(fastest, safe)
    if hurry:
        return min(fastest, _follow(street, ego, leader, gap))
    room = gap + krauss.brake_gap(leader.speed, max(decel, street.decel[leader.kind]), 0.0)
    return min(fastest, krauss.stop_speed(room, decel, tau))
