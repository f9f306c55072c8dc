"""The world of a foreign environment: which one, with which arguments, and where its copies are stepped."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, ValidationInfo
from pydantic_core import PydanticCustomError

from fedsched.sim.scenario.base import Part
from fedsched.sim.scenario.places import name_or_file

ForeignRule = Literal["random", "first"]
"""Rules for environments of which nothing is known: any legal action; the first one, or the vector next to zero."""


def _entry_point(value: str, info: ValidationInfo) -> str:
    place, colon, function = value.rpartition(":")
    if not colon or not place or not function.isidentifier():
        text = "should be 'package.module:function' or 'file.py:function'"
        raise PydanticCustomError("entry_point", "{text}", {"text": text})
    return f"{name_or_file(place, info, (), ('.py',))}:{function}" if Path(place).suffix == ".py" else value


class PettingZooWorld(Part):
    """A PettingZoo parallel environment; each of its agents is an agent."""

    domain: Literal["pettingzoo"] = Field(description="Kind of site")
    entry_point: Annotated[str, AfterValidator(_entry_point)] = Field(
        description="What makes the environment: package.module:parallel_env, or a file: mine.py:parallel_env"
    )
    arguments: dict[str, JsonValue] = Field(default={}, description="Keyword arguments of that function")
    workers: int = Field(default=0, ge=0, description="Processes that step the copies; 0: the site's own process")
    limit: int | None = Field(
        default=None, ge=1, description="Steps after which an episode is cut off; null: the environment ends it"
    )
    numbered: bool | None = Field(
        default=None, description="Whether agents see their number in their kind; null: where there are several"
    )
    neighbours: dict[str, Annotated[tuple[str, ...], Field(strict=False)]] | None = Field(
        default=None,
        description="Whom each agent hears, by name; who is not named hears nobody; null: everybody everybody",
    )
