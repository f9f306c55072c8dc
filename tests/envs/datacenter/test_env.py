"""The PettingZoo environment of a data centre."""

import subprocess
import sys

import numpy as np
import pettingzoo
import pytest
import torch

import fedsched.envs.datacenter
from fedsched.envs.core import IllegalActionError, WorldError
from fedsched.envs.core.check import check_env
from fedsched.envs.datacenter.env import parallel_env
from fedsched.envs.datacenter.model import Cluster, DatacenterError
from fedsched.envs.datacenter.world import HOLD_ACTION

NAME = "fedsched/datacenter-v0"


def test_importing_the_domain_registers_it_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, fedsched.envs.datacenter, pettingzoo\n"
        f"assert {NAME!r} in pettingzoo.parallel_registry\n"
        "print([n for n in ('torch', 'warp', 'ray', 'flwr') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_sample_of_the_readme() -> None:
    env = pettingzoo.make("parallel", NAME, clusters=[256, 128], jobs=64)
    observations, infos = env.reset(seed=0)
    total = 0.0
    while env.agents:
        actions = {agent: int(np.argmax(infos[agent]["action_mask"])) for agent in env.agents}
        observations, rewards, ended, cut, infos = env.step(actions)
        total += sum(rewards.values())
    assert set(observations) == {"cluster_0", "cluster_1"}
    assert all(ended.values())
    assert not any(cut.values())
    assert total <= 0.0


@pytest.mark.parametrize("flatten", [False, True])
def test_it_keeps_the_contract(flatten: bool) -> None:
    # check_env draws actions of all 129 slots, so windows are short
    check_env(lambda: parallel_env(clusters=[256, 100], jobs=24, deferral=True, flatten=flatten), cycles=60)


@pytest.mark.slow
def test_it_plays_the_same_in_other_processes() -> None:
    given = {"clusters": [64, 32], "jobs": 12}
    entry_point = "fedsched.envs.datacenter.env:parallel_env"
    found = check_env(lambda: parallel_env(**given), cycles=40, entry_point=entry_point, arguments=given)
    assert "processes" in found.passed


def test_the_first_job_first_is_first_come_first_served() -> None:
    """With one cluster, always taking the first legal job is FCFS with EASY; the reward tells its slowdown."""
    instance = 10**9 + 5
    env = parallel_env("hpc2n", jobs=120, split="validation")
    _, infos = env.reset(options={"instance": instance})
    total = 0.0
    while env.agents:
        mask = infos["cluster_0"]["action_mask"]
        _, rewards, _, _, infos = env.step({"cluster_0": int(np.argmax(mask))})
        total += rewards["cluster_0"]
    mean = float(env.world.metrics()["bounded_slowdown"])
    env.world.reset(torch.tensor([instance]), torch.tensor([0]))
    env.world.run_rules(["fcfs-easy"])
    assert mean == float(env.world.metrics()["bounded_slowdown"])
    assert total == pytest.approx(120 * (1.0 - mean), rel=1e-4)


def test_seeds_draw_windows_and_no_seed_goes_on() -> None:
    env = parallel_env(jobs=32)
    first = [env.reset(seed=seed)[0]["cluster_0"]["own"] for seed in (3, 4, 3)]
    assert np.array_equal(first[0], first[2])
    env.reset(seed=3)
    known = env.world.arrays.jobs["run"].clone()
    env.reset()
    following = env.world.arrays.jobs["run"].clone()
    assert not np.array_equal(known, following)
    env.reset(seed=4)
    assert np.array_equal(following, env.world.arrays.jobs["run"])


def test_splits_draw_their_own_windows() -> None:
    env = parallel_env(jobs=256, split="test")
    env.reset(seed=1)
    origins = set()
    for seed in range(30):
        env.reset(seed=seed)
        origins.add(float(env.world.arrays.jobs["origin"][0]))
    assert len(origins) == 10


def test_strict_raises_and_lenient_replaces() -> None:
    env = parallel_env(jobs=32, strict=True)
    env.reset(seed=0)
    with pytest.raises(IllegalActionError, match="cluster_0"):
        env.step({"cluster_0": HOLD_ACTION - 1})
    env = parallel_env(jobs=32)
    env.reset(seed=0)
    *_, infos = env.step({"cluster_0": HOLD_ACTION - 1})
    assert infos["cluster_0"]["illegal_action"]


def test_series_reach_the_reward() -> None:
    env = parallel_env(
        clusters=[Cluster(256, pue=1.5)],
        jobs=48,
        weights={"carbon": 1.0, "cost": 2.0},
        carbon="ciso-2022",
        tariff_seed=3,
    )
    _, infos = env.reset(seed=0)
    total = 0.0
    while env.agents:
        _, rewards, _, _, infos = env.step({"cluster_0": int(np.argmax(infos["cluster_0"]["action_mask"]))})
        total += rewards["cluster_0"]
    spent = -env.world.arrays.state["total"].sum(1)[0]
    assert spent[4] > 0 < spent[5]
    assert total == pytest.approx(-float(spent[4] + 2.0 * spent[5]), rel=1e-4)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(DatacenterError, match="wider than the widest cluster"):
        parallel_env(clusters=[16], jobs=256, split="test").reset(seed=0)
    with pytest.raises(DatacenterError, match="unknown log 'lublin'"):
        parallel_env("lublin")
    with pytest.raises(WorldError, match="no reward part speed"):
        parallel_env(weights={"speed": 1.0})
    with pytest.raises(DatacenterError, match="leave nothing to decide"):
        parallel_env(clusters=[100_000], jobs=3).reset(seed=0)
    assert parallel_env(clusters=[16], jobs=256, too_wide="narrow").reset(seed=0)
    assert fedsched.envs.datacenter.parallel_env is parallel_env
    with pytest.raises(AttributeError, match="has no attribute 'world_of'"):
        _ = fedsched.envs.datacenter.world_of
