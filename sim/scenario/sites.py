"""The organisations of a scenario: each kind of site with its world and with what it may want."""

import difflib
from collections.abc import Iterable
from typing import Annotated, TypeVar, get_args

from pydantic import Discriminator, Field, Tag

from fedsched.sim.domains import DOMAINS
from fedsched.sim.scenario.base import Part, Place
from fedsched.sim.scenario.datacenter import DatacenterWorld, Rule
from fedsched.sim.scenario.intersections import IntersectionsWorld, SignalRule
from fedsched.sim.scenario.pettingzoo import ForeignRule, PettingZooWorld

RULES: dict[str, tuple[str, ...]] = {
    "datacenter": get_args(Rule),
    "intersections": get_args(SignalRule),
    "pettingzoo": get_args(ForeignRule),
}
"""Names of the classical schedulers, by domain."""
STARTS: dict[str, tuple[str, ...]] = {
    "datacenter": ("saf", "wfp3", "fcfs", "f2", "none"),
    "intersections": ("greedy", "max-pressure", "none"),
    "pettingzoo": ("none",),
}
"""Rules that an untrained policy can follow softly, by domain; the first is the default."""
TEACHERS: dict[str, tuple[str, ...]] = {
    "datacenter": tuple(f"{rule}{easy}" for rule in ("fcfs", "sjf", "saf", "wfp3", "unicep") for easy in ("", "-easy")),
    "intersections": ("greedy", "max-pressure"),
    "pettingzoo": (),
}
"""Rules that decide from what policies see, by domain: these can be imitated."""
AGAINST: dict[str, tuple[str, ...]] = {
    "datacenter": ("fcfs-easy", "saf-easy", "f2-easy"),
    "intersections": ("program", "max-pressure", "greedy"),
    "pettingzoo": ("random", "first"),
}
"""Rules to compare with where the scenario names none."""


class _Weights(Part):
    def problems(self) -> Iterable[tuple[Place, str]]:
        """Something must count."""
        if not any(getattr(self, name) for name in type(self).model_fields):
            yield (), "all weights are zero, so there is nothing to learn; give one of them a value"


class Weights(_Weights):
    """How the parts of a data centre's reward add up; parts that are not named count nothing."""

    utilization: float = Field(default=0.0, ge=0, description="Busy share of the processors")
    qos: float = Field(default=0.0, ge=0, description="Bounded slowdown of the jobs")
    wait: float = Field(default=0.0, ge=0, description="Hours that jobs wait")
    energy_efficiency: float = Field(default=0.0, ge=0, description="Energy of the facility")
    carbon: float = Field(default=0.0, ge=0, description="Carbon dioxide from that energy")
    cost: float = Field(default=0.0, ge=0, description="Price of that energy")


class SignalWeights(_Weights):
    """How the parts of a signal's reward add up, of the vehicles that meet it next; unnamed parts count nothing."""

    delay: float = Field(default=0.0, ge=0, description="1 - speed / desired speed, within 200 m, a second")
    queue: float = Field(default=0.0, ge=0, description="Halting vehicles within 200 m, a second")
    waiting: float = Field(default=0.0, ge=0, description="Standing vehicles, however far, a second")
    pressure: float = Field(default=0.0, ge=0, description="Queue minus that on the first 200 m behind the signal")
    stops: float = Field(default=0.0, ge=0, description="Vehicles that came to stand")
    throughput: float = Field(default=0.0, ge=0, description="Vehicles that passed the stop line")
    fuel: float = Field(default=0.0, ge=0, description="Millilitres of fuel")
    co2: float = Field(default=0.0, ge=0, description="Grams of carbon dioxide")
    priority_delay: float = Field(default=0.0, ge=0, description="Delay, of emergency vehicles x 10, of buses x 3")


class ForeignWeights(_Weights):
    """How a foreign reward counts."""

    reward: float = Field(default=1.0, description="The environment's own reward; of either sign")


class DatacenterSite(Part):
    """A data centre: its world, its copies of it for training, and what it wants."""

    world: DatacenterWorld = Field(description="What the site simulates")
    copies: int = Field(default=32, ge=1, description="Worlds simulated in parallel for training")
    weights: Weights = Field(default=Weights(qos=1.0), description="What the site wants: weights of the reward's parts")


class IntersectionsSite(Part):
    """A city: its world, its copies of it for training, and what it wants."""

    world: IntersectionsWorld = Field(description="What the site simulates")
    copies: int = Field(default=32, ge=1, description="Worlds simulated in parallel for training")
    weights: SignalWeights = Field(
        default=SignalWeights(queue=1.0), description="What the site wants: weights of the reward's parts"
    )


class PettingZooSite(Part):
    """A foreign environment: its copies of it for training, and what its reward counts."""

    world: PettingZooWorld = Field(description="What the site simulates")
    copies: int = Field(default=32, ge=1, description="Worlds simulated in parallel for training")
    weights: ForeignWeights = Field(default=ForeignWeights(), description="What the site wants")


def _domain(site: object) -> str:
    """Which kind of site is meant: the one that is named most alike, so that all else that is wrong is told as well."""
    world = site.get("world") if isinstance(site, dict) else getattr(site, "world", None)
    named = world.get("domain") if isinstance(world, dict) else getattr(world, "domain", None)
    near = difflib.get_close_matches(str(named), DOMAINS, n=1)
    return near[0] if near else DOMAINS[0]


Site = Annotated[
    Annotated[DatacenterSite, Tag("datacenter")]
    | Annotated[IntersectionsSite, Tag("intersections")]
    | Annotated[PettingZooSite, Tag("pettingzoo")],
    Discriminator(_domain),
]
SITES: dict[str, type[Part]] = {
    "datacenter": DatacenterSite,
    "intersections": IntersectionsSite,
    "pettingzoo": PettingZooSite,
}

W = TypeVar("W", DatacenterWorld, IntersectionsWorld, PettingZooWorld)


def as_kind(world: DatacenterWorld | IntersectionsWorld | PettingZooWorld, kind: type[W]) -> W:
    """A world as one of its kind; the scenario has been checked to have no other."""
    assert isinstance(world, kind), f"a {kind.__name__} was expected, not a {type(world).__name__}"
    return world
