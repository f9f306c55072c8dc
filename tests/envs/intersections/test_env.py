"""`fedsched/intersections-v0` is a PettingZoo environment that keeps the laws of those."""

import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pettingzoo
import pytest
from pettingzoo.test.render_test import render_test
from pettingzoo.utils.conversions import parallel_to_aec

import fedsched.envs.intersections
from fedsched.envs.core import WorldError
from fedsched.envs.core.check import check_env
from fedsched.envs.intersections.env import IntersectionsParallelEnv, parallel_env
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, grid_problem


@cache
def problem() -> Problem:
    return grid_problem(3)


def make(**options: bool) -> IntersectionsParallelEnv:
    return parallel_env(problem(), **options)


@pytest.mark.parametrize("flatten", [False, True])
def test_the_laws_of_environments_are_kept(flatten: bool) -> None:
    check_env(lambda: make(flatten=flatten), cycles=20)


@pytest.mark.slow
def test_it_plays_the_same_in_other_processes() -> None:
    entry_point = "fedsched.envs.intersections.env:parallel_env"
    assert "processes" in check_env(parallel_env, cycles=20, entry_point=entry_point).passed


def test_it_is_registered_and_runs_without_any_file() -> None:
    env = pettingzoo.make("parallel", fedsched.envs.intersections.ENVIRONMENT)
    seen, infos = env.reset(seed=3)
    assert sorted(seen) == sorted(signal.id for signal in problem().signals)
    assert all(info["active"] for info in infos.values())
    _, _, ended, cut, infos = env.step(dict.fromkeys(env.agents, 0))
    assert not any(ended.values())
    assert not any(cut.values())
    assert infos["B1"]["elapsed_s"] == 5.0


def test_seeds_draw_demands_and_options_name_one() -> None:
    env = make()
    drawn = set()
    for seed in range(12):
        env.reset(seed=seed)
        drawn.add(int(env.world.traffic["first_trip"][0]))
    assert drawn == set(problem().first_trip[:3].tolist())
    env.reset(seed=0, options={"instance": 2})
    assert int(env.world.traffic["first_trip"][0]) == problem().first_trip[2]
    with pytest.raises(WorldError, match="0 to 2"):
        env.reset(options={"instance": 3})


def test_the_reward_is_the_weighted_sum_of_named_parts() -> None:
    env = parallel_env(problem(), weights={"queue": 2.0, "throughput": 0.5})
    env.reset(seed=0)
    for _ in range(20):
        _, rewards, _, _, infos = env.step(dict.fromkeys(env.agents, 0))
        for agent, reward in rewards.items():
            parts = infos[agent]["reward_parts"]
            assert reward == pytest.approx(2.0 * parts["queue"] + 0.5 * parts["throughput"])
    assert min(rewards.values()) < 0
    with pytest.raises(WorldError, match="no reward part noise"):
        parallel_env(problem(), weights={"noise": 1.0})


def test_episodes_end_by_being_cut_off_at_the_hour() -> None:
    env = make()
    env.reset(seed=0)
    steps = 0
    while env.agents:
        _, _, ended, cut, _ = env.step(dict.fromkeys(env.agents, 0))
        steps += 1
    assert steps == 1200 / 5
    assert all(cut.values())
    assert not any(ended.values())
    assert np.isfinite(float(env.world.metrics()["resco_delay_s"][0]))


def test_the_signals_that_are_named_are_the_agents() -> None:
    assert parallel_env(controlled=["A0", "C2"]).possible_agents == ["A0", "C2"]
    assert parallel_env("grid3x3", controlled=["A0", "C2"]).possible_agents == ["A0", "C2"], "as scenarios call it"
    with pytest.raises(IntersectionsError, match="this city names its signals"):
        parallel_env(problem(), controlled=["A0"])


def test_the_streets_are_rendered_as_pixels_and_as_svg() -> None:
    def as_aec(render_mode: str | None) -> Any:
        return parallel_to_aec(parallel_env(problem(), render_mode=render_mode))

    render_test(as_aec, {"svg": lambda text: text.startswith("<svg")})
    env = parallel_env(problem(), render_mode="rgb_array")
    env.reset(seed=1)
    first = env.render()
    assert isinstance(first, np.ndarray)
    for _ in range(6):
        env.step(dict.fromkeys(env.agents, 0))
    assert not np.array_equal(first, env.render())
    assert make().render() is None
    with pytest.raises(WorldError, match="no render mode 'human'; there are: rgb_array, svg"):
        parallel_env(problem(), render_mode="human").render()


def test_importing_the_package_registers_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, pettingzoo, fedsched.envs.intersections\n"
        "assert 'fedsched/intersections-v0' in pettingzoo.parallel_registry\n"
        "assert not {'torch', 'warp'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
