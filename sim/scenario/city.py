"""What sites that are districts of one city need of each other, and of their plan."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from fedsched.sim.scenario.agreement import Data, Link, Plan
from fedsched.sim.scenario.base import Part, Place
from fedsched.sim.scenario.intersections import District, IntersectionsWorld


class _Site(Protocol):
    @property
    def world(self) -> Part:
        """What the site simulates."""
        ...


def cities(sites: Mapping[str, _Site]) -> dict[str, IntersectionsWorld]:
    """The worlds of the sites that are cities or parts of one."""
    return {name: site.world for name, site in sites.items() if isinstance(site.world, IntersectionsWorld)}


def districts_of(sites: Mapping[str, _Site]) -> dict[str, int]:
    """Which district each site is, from 0."""
    worlds = cities(sites)
    return {name: world.district.number - 1 for name, world in worlds.items() if world.district is not None}


def district_problems(sites: Mapping[str, _Site]) -> Iterable[tuple[Place, str]]:
    """Districts are those of one city, each there once, alike in all but their number."""
    worlds = cities(sites)
    parts = {name: world.district for name, world in worlds.items() if world.district is not None}
    if not parts:
        return
    first = next(iter(parts))
    for name, world in worlds.items():
        place: Place = ("sites", name, "world")
        if world.district is None:
            yield place, f"{first} is a district, so all sites are: give each its 'district: {{number: ..., of: ...}}'"
            continue
        for key in type(world).model_fields:
            if key != "district" and getattr(world, key) != getattr(worlds[first], key):
                yield (
                    (*place, key),
                    f"differs from that of {first}; districts of a city differ in 'number' alone",
                )
        yield from _number_problems(name, world.district, parts, first)
    yield from _missing(parts, first)


def _number_problems(
    name: str, own: District, parts: Mapping[str, District], first: str
) -> Iterable[tuple[Place, str]]:
    place = ("sites", name, "world", "district")
    for key in ("of", "by"):
        if getattr(own, key) != getattr(parts[first], key):
            yield (*place, key), f"differs from that of {first}; the districts are those of one division"
    same = next(other for other, part in parts.items() if part.number == own.number)
    if same != name:
        yield (*place, "number"), f"district {own.number} is site {same} already; give each site one of its own"


def _missing(parts: Mapping[str, District], first: str) -> Iterable[tuple[Place, str]]:
    absent = sorted(set(range(1, parts[first].of + 1)) - {part.number for part in parts.values()})
    if absent:
        named = ", ".join(map(str, absent))
        yield ("sites",), f"of {parts[first].of} districts, {named} are no site; give each district one"


def plan_problems(sites: Mapping[str, _Site], plan: Plan) -> Iterable[tuple[Place, str]]:
    """Cities trade inflow, and only districts of one city can."""
    if any(world.district is None for world in cities(sites).values()):
        yield (
            ("plan",),
            "belongs to districts of one city or to data centres; whole cities have nothing to trade",
        )
        return
    if plan.market.resource != "inflow":
        yield ("plan", "market"), "districts trade the inflow of vehicles: write 'market: {resource: inflow}'"
    if plan.epoch % 1:
        yield ("plan", "epoch"), f"whole seconds are needed, got {plan.epoch:g} s"
    if plan.data != Data():
        yield ("plan", "data"), "belongs to data centres; vehicles bring none"
    if plan.links != {"default": Link()}:
        yield ("plan", "links"), "belongs to data centres; vehicles come by road"
