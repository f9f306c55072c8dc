"""Parameters within bounds, with errors that name them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NoReturn

from fedsched.envs.intersections.network import IntersectionsError


def check_fields(part: Any, bounds: Mapping[str, tuple[float, float]]) -> None:  # noqa: ANN401 - any dataclass
    """Raises IntersectionsError for a number of a dataclass that is of the wrong kind or out of its bounds.

    Args:
        part: A dataclass.
        bounds: Least and greatest value by field; fields without bounds and flags are checked by their kind alone.
    """
    for item in fields(part):
        value = getattr(part, item.name)
        kind = item.type
        if kind is bool and not isinstance(value, bool):
            fail(part, item.name, value, "write true or false")
        if kind not in (int, float):
            continue
        if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
            fail(part, item.name, value, "write a whole number" if kind is int else "write a number")
        low, high = bounds[item.name]
        if not low <= value <= high:
            fail(part, item.name, value, f"write {low:g} to {high:g}")


def fail(part: object, name: str, value: object, remedy: str) -> NoReturn:
    """Raises IntersectionsError for a parameter."""
    raise IntersectionsError(f"{type(part).__name__}: {name}={value!r}; {remedy}")
