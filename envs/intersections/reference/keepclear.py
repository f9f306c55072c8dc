"""Keeping junctions clear: nobody enters one that it cannot leave.

Source: the rule of SUMO's MSVehicle::checkRewindLinkLanes in our own words.
"""

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.planning import Plan
from fedsched.envs.intersections.reference.state import STANDING, Item, Street, Vehicle
from fedsched.envs.intersections.tables import LinkKind


def keep_clear(street: Street, ego: Vehicle, plan: Plan) -> None:
    """Takes back the requests from the first link on behind which there is no room for the vehicle."""
    items = plan.items
    if not items or not any(street.has_foes[item.link] and street.keep_clear[item.link] for item in items):
        return
    need = street.size[ego.kind] + street.gap[ego.kind]
    brake = krauss.brake_gap(ego.speed, street.decel[ego.kind], 0.0)
    for i, space in enumerate(_space_behind(street, ego, items)):
        item = items[i]
        if space >= need or not (street.has_foes[item.link] and street.keep_clear[item.link]):
            continue
        if street.internal[ego.lane] and i == 0:
            continue  # who is on the junction leaves it
        for late in items[i:]:
            if late.distance >= brake + 0.1:
                late.request = False
                late.passing = late.waiting
        return


def _space_behind(street: Street, ego: Vehicle, items: list[Item]) -> list[float]:
    """Metres that are free behind each link, after everyone ahead has taken its place."""
    space = -sum(
        street.size[v.kind] + street.gap[v.kind]
        for v in street.on[ego.lane]
        if (v.position, -v.id) > (ego.position, -ego.id)
    )
    free: list[float] = []
    met: list[bool] = []
    stopped = False
    for item in items:
        if not stopped:
            more, stopped_here, waits = _room(street, street.next[item.link])
            space += more
            met.append(stopped_here)
            stopped = stopped_here or waits
        else:
            met.append(True)
        free.append(space)
    for i in range(len(items) - 1, 0, -1):
        link = items[i].link
        passable = street.link_kind[link] != LinkKind.ENTRY or (items[i].request and not street.is_red(link))
        if passable and not met[i - 1]:
            free[i - 1] = free[i]
    return free


def _room(street: Street, lane: int) -> tuple[float, bool, bool]:
    """What a lane adds to the free space; whether a vehicle stands there; whether its last one has to wait."""
    vehicles = street.on[lane]
    used = sum(street.size[v.kind] + street.gap[v.kind] for v in vehicles)
    if street.internal[lane]:
        return -used, False, False
    if not vehicles:
        return street.length[lane], False, False
    taken = 0.0
    for other in reversed(vehicles):
        if other.speed < STANDING:
            room = street.rear(other) - taken
            return room, True, True
        taken += street.size[other.kind] + street.gap[other.kind]
    return street.length[lane] - used, False, vehicles[-1].hindered
