"""Quantities as people write them (`6h`, `20 GB`, `1 Gbps`, `170 W`), held as floats of one base unit."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]+)\s*")

DURATIONS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds by unit."""
SIZES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
"""Bytes by unit."""
RATES = {"bps": 1.0, "kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9, "Tbps": 1e12}
"""Bits per second by unit."""
POWERS = {"W": 1.0, "kW": 1e3, "MW": 1e6}
"""Watts by unit."""


def _error(kind: str, example: str, units: Mapping[str, float], why: str) -> PydanticCustomError:
    context = {"kind": kind, "example": example, "units": ", ".join(units), "why": why}
    return PydanticCustomError("quantity", "{kind} as in '{example}' (units: {units}) is needed: {why}", context)


def parse_quantity(value: object, kind: str, example: str, units: Mapping[str, float]) -> float:
    """Reads a number with its unit; zero needs none.

    Args:
        value: What the file holds.
        kind: What is wanted, for the message, such as `a duration`.
        example: How it is written.
        units: Base units per unit.

    Raises:
        PydanticCustomError: Not a number with one of the units.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _error(kind, example, units, f"got {value!r}")
    if not isinstance(value, str):
        if value == 0:
            return 0.0
        raise _error(kind, example, units, f"{value} has no unit")
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise _error(kind, example, units, f"got {value!r}")
    number, unit = match.groups()
    if unit not in units:
        near = next((known for known in units if known.lower() == unit.lower()), None)
        hint = f" (did you mean '{near}'?)" if near else ""
        raise _error(kind, example, units, f"unknown unit {unit!r}{hint}")
    return float(number) * units[unit]


def format_quantity(value: float, units: Mapping[str, float]) -> str:
    """Writes a quantity in the largest unit in which it reads back exactly and needs no leading zero."""
    for unit, size in sorted(units.items(), key=lambda item: -item[1]):
        number = value / size
        text = f"{number:.12g}"
        if number >= 1 and "e" not in text and float(text) * size == value:
            return f"{text} {unit}"
    base = next(unit for unit, size in units.items() if size == 1.0)
    return f"{value!r} {base}"


def _parser(kind: str, example: str, units: Mapping[str, float]) -> Callable[[Any], float]:
    return lambda value: parse_quantity(value, kind, example, units)


def _schema(example: str, units: Mapping[str, float]) -> WithJsonSchema:
    pattern = rf"^\s*[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?\s*({'|'.join(units)})\s*$"
    return WithJsonSchema({"anyOf": [{"type": "string", "pattern": pattern, "examples": [example]}, {"const": 0}]})


Seconds = Annotated[
    float,
    BeforeValidator(_parser("a duration", "6h", DURATIONS)),
    PlainSerializer(lambda value: format_quantity(value, DURATIONS), return_type=str),
    _schema("6h", DURATIONS),
]
Bytes = Annotated[
    float,
    BeforeValidator(_parser("a size", "20 GB", SIZES)),
    PlainSerializer(lambda value: format_quantity(value, SIZES), return_type=str),
    _schema("20 GB", SIZES),
]
BitsPerSecond = Annotated[
    float,
    BeforeValidator(_parser("a rate", "1 Gbps", RATES)),
    PlainSerializer(lambda value: format_quantity(value, RATES), return_type=str),
    _schema("1 Gbps", RATES),
]
Watts = Annotated[
    float,
    BeforeValidator(_parser("a power", "170 W", POWERS)),
    PlainSerializer(lambda value: format_quantity(value, POWERS), return_type=str),
    _schema("170 W", POWERS),
]
