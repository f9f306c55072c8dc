"""A scenario with every default, for the run folder, for people and for editors."""

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from fedsched.sim.scenario.model import Scenario


def resolved(scenario: Scenario) -> dict[str, Any]:
    """Every key with its value as plain JSON data; validating it gives an equal scenario."""
    return scenario.model_dump(mode="json")


def schema() -> dict[str, Any]:
    """The JSON Schema of scenario files, for completion and checks in editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}


def commented(scenario: Scenario) -> str:
    """Every key with its value as YAML, each with a comment that says what it is."""
    return "\n".join(_lines(scenario, resolved(scenario), "")) + "\n"


def _lines(part: BaseModel, data: dict[str, Any], indent: str) -> Iterator[str]:
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        yield f"{indent}# {info.description}"
        yield from _entry(name, value, data[name], indent)


def _entry(name: str, value: object, plain: object, indent: str) -> Iterator[str]:
    deeper = indent + "  "
    if isinstance(value, BaseModel) and isinstance(plain, dict):
        yield f"{indent}{name}:"
        yield from _lines(value, plain, deeper)
    elif isinstance(value, dict) and value and isinstance(plain, dict):
        yield f"{indent}{name}:"
        for key, item in value.items():
            yield from _entry(key, item, plain[key], deeper)
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel) and isinstance(plain, list):
        yield f"{indent}{name}:"
        for item, plain_item in zip(value, plain, strict=True):
            first, *others = _lines(item, plain_item, deeper + "  ")
            yield f"{deeper}- {first.strip()}"
            yield from others
    else:
        yield f"{indent}{name}: {in_one_line(plain)}"


def in_one_line(plain: object) -> str:
    """A value in one line of YAML."""
    return yaml.safe_dump(plain, default_flow_style=True, width=10**6).strip().removesuffix("...").strip()
