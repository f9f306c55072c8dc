"""Cities and traffic from plain mappings, as scenarios and files hold them."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from fedsched.envs.intersections.generate.cities import Arterial, City, Grid, Irregular, Ring
from fedsched.envs.intersections.generate.incidents import Incident
from fedsched.envs.intersections.generate.traffic import Surge, Traffic
from fedsched.envs.intersections.network import IntersectionsError

CITIES: dict[str, type[City]] = {"grid": Grid, "arterial": Arterial, "ring": Ring, "irregular": Irregular}
"""Shapes by name."""

_Part = TypeVar("_Part", City, Traffic, Surge, Incident)


def city_from(values: Mapping[str, Any]) -> City:
    """A city from `kind` and the parameters of its shape.

    Raises:
        IntersectionsError: An unknown kind, an unknown parameter, or a value that cannot be used, by name.
    """
    kind = values.get("kind")
    if kind not in CITIES:
        raise IntersectionsError(f"city: kind={kind!r}; write one of {', '.join(CITIES)}")
    return _made(CITIES[kind], {name: value for name, value in values.items() if name != "kind"})


def traffic_from(values: Mapping[str, Any]) -> Traffic:
    """Traffic from its parameters; `profile`, `surges` and `incidents` are lists, of pairs and of mappings.

    Raises:
        IntersectionsError: An unknown parameter, or a value that cannot be used, by name.
    """
    given = dict(values)
    if "profile" in given:
        pairs = _listed(given["profile"], "profile")
        if any(not _is_pair(pair) for pair in pairs):
            raise IntersectionsError(f"Traffic: profile={given['profile']!r}; write pairs of s and a factor")
        given["profile"] = tuple(tuple(pair) for pair in pairs if isinstance(pair, Sequence))
    if "surges" in given:
        given["surges"] = tuple(_made(Surge, row) for row in _listed(given["surges"], "surges"))
    if "incidents" in given:
        given["incidents"] = tuple(_made(Incident, row) for row in _listed(given["incidents"], "incidents"))
    return _made(Traffic, given)


def _made(kind: type[_Part], values: object) -> _Part:
    """One part; its own check names what is out of bounds."""
    if not isinstance(values, Mapping):
        raise IntersectionsError(f"{kind.__name__}: {values!r}; write its parameters by name")
    known = [item.name for item in fields(kind)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise IntersectionsError(f"{kind.__name__}: no parameter {unknown[0]!r}; there are {', '.join(known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise IntersectionsError(f"{kind.__name__}: {error}; write what is missing") from None


def _listed(value: object, name: str) -> Sequence[object]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise IntersectionsError(f"Traffic: {name}={value!r}; write a list")
    return value


def _is_pair(value: object) -> bool:
    """Whether it is two numbers."""
    if not isinstance(value, Sequence) or len(value) != 2:
        return False
    return all(isinstance(number, int | float) and not isinstance(number, bool) for number in value)
