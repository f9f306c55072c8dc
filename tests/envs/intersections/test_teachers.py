"""Controllers that read the observation decide as those that read the counts."""

from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from fedsched.envs.core import WorldError
from fedsched.envs.intersections import controllers
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, grid_problem
from fedsched.envs.intersections.teachers import SeenPressure
from fedsched.envs.intersections.world import KIND, IntersectionsWorld


@cache
def problem() -> Problem:
    return grid_problem(2)


def shares(name: str, counted: controllers.PressureController) -> float:
    """Share of equal phases over the decisions of two episodes that the counting controller drives."""
    world, seen = IntersectionsWorld(problem(), 2, "sumo_rl"), SeenPressure(name)
    for controller in (seen, counted):
        controller.reset(world)
    observation = world.reset(torch.arange(2), torch.arange(2))
    equal = asked = 0
    until = torch.full((2,), 900.0, dtype=torch.float64)
    while float(observation.time_s.min()) < 900.0:
        told, right = seen.act(observation)[KIND], counted.act(observation)[KIND]
        active = observation.kinds[KIND].active
        assert torch.equal(told[~active], right[~active])
        asked, equal = asked + int(active.sum()), equal + int((told == right)[active].sum())
        observation = world.step({KIND: right}, until).observation
    assert asked > 1000
    return equal / asked


def test_seen_greedy_takes_the_decisions_of_the_one_that_counts() -> None:
    assert shares("greedy", controllers.greedy()) == 1.0


def test_seen_max_pressure_differs_only_where_movements_share_a_lane_behind() -> None:
    assert shares("max-pressure", controllers.max_pressure()) > 0.9


def test_what_no_signal_sees_cannot_be_taught() -> None:
    assert SeenPressure("greedy").reads == "observation"
    assert controllers.greedy().reads == controllers.Sotl.reads == controllers.ProgramController.reads == "state"
    with pytest.raises(IntersectionsError, match=r"no teacher 'gready' \(did you mean 'greedy'\?\); there are greedy"):
        SeenPressure("gready")
    with pytest.raises(WorldError, match="greedy controls signals, not jobs"):
        SeenPressure("greedy").reset(cast("Any", SimpleNamespace(spec=SimpleNamespace(name="jobs"))))
