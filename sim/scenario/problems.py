"""Errors in a scenario as a person wants to read them: all at once, each with its place and, where known, a remedy."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fedsched.sim.errors import UserError
from fedsched.sim.scenario.base import Place
from fedsched.sim.scenario.marks import Finding
from fedsched.sim.scenario.model import Scenario
from fedsched.sim.scenario.sites import SITES

_YAML_BOOL = "YAML reads yes, no, on and off as true and false; put it in quotes"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a scenario.

    Attributes:
        where: `file:line:column`, or the override that caused it.
        place: Dotted path of the value.
        message: What is wrong and, where known, what was meant.
        source: The line of the file; empty for an override.
        line: Its number, from 1; 0 for an override.
        column: Where in that line, from 1.
    """

    where: str
    place: str
    message: str
    source: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """The message, and below it the line of the file with a caret."""
        head = ": ".join(part for part in (self.where, self.place, self.message) if part)
        if not self.source:
            return head
        caret = "".join("\t" if c == "\t" else " " for c in self.source[: self.column - 1])
        return f"{head}\n    {self.source}\n    {caret}^"


class ScenarioError(UserError):
    """A scenario that cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        tail = f"{count} in {name}; `fedsched schema` shows every key"
        super().__init__("\n".join([*map(str, problems), tail]))


def findings(error: ValidationError) -> list[Finding]:
    """What pydantic found, in our words."""
    found: list[Finding] = []
    for detail in error.errors(include_url=False):
        if detail["type"] == "inconsistent":
            inner: Iterable[tuple[Place, str]] = detail["ctx"]["problems"]
            found += [Finding((*_without_kind(detail["loc"]), *place), message) for place, message in inner]
        else:
            found.append(_finding(detail))
    return found


def _finding(detail: ErrorDetails) -> Finding:
    place, kind, value = _without_kind(detail["loc"]), detail["type"], detail["input"]
    if kind == "literal_error" and place[-1] == "domain":
        known = " or ".join(repr(name) for name in SITES)
        return Finding(place, f"should be {known}, got {value!r}{_value_hint(value, known)}")
    if place and place[-1] == "[key]":
        message = f"{value!r} cannot be a name here: lower-case letters, digits and _, with a letter first"
        return Finding(place[:-1], message, about_key=True)
    if kind == "string_pattern_mismatch":
        words = "lower-case letters, digits, _ and -, with a letter or digit first, at most 64"
        return Finding(place, f"{value!r} cannot be a name here: {words}")
    if kind == "extra_forbidden":
        return Finding(place, f"unknown key {place[-1]!r}{_key_hint(detail['loc'])}", about_key=True)
    if kind == "missing":
        return Finding(place, f"{place[-1]!r} is missing")
    if kind in {"model_type", "dict_type", "model_attributes_type"}:
        return Finding(place, f"a mapping of keys to values is needed, got {value!r}")
    expected = str(detail.get("ctx", {}).get("expected", ""))
    message = detail["msg"].replace("Input should", "should").replace("Tuple", "List").replace("valid tuple", "list")
    shown = "" if repr(value) in message else f", got {value!r}"
    return Finding(place, f"{message}{shown}{_value_hint(value, expected)}")


def _value_hint(value: object, expected: str) -> str:
    """The allowed value that was meant, or the trap of YAML that was stepped into."""
    if isinstance(value, bool):
        return f" ({_YAML_BOOL})"
    if not isinstance(value, str):
        return ""
    near = difflib.get_close_matches(value, re.findall(r"'([^']+)'", expected), n=1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    if re.fullmatch(r"[+-]?[0-9]+[eE][+-]?[0-9]+", value):
        mantissa, exponent = re.split("[eE]", value)
        return f" (YAML reads {value} as text; write {mantissa}.0e{exponent})"
    return ""


def _key_hint(place: Place) -> str:
    """The key that was meant, or else the keys that there are."""
    known = sorted(_model_at(place[:-1]).model_fields)
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f"; known keys are {', '.join(known)}"


def _model_at(place: Place) -> type[BaseModel]:
    """The part of a scenario that is described at this path, as pydantic gives it: with the kind behind each site."""
    model: type[BaseModel] = Scenario
    names = iter(place)
    for name in names:
        inner, is_container = _model_in(model.model_fields[str(name)].annotation)
        if is_container:
            next(names)
        if name == "sites":
            inner = SITES[str(next(names))]
        assert inner is not None
        model = inner
    return model


def _without_kind(place: Place) -> Place:
    """The path in the file: there, the kind of a site is no key of its own."""
    return (*place[:2], *place[3:]) if place[:1] == ("sites",) and len(place) > 2 and place[2] in SITES else place


def _model_in(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    """The part that a type holds, and whether it holds many of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    many = get_origin(annotation) in {dict, tuple}
    for argument in get_args(annotation):
        inner, deeper = _model_in(argument)
        if inner is not None:
            return inner, many or deeper
    return None, many
