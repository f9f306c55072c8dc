"""The world of a city: which streets, which demand, and when its signals decide."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict, ValidationInfo

from fedsched.sim.scenario.base import Part, Place
from fedsched.sim.scenario.places import name_or_file
from fedsched.sim.scenario.units import Seconds

MAPS = (
    "arterial4x4", "cologne1", "cologne3", "cologne8", "grid4x4", "ingolstadt1", "ingolstadt21", "ingolstadt7",
)  # fmt: skip
"""RESCO's maps; they come from the extra `maps` or from the folder that FEDSCHED_MAPS names."""
CITIES = ("grid3x3", "generated", *MAPS)
"""Cities by name."""

SignalRule = Literal[
    "program", "actuated", "webster", "green-wave", "sotl", "max-pressure", "max-pressure-all", "greedy"
]
"""The classical signal controllers by name."""


def _city(value: str, info: ValidationInfo) -> str:
    return name_or_file(value, info, CITIES, (".sumocfg",))


def _ends_late(begin_s: float, end_s: float) -> Iterable[tuple[Place, str]]:
    if end_s <= begin_s:
        yield ("end",), f"should be after 'begin', which is {begin_s:g} s, got {end_s:g} s"


class CityGenerator(Part):
    """Streets drawn by shape and seed."""

    shape: Literal["grid", "arterial", "ring", "irregular"] = Field(default="grid", description="What is drawn")
    seed: int = Field(default=0, ge=0, description="Of the streets and of all draws of traffic")
    sizes: dict[str, int | float | bool] = Field(
        default={},
        description="Sizes other than the defaults of the shape (docs/intersections.md), such as {rows: 4, lanes: 1}",
    )


class Surge(Part):
    """More vehicles to or from one place for a while, as at a stadium."""

    place: str = Field(description="Id of a node at which roads end")
    begin: Seconds = Field(ge=0, description="From the begin of the episode")
    end: Seconds = Field(gt=0, description="Until then")
    vehicles: float = Field(gt=0, description="How many, in the mean")
    leaving: bool = Field(default=False, description="Whether they come from there instead of going there")

    def problems(self) -> Iterable[tuple[Place, str]]:
        """It ends after its begin."""
        yield from _ends_late(self.begin, self.end)


class Incident(Part):
    """Nobody enters a lane, or any lane of a road in one direction, for a while."""

    edge: str = Field(description="Id of the directed edge")
    begin: Seconds = Field(ge=0, description="From the begin of the episode")
    end: Seconds = Field(gt=0, description="Until then")
    lane: int | None = Field(default=None, ge=0, description="Number of the lane, 0 is rightmost; null: the whole edge")

    def problems(self) -> Iterable[tuple[Place, str]]:
        """It ends after its begin."""
        yield from _ends_late(self.begin, self.end)


class CityTraffic(Part):
    """Who drives in a generated city; every demand is another draw."""

    vehicles_per_h: float = Field(default=1500.0, gt=0, description="That enter the city, at a factor of 1")
    duration: Seconds = Field(default=1200.0, gt=0, description="Length of an episode")
    profile: tuple[Annotated[tuple[Seconds, float], Strict(False)], ...] = Field(
        default=((0.0, 1.0),), strict=False, description="Pairs of time and factor; linear between"
    )
    reach_km: float | None = Field(
        default=None,
        gt=0,
        description="How far people drive: destinations count less by e every so many km; null: alike",
    )
    detours: float = Field(
        default=0.3, ge=0, description="Up to which share drivers think that a road takes longer than it does"
    )
    bus_share: float = Field(default=0.03, ge=0, le=1, description="Buses, of all vehicles")
    lorry_share: float = Field(default=0.05, ge=0, le=1, description="Lorries, of all vehicles")
    emergency_share: float = Field(default=0.01, ge=0, le=1, description="Emergency vehicles, of all vehicles")
    surges: tuple[Surge, ...] = Field(default=(), strict=False, description="Beside all that")
    incidents: tuple[Incident, ...] = Field(default=(), strict=False, description="Closed lanes and roads")
    random_incidents: int = Field(default=0, ge=0, description="How many more are drawn for each demand")


class District(Part):
    """One of several parts of a city, each with about as many signals, or as much traffic."""

    number: int = Field(ge=1, description="Which one, from 1")
    of: int = Field(ge=2, le=64, description="How many districts the city has; each is a site")
    by: Literal["signals", "traffic"] = Field(default="signals", description="What the districts have equally much of")

    def problems(self) -> Iterable[tuple[Place, str]]:
        """There are no more than there are."""
        if self.number > self.of:
            yield ("number",), f"there are districts 1 to {self.of}, got {self.number}"


class DemandVariation(Part):
    """How the demands that train differ from the given one, so that nobody learns one hour by heart."""

    volume: float = Field(
        default=0.3, ge=0, lt=1, description="Largest relative difference of the number of trips: 0.3 is 70 to 130 %"
    )
    jitter: Seconds = Field(default=60.0, ge=0, le=86_400, description="Largest difference of a departure")
    incidents: int = Field(default=0, ge=0, description="Lanes that are closed for a while in each of them")
    scale: float = Field(
        default=1.0, gt=0, le=10, description="Factor on the number of trips of all demands, those of tests as well"
    )
    detours: float = Field(
        default=0.0, ge=0, le=10,
        description="Up to which share drivers whose file gives no route think that a road takes longer",
    )  # fmt: skip


class IntersectionsWorld(Part):
    """The streets of a city; each of its signals is an agent."""

    domain: Literal["intersections"] = Field(description="Kind of site")
    city: Annotated[str, AfterValidator(_city)] = Field(
        description=f"Streets and demand: {', '.join(CITIES)}, or a path to a .sumocfg file"
    )
    generator: CityGenerator | None = Field(default=None, description="The streets of 'city: generated'")
    traffic: CityTraffic | None = Field(default=None, description="Traffic of 'city: generated'; null: its defaults")
    demands: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Demands drawn from the flows of the files, or generated; of five and more, 60 % train, 20 % "
        "validate, 20 % test; with 'variation' and one given demand, how many varied ones train",
    )
    variation: DemandVariation | None = Field(
        default=None, description="How the demands that train differ from the given ones; null: not at all"
    )
    weather: Literal["clear", "rain", "heavy_rain", "snow", "fog"] = Field(
        default="clear", description="Slower and more cautious driving"
    )
    timing: Literal["resco", "sumo_rl", "free"] = Field(
        default="resco",
        description="When signals decide: resco: every 10 s; sumo_rl: every 5 s; free: each by itself, every second",
    )
    district: District | None = Field(
        default=None,
        description="The site is this part of the city: it learns there alone, and acts in the whole with the others; "
        "null: the whole city",
    )
    controlled: tuple[str, ...] | None = Field(
        default=None, strict=False, description="Ids of the signals that decide; null: all that have a green phase"
    )

    def problems(self) -> Iterable[tuple[Place, str]]:
        """Somebody has to decide, there is something to vary, and every city has what belongs to it."""
        yield from self._of_the_city()
        if self.controlled is not None and not self.controlled:
            yield ("controlled",), "no signal is named; name one, or null for all"
        if self.variation is not None and self.demands < 2:
            yield ("demands",), "one varied demand is learned by heart; write how many train, such as 'demands: 64'"

    def _of_the_city(self) -> Iterable[tuple[Place, str]]:
        """A generated city has a generator, and RESCO's maps are as they are."""
        if self.city == "generated" and self.generator is None:
            yield ("city",), "a generated city needs 'generator', such as generator: {shape: ring}"
        if self.city in MAPS and self.controlled is not None:
            yield (
                ("controlled",),
                f"{self.city} has the signals that RESCO controls; leave it out",
            )
        if self.city in MAPS and self.demands != 1 and self.variation is None:
            yield ("demands",), f"{self.city} has one demand, of fixed trips; leave it out, or add 'variation: {{}}'"
        for key in ("generator", "traffic"):
            if self.city != "generated" and getattr(self, key) is not None:
                yield (key,), f"belongs to 'city: generated', but the city is {self.city!r}"
