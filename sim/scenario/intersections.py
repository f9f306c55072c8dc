"""The world of a city: which streets, which demand, and when its signals decide."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from fedsched.sim.scenario.base import Part, Place
from fedsched.sim.scenario.places import name_or_file

CITIES = ("grid3x3",)
"""Cities that are shipped."""

SignalRule = Literal["program", "webster", "green-wave", "sotl", "max-pressure", "max-pressure-all", "greedy"]
"""The classical signal controllers by name."""


def _city(value: str, info: ValidationInfo) -> str:
    return name_or_file(value, info, CITIES, (".sumocfg",))


class IntersectionsWorld(Part):
    """The streets of a city; each of its signals is an agent."""

    domain: Literal["intersections"] = Field(description="Kind of site")
    city: Annotated[str, AfterValidator(_city)] = Field(
        description=f"Streets and demand: {', '.join(CITIES)}, or a path to a .sumocfg file"
    )
    demands: int = Field(
        default=1,
        ge=1,
        description="Demands drawn from the flows of the files; of five and more, 60 % train, 20 % validate, 20 % test",
    )
    timing: Literal["resco", "sumo_rl", "free"] = Field(
        default="resco",
        description="When signals decide: resco: every 10 s; sumo_rl: every 5 s; free: each by itself, every second",
    )
    controlled: tuple[str, ...] | None = Field(
        default=None, strict=False, description="Ids of the signals that decide; null: all that have a green phase"
    )

    def problems(self) -> Iterable[tuple[Place, str]]:
        """Somebody has to decide."""
        if self.controlled is not None and not self.controlled:
            yield ("controlled",), "no signal is named; name one, or null for all"
