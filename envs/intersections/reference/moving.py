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
    """

    bound: float
    least: float
    hindered: bool


def decide(street: Street, ego: Vehicle, plan: Plan) -> Decision:
    """Goes through the links in order until one is closed."""
    accel, decel = street.accel[ego.kind], street.decel[ego.kind]
    brake = krauss.brake_gap(ego.speed, decel, 0.0)
    bound, least, line, hindered = plan.end_speed, 0.0, 0.0, False
    for item in plan.items:
        can_stop = item.distance > brake or ego.speed < decel
        entry = street.link_kind[item.link] == LinkKind.ENTRY
        yellow = entry and street.is_yellow(item.link)
        stop = not item.request or (yellow and can_stop) or not is_open(street, ego, item)
        if not stop and is_minor(street, item.link) and not (entry and street.cont[item.link]):
            if item.distance > VISIBILITY and (can_stop or not yellow):
                stop = True
            else:
                least, line = min(item.distance + 0.1, item.passing), item.distance
        if stop:
            bound, hindered = item.waiting, True
            break
        hindered = item.passing < decel and item.passing <= item.waiting and item.passing < ego.speed + accel
    if bound + 1e-3 < least:
        # it cannot get across at once, so it stops before the link
        bound = min(bound, max(ego.speed - decel, krauss.stop_speed(line, decel, 1.0)))
        least, hindered = 0.0, True
    return Decision(bound, least, hindered)


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
    if ego.advice is not None:
        speed = min(speed, max(ego.advice, low))
    if decision.least > 0:
        speed = max(speed, min(decision.least, high))
    return 0.0 if speed < 1e-4 else speed


def move(street: Street, ego: Vehicle, plan: Plan, speed: float, now: int) -> bool:
    """Takes the vehicle along its way; returns whether it has arrived."""
    allowed = street.allowed(ego, ego.lane)
    ego.position += speed
    ego.speed = speed
    ego.time_loss += max(0.0, (allowed - speed) / allowed)
    if speed < STANDING:
        ego.stops += ego.waiting == 0
        ego.waiting += 1
        ego.total_waiting += 1
    else:
        ego.waiting = 0
    if plan.yields and street.internal[ego.lane]:
        ego.junction_entry = ego.conflict_entry = NEVER
    place = 0
    while True:
        length = street.length[ego.lane]
        if not street.internal[ego.lane] and ego.place == ego.last:
            return ego.position > length - ARRIVED
        if ego.position <= length:
            return False
        if place >= len(plan.items):
            ego.position = length
            return False
        link = plan.items[place].link
        place += 1
        ego.position -= length
        ego.behind.insert(0, ego.lane)
        del ego.behind[REARS:]
        ego.lane = street.next[link]
        if not street.internal[ego.lane]:
            ego.place += 1
            ego.junction_entry = ego.conflict_entry = NEVER
            continue
        if street.link_kind[link] == LinkKind.ENTRY:
            ego.junction_entry = now
        if street.link_kind[street.link_begin[ego.lane]] == LinkKind.EXIT:
            ego.conflict_entry = now
