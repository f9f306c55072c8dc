"""From a YAML file, with overrides, to a checked scenario."""

import copy
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedsched.sim.errors import UserError
from fedsched.sim.scenario.base import Place
from fedsched.sim.scenario.marks import Finding, MarkedText, read_marked
from fedsched.sim.scenario.model import Scenario
from fedsched.sim.scenario.problems import Problem, ScenarioError, findings


@dataclass(frozen=True)
class Override:
    """One value from the command line.

    Attributes:
        place: Path of the value.
        value: What YAML reads after the equals sign.
        shown: The option as it was typed, for messages.
    """

    place: Place
    value: Any
    shown: str


def shipped() -> dict[str, str]:
    """The text of every scenario in the package, by name."""
    folder = resources.files("fedsched.sim") / "scenarios"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {f.name.removesuffix(".yaml"): f.read_text(encoding="utf-8") for f in files}


def scenario_text(source: str | Path) -> tuple[str, str, Path]:
    """Finds a scenario.

    Args:
        source: Path of a file, or the name of a shipped scenario.

    Returns:
        Its text, its name for messages, and the folder that its paths start from.

    Raises:
        UserError: There is no such scenario, or its file cannot be read.
    """
    path = Path(source)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8"), str(source), path.parent
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{source}: cannot be read as UTF-8 text: {error}") from error
    texts = shipped()
    name = str(source).removesuffix(".yaml")
    if name in texts:
        return texts[name], f"{name}.yaml", Path()
    if path.is_dir():
        raise UserError(f"{source}: is a folder; name the scenario file in it")
    near = difflib.get_close_matches(name, texts, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UserError(
        f"{source}: no such file, and no shipped scenario of that name{hint}; shipped are {', '.join(texts)}"
    )


def read_override(text: str, option: str = "--set") -> Override:
    """Reads `a.b=c`.

    Args:
        text: The override; the value is YAML.
        option: Its option, for messages.

    Raises:
        UserError: Not of that form.
    """
    shown = f"{option} {text}"
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"{shown}: a path and a value are needed, as in {option} federation.rounds=20")
    marked = read_marked(value, shown)
    if marked.slips:
        raise UserError(f"{shown}: {marked.slips[0].message}")
    return Override(tuple(int(key) if key.isdecimal() else key for key in keys), marked.data, shown)


def apply_override(data: dict[Any, Any], override: Override) -> None:
    """Writes one value into plain data; mappings that are missing on the way are made.

    Raises:
        UserError: The path leads through something that is no mapping or list.
    """
    *way, last = override.place
    inner: Any = data
    for depth, key in enumerate(way):
        _must_hold(inner, key, override, depth)
        if isinstance(inner, dict) and inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
    _must_hold(inner, last, override, len(way))
    inner[last] = override.value


def _must_hold(data: object, key: str | int, override: Override, depth: int) -> None:
    """Raises where `key` can be neither found in `data` nor added to it."""
    if isinstance(data, dict):
        return
    above = ".".join(map(str, override.place[:depth]))
    if not isinstance(data, list):
        raise UserError(f"{override.shown}: {above} is not a mapping, it has no {key!r}")
    if not isinstance(key, int) or key >= len(data):
        items = f"a list of {len(data)}"
        raise UserError(f"{override.shown}: {above} is {items}; a number below that is needed, got {key!r}")


def load_scenario(source: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """Reads and checks a scenario.

    Args:
        source: Path of a file, or the name of a shipped scenario.
        overrides: Values such as `federation.rounds=20`, applied in order.

    Raises:
        ScenarioError: Everything that is wrong with it.
        UserError: There is no such scenario, or an override that cannot be read.
    """
    text, name, folder = scenario_text(source)
    marked = read_marked(text, name)
    if not isinstance(marked.data, dict):
        found = marked.slips or [Finding((), "a scenario is a mapping of keys to values")]
        raise ScenarioError(name, [_problem(finding, marked, ()) for finding in found])
    read = [read_override(override) for override in overrides]
    for override in read:
        apply_override(marked.data, override)
    return check(marked.data, marked, read, folder)


def locate(
    source: str | Path, overrides: Sequence[str], found: Sequence[Finding], values: Sequence[Override] = ()
) -> ScenarioError:
    """What turned out to be wrong with a scenario that had been read, with its places in the text.

    Args:
        source: What `load_scenario` read.
        overrides: Those it was given.
        found: What is wrong.
        values: Those of a grid, written over it.
    """
    text, name, _ = scenario_text(source)
    marked = read_marked(text, name)
    changes = [*(read_override(override) for override in overrides), *values]
    return ScenarioError(name, [_problem(finding, marked, changes) for finding in found])


def check(data: dict[str, Any], marked: MarkedText, overrides: Sequence[Override], folder: Path) -> Scenario:
    """Makes a scenario of plain data; messages point into the text that it came from.

    Raises:
        ScenarioError: Everything that is wrong with it.
    """
    found = list(marked.slips)
    try:
        scenario = Scenario.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        found += findings(error)
        found += _behind_unknown_keys(data, found, folder)
    if not found:
        return scenario
    problems = [_problem(finding, marked, overrides) for finding in found]
    raise ScenarioError(marked.name, sorted(problems, key=lambda p: (p.line == 0, p.line, p.column)))


def _behind_unknown_keys(data: dict[str, Any], found: Sequence[Finding], folder: Path) -> list[Finding]:
    """What the checks between parts find once the unknown keys are gone, if those are all that is wrong."""
    if not all(finding.about_key for finding in found):
        return []
    repaired = copy.deepcopy(data)
    for finding in found:
        inner: Any = repaired
        for key in finding.place[:-1]:
            inner = inner[key]
        inner.pop(finding.place[-1], None)
    try:
        Scenario.model_validate(repaired, context={"folder": folder})
    except ValidationError as error:
        return findings(error)
    return []


def _problem(finding: Finding, marked: MarkedText, overrides: Sequence[Override]) -> Problem:
    """Looks up where a finding stands: in the last override that has to do with it, else in the file."""
    dotted = ".".join(map(str, finding.place))
    for override in reversed(overrides):
        if _caused(override, finding.place, marked):
            return Problem(override.shown, dotted, finding.message)
    mark = finding.mark or marked.mark(finding.place, finding.about_key)
    source = marked.lines[mark.line - 1] if mark.line <= len(marked.lines) else ""
    where = f"{marked.name}:{mark.line}:{mark.column}"
    return Problem(where, dotted, finding.message, source, mark.line, mark.column)


def _caused(override: Override, place: Place, marked: MarkedText) -> bool:
    """Whether an override set this value, something in it, or something around it."""
    within = place if place in marked.values else place[:-1]
    inside = (
        within != () and override.place[: len(within)] == within and (within == place or within not in marked.values)
    )
    return inside or place[: len(override.place)] == override.place
