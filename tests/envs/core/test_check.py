"""The checks pass the honest toy and name each fault of a broken one."""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pettingzoo
import pytest

from fedsched.envs.core.check import check_env, check_world
from fedsched.envs.core.laws import CheckError
from fedsched.envs.core.pettingzoo import WorldParallelEnv

ENTRY = str(Path(__file__).with_name("toy.py"))
LAW_OF = {
    "nan observation": "finite",
    "nan reward": "finite",
    "wrong dtype": "dtype",
    "wrong shape": "shape",
    "random after step 3": "determinism",
    "batch-dependent": "batch",
    "row-dependent": "batch",
    "forgets on snapshot": "snapshot",
    "remembers after reset": "reset",
    "no legal action": "legal action",
    "accepts illegal": "illegal action",
    "hash": "processes",
    "resurrects": "no return",
    "unclean padding": "padding",
    "idle is not idle": "idle",
    "clock runs back": "clock",
    "reset touches others": "where",
    "acts after the end": "ended",
    "goes on after the end": "ended",
}


def test_every_fault_of_the_toy_has_a_law(toy: ModuleType) -> None:
    assert set(LAW_OF) == set(toy.FAULTS)


def test_the_honest_toy_passes_in_this_and_in_other_processes(toy: ModuleType) -> None:
    check_world(toy.make_toy, steps=20, entry_point=f"{ENTRY}:make_toy")


@pytest.mark.parametrize("fault", LAW_OF)
def test_a_fault_is_caught_and_named(toy: ModuleType, fault: str) -> None:
    entry = f"{ENTRY}:make_hashing" if fault == "hash" else None
    with pytest.raises(CheckError) as caught:
        check_world(lambda batch: toy.ToyWorld(batch, fault), steps=20, entry_point=entry)
    assert caught.value.law == LAW_OF[fault]


class Broken(WorldParallelEnv):
    """An environment with one fault that PettingZoo's own tests let pass, or that they catch."""

    fault = ""

    def step(self, actions: Any) -> Any:
        seen, rewards, ended, cut, infos = super().step(actions)
        name, step = next(iter(seen)), len(self.history)
        self.history.append(step)
        if self.fault == "dtype":
            seen[name]["own"] = seen[name]["own"].astype(np.float64)
        elif self.fault == "finite":
            seen[name]["own"] = seen[name]["own"] * np.float32(np.nan)
        elif self.fault == "reward":
            rewards[name] = float("nan")
        elif self.fault == "determinism" and step > 3:
            infos[name]["noise"] = float(np.random.default_rng().random())
        elif self.fault == "legal action":
            infos[name]["action_mask"] = 1 - infos[name]["action_mask"]
        elif self.fault == "illegal action":
            infos[name]["illegal_action"] = False
        elif self.fault == "parallel_api_test":
            rewards["stranger"] = 0.0
        return seen, rewards, ended, cut, infos

    def reset(self, *args: Any, **kwargs: Any) -> Any:
        self.history: list[int] = []
        return super().reset(*args, **kwargs)


def make_env(toy: ModuleType, fault: str = "", **options: Any) -> pettingzoo.ParallelEnv:
    env = (Broken if fault else WorldParallelEnv)(toy.ToyWorld(), {"value": 1.0, "flow": 0.5}, **options)
    env.fault = fault
    return env


@pytest.mark.parametrize("flatten", [False, True])
def test_the_honest_environment_passes(toy: ModuleType, flatten: bool) -> None:
    check_env(lambda: make_env(toy, flatten=flatten), cycles=20)


@pytest.mark.parametrize(
    "fault",
    ["dtype", "finite", "reward", "determinism", "legal action", "illegal action", "parallel_api_test"],
)
def test_a_fault_of_an_environment_is_caught_and_named(toy: ModuleType, fault: str) -> None:
    with pytest.raises(CheckError) as caught:
        check_env(lambda: make_env(toy, fault), cycles=20)
    assert caught.value.law == fault


@pytest.mark.parametrize(("table", "shape"), [("relation", (2, 3, 4)), ("links", (2, 9, 9))])
def test_tables_of_a_kind_fit_its_tokens(toy: ModuleType, table: str, shape: tuple[int, ...]) -> None:
    def make(batch: int) -> Any:
        world = toy.make_toy(batch)
        mover, *others = world.spec.kinds
        broken = dataclasses.replace(mover, **{table: np.zeros(shape, dtype=np.bool_)})
        world.spec = dataclasses.replace(world.spec, kinds=(broken, *others))
        return world

    with pytest.raises(CheckError, match=f"mover.{table} is bool") as caught:
        check_world(make, steps=3)
    assert caught.value.law == "shape"
