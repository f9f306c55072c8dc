"""Deciding and moving: the plan becomes a speed, the speed a new place.

Sources: the rules of SUMO's MSVehicle::executeMove and MSCFModel::finalizeSpeed in our own words.
"""

from dataclasses import dataclass

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.junctions import is_open
from fedsched.envs.intersections.reference.planning import VISIBILITY, Plan, is_minor
from fedsched.envs.intersections.reference.state import NEVER, STANDING, Street, Vehicle
from fedsched.envs.intersections.tables import LinkKind

ARRIVED = 0.1
"""m before the end of the last edge where a trip has arrived."""
REARS = 4
"""Lanes behind the front that a rear may be on."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a vehicle does in this second.

    Attributes:
        bound: m/s, safe speed.
        least: m/s it must reach to clear a minor link it has begun to cross; 0 for none.
        hindered: Whether it has to wait at a link.
        gives_up: Whether it lets everyone else on the junction go first.
    """

    bound: float
    least: float
    hindered: bool
    gives_up: bool


def decide(street: Street, ego: Vehicle, plan: Plan, now: int) -> Decision:
    """Goes through the links in order until one is closed."""
    accel, decel = street.accel[ego.kind], street.decel[ego.kind]
    brake = krauss.brake_gap(ego.speed, decel, 0.0)
    bound, least, line, least_can_stop, hindered, gives_up = plan.end_speed, 0.0, 0.0, False, False, False
    for item in plan.items:
        link = item.link
        can_stop = item.distance > brake or ego.speed < decel
        yellow = street.is_yellow(link)
        if not item.request:
            gives_up = street.internal[ego.lane] and street.internal[street.source[link]]
            bound = item.waiting
            hindered = hindered or bound < ego.speed or bound < STANDING
            break
        if yellow and can_stop:
            bound, hindered = item.waiting, True
            break
        opened = yellow or is_open(street, ego, item, can_stop, now)
        if opened and is_minor(street, link) and not street.cont[link]:
            if item.distance > VISIBILITY and (can_stop or not yellow):
                bound, hindered = item.waiting, True
                break
            least, line = min(item.distance + 0.1, item.passing, ego.speed + accel), item.distance
            least_can_stop = can_stop
        if not opened:
            too_fast = not can_stop and street.signal[link] < 0
            too_fast = too_fast and item.distance < krauss.brake_gap(ego.speed, street.emergency[ego.kind], 0.0)
            if not too_fast:
                bound, hindered = item.waiting, True
                break
        bound = item.passing
        if opened and bound < decel and bound <= item.waiting and bound < ego.speed + accel:
            hindered = True
    else:
        bound = plan.end_speed
    if bound + 1e-3 < least:
        if least_can_stop and bound < ego.speed:
            # it cannot get across at once, so it stops before the link
            bound = min(bound, max(ego.speed - decel, krauss.stop_speed(line, decel, 1.0)))
            least, hindered = 0.0, True
        else:
            least = bound
    return Decision(bound, least, hindered, gives_up)


def final_speed(street: Street, ego: Vehicle, decision: Decision, draw: float) -> float:
    """The new speed: braking and acceleration limits, dawdling, advice for lane changes.

    Args:
        street: The street.
        ego: The vehicle.
        decision: What the links and leaders allow.
        draw: Uniform in [0, 1).
    """
    kind = ego.kind
    accel, decel = street.accel[kind], street.decel[kind]
    low = min(max(ego.speed - decel, 0.0), max(decision.bound, max(ego.speed - street.emergency[kind], 0.0)))
    top = max(street.allowed(ego, ego.lane), decision.bound)
    high = max(low, min(top, decision.bound, ego.speed + accel))
    sigma = street.sigma[kind]
    dawdled = high * (1 - sigma * draw) if high < accel else high - sigma * accel * draw
    speed = max(low, dawdled)
    speed = _for_changes(street, ego, low, speed, high)
    if decision.least > 0:
        speed = max(speed, min(decision.least, high))
    return 0.0 if speed < 1e-4 else speed


def _for_changes(street: Street, ego: Vehicle, low: float, wanted: float, high: float) -> float:
    """The speed that lane changes, the own and others', make of the wanted one."""
    speed, asked = wanted, False
    if ego.reserved > 0:
        space = ego.left_space - ego.reserved - 1.0 - street.gap[ego.kind]
        if space > 0:
            safe = min(krauss.stop_speed(space, street.decel[ego.kind], 1.0), ego.speed + street.accel[ego.kind])
            hardest = max(0.0, ego.speed - street.emergency[ego.kind])
            high = min(high, max(safe, hardest))
            if safe < wanted:
                low = max(hardest, safe) if hardest <= safe < low else low
                speed, asked = max(low, safe), True
    if ego.advice is not None and low <= ego.advice <= high:
        speed, asked = min(speed, ego.advice), True
    if not asked:
        if ego.change_blocked or ego.leads_blocked:
            speed = (high + wanted) / 2
        elif len(street.lanes_of[street.edge[ego.lane]]) == 1:
            ego.gain = ego.keep_right = ego.look = 0.0
    return speed


def move(street: Street, ego: Vehicle, plan: Plan, decision: Decision, speed: float, now: int) -> bool:
    """Takes the vehicle along its way; returns whether it has arrived."""
    ego.position += speed
    ego.acceleration = speed - ego.speed
    ego.speed = speed
    ego.hindered = decision.hindered
    if speed <= STANDING:
        ego.stops += ego.waiting == 0
        ego.waiting += 1
        ego.total_waiting += 1
    else:
        ego.waiting = 0
    if decision.gives_up:
        ego.junction_entry = ego.conflict_entry = NEVER
    passed = 0
    arrived = False
    while True:
        length = street.length[ego.lane]
        if not street.internal[ego.lane] and ego.place == ego.last:
            arrived = ego.position > length - ARRIVED
            break
        if ego.position <= length + 1e-6:
            break
        if passed >= len(plan.items):
            ego.position = length
            break
        _pass(street, ego, plan.items[passed].link, now)
        passed += 1
    ego.wants = passed < len(plan.items) and plan.items[passed].request
    allowed = street.allowed(ego, ego.lane)
    ego.time_loss += (allowed - speed) / allowed
    return arrived


def _pass(street: Street, ego: Vehicle, link: int, now: int) -> None:
    """Takes the front over a link."""
    if street.gates is not None:
        street.gates.count(link)
    ego.position -= street.length[ego.lane]
    ego.behind.insert(0, ego.lane)
    del ego.behind[REARS:]
    ego.lane = street.next[link]
    if not street.internal[ego.lane]:
        ego.place += 1
        ego.junction_entry = ego.conflict_entry = ego.first_entry = NEVER
        return
    if street.link_kind[link] == LinkKind.ENTRY:
        ego.junction_entry = ego.first_entry = now
    if street.link_kind[street.link_begin[ego.lane]] == LinkKind.EXIT:
        ego.conflict_entry = now
