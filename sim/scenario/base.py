"""What every part of a scenario has in common: frozen, strict, no unknown keys, and checks that name their place."""

from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

Place = tuple[str | int, ...]
"""Keys and list indices from a part down to a value."""


class Part(BaseModel):
    """A mapping of a scenario file."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def problems(self) -> Iterable[tuple[Place, str]]:
        """What is wrong although each value is fine by itself, with the place of the value to change."""
        return ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = list(self.problems())
        if found:
            text = "; ".join(message for _, message in found)
            raise PydanticCustomError("inconsistent", "{text}", {"text": text, "problems": found})
        return self
