"""Keeping junctions clear: nobody enters one that it cannot leave.

Source: what SUMO's MSVehicle::checkRewindLinkLanes does, in our own words; whether a minor link far ahead would be open
is not asked.
"""

from fedsched.envs.intersections.reference import following as krauss
from fedsched.envs.intersections.reference.planning import Plan
from fedsched.envs.intersections.reference.state import STANDING, Item, Street, Vehicle
from fedsched.envs.intersections.tables import LinkKind

BEYOND = 1000.0
"""m of room behind the end of a route."""


def keep_clear(street: Street, ego: Vehicle, plan: Plan) -> None:
    """Takes back the requests from the first link on behind which there is no room for the vehicle."""
    items = plan.items
    if not any(_to_keep(street, item.link) for item in items):
        return
    need = street.size[ego.kind] + street.gap[ego.kind]
    first = next(
        (
            i
            for i, room in enumerate(_room_behind(street, ego, plan))
            if room < need and _to_keep(street, items[i].link)
        ),
        None,
    )
    if first is None or (first == 0 and street.internal[ego.lane]):
        return
    brake = krauss.brake_gap(ego.speed, street.decel[ego.kind], 0.0)
    for i in range(first, len(items)):
        item = items[i]
        item.passing = item.waiting
        if i == len(items) - 1:
            plan.end_speed = min(plan.end_speed, item.waiting)
        leaves = street.link_kind[item.link] == LinkKind.EXIT and i > 0 and items[i - 1].request
        if item.distance >= brake + 0.1 and not leaves:
            item.request = False


def _to_keep(street: Street, link: int) -> bool:
    return bool(street.has_foes[link] and street.keep_clear[link])


def _room_behind(street: Street, ego: Vehicle, plan: Plan) -> list[float]:
    """Metres that are free behind each link, after everyone ahead has taken its place; none where nobody stands."""
    items = plan.items
    space = -sum(
        street.size[v.kind] + street.gap[v.kind]
        for v in street.on[ego.lane]
        if (v.position, -v.id) > (ego.position, -ego.id)
    )
    free: list[float] = []
    met: list[bool] = []
    stopped = False
    for item in items:
        stands = False
        if not stopped:
            more, stands = _room_on(street, ego, item)
            space += more
            stopped = stands
        free.append(space)
        met.append(stands)
    end = space + (BEYOND if plan.ends and not stopped else 0.0)
    for i in range(len(items), 0, -1):
        if i == len(items) and not plan.ends:
            continue
        item, link = items[i - 1], items[i - 1].link
        can_leave = not street.internal[street.next[link]] or i == len(items) or items[i].request
        opened = can_leave and (i == 1 or not street.is_red(link))
        allows = (street.cont[link] or opened) and not met[i - 1]
        if not opened:
            stopped = True
            allows = allows or (i > 1 and street.cont[items[i - 2].link])
        if allows:
            free[i - 1] = end if i == len(items) else free[i]
    return free if stopped else [BEYOND] * len(items)


def _room_on(street: Street, ego: Vehicle, item: Item) -> tuple[float, bool]:
    """What the lane behind a link adds to the free space, and whether somebody stands or has to wait there."""
    lane = street.next[item.link]
    vehicles = [v for v in street.on[lane] if v is not ego]
    if street.internal[lane] and _to_keep(street, item.link):
        return -sum(street.size[v.kind] + street.gap[v.kind] for v in vehicles), False
    if not vehicles and not street.rears[lane]:
        return street.length[lane], False
    taken = 0.0
    for other in reversed(vehicles):
        if other.speed < STANDING:
            return street.rear(other) + other.speed * street.tau[other.kind] - taken, True
        taken += street.size[other.kind] + street.gap[other.kind]
    last = vehicles[-1] if vehicles else street.rears[lane][0][1]
    return street.length[lane] - taken, last.hindered and not street.internal[lane]
