"""Several runs from one scenario: seeds and grids of values."""

import copy
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsched.sim.errors import UserError
from fedsched.sim.scenario.load import Override, apply_override, check, read_override
from fedsched.sim.scenario.marks import MarkedText
from fedsched.sim.scenario.model import Scenario
from fedsched.sim.scenario.show import in_one_line, resolved

_NAME_LENGTH = 60


@dataclass(frozen=True)
class Point:
    """One run of several.

    Attributes:
        scenario: What runs.
        values: Those of the grid.
    """

    scenario: Scenario
    values: tuple[Override, ...] = ()

    @property
    def label(self) -> str:
        """What tells the run from the others: `learning=local, seed 1`."""
        values = [f"{'.'.join(map(str, one.place))}={in_one_line(one.value)}" for one in self.values]
        return ", ".join([*values, f"seed {self.scenario.seed}"])

    @property
    def short_name(self) -> str:
        """The grid's values for the name of a folder: `learning-local`; empty without a grid."""
        text = "-".join(f"{one.place[-1]}-{in_one_line(one.value)}" for one in self.values)
        return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:_NAME_LENGTH]


def read_seeds(text: str) -> list[int]:
    """Reads `0-4`, `3` or `0,2,5-7`.

    Raises:
        UserError: Not of that form, or a seed twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]+)(?:\s*-\s*([0-9]+))?\s*", part)
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            raise UserError(f"--seeds {text}: seeds are written as in 0-4 or 0,2,5; {part!r} is not")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {text}: a seed is given twice")
    return seeds


def read_axis(text: str) -> list[Override]:
    """Reads one axis of a grid, `a.b=x,y`, as an override for each of its values.

    Raises:
        UserError: Not of that form.
    """
    path, equals, values = text.partition("=")
    if not equals:
        raise UserError(f"--grid {text}: a path and values are needed, as in --grid learning=federated,local")
    listed = read_override(f"{path}=[{values}]", "--grid").value
    if not listed:
        raise UserError(f"--grid {text}: no values")
    place = read_override(f"{path}=0", "--grid").place
    return [Override(place, value, f"--grid {path}={in_one_line(value)}") for value in listed]


def expand(scenario: Scenario, grid: Sequence[str] = (), seeds: str | None = None) -> list[Point]:
    """One run per grid point and seed, seeds innermost.

    Args:
        scenario: The scenario to vary.
        grid: Axes such as `agents.ppo.advantage=gae,group`; all combinations are made.
        seeds: Seeds such as `0-4`; the scenario's own by default.

    Raises:
        ScenarioError: A combination that is not valid.
        UserError: An axis or seeds that cannot be read.
    """
    axes = [read_axis(axis) for axis in grid]
    chosen = [scenario.seed] if seeds is None else read_seeds(seeds)
    made: list[Point] = []
    for point in itertools.product(*axes):
        data = copy.deepcopy(resolved(scenario))
        for override in point:
            apply_override(data, override)
        for seed in chosen:
            varied = {**data, "seed": seed} if seeds is not None else data
            made.append(Point(check(varied, MarkedText(scenario.name, []), point, Path()), point))
    return made
