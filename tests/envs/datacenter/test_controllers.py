"""Step by step or inside the kernel: a rule and a linear score take the same decisions."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fedsched.agents.collect import evaluate
from fedsched.agents.config import PolicyConfig
from fedsched.agents.network import SoftRule
from fedsched.agents.policy import Policy
from fedsched.agents.population import linear_weights
from fedsched.envs.datacenter.controllers import RuleController
from fedsched.envs.datacenter.model import Cluster, DatacenterError, SiteModel
from fedsched.envs.datacenter.trace import load
from fedsched.envs.datacenter.workload import LogWindows
from fedsched.envs.datacenter.world import KIND, DatacenterWorld

SITES = {
    "one": SiteModel((Cluster(240),)),
    "three": SiteModel((Cluster(240), Cluster(128, speed=0.7), Cluster(96, speed=1.3))),
}
WIDE_SITES = {
    "one": SiteModel((Cluster(256),)),
    "three": SiteModel((Cluster(256), Cluster(128, speed=0.7), Cluster(96, speed=1.3))),
}
WINDOWS = LogWindows(load("hpc2n"), jobs=200)
# HPC2N has jobs that look the same, between which the rounding of a score would decide; Lublin-1 has none
DISTINCT = LogWindows(load("lublin-1"), jobs=200)
INSTANCES = torch.tensor([0, 3, 6, 9])


def play_controller(world: DatacenterWorld, name: str) -> torch.Tensor:
    controller = RuleController(name)
    observation = world.reset(INSTANCES, INSTANCES)
    controller.reset(world)
    while bool(observation.kinds[KIND].alive.any()):
        observation = world.step(controller.act(observation)).observation
    return world.arrays.state["start"].clone()


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", ["fcfs", "saf-easy", "wfp3-easy", "unicep", "f2-easy"])
def test_a_controller_starts_every_job_when_the_kernel_does(site: str, name: str) -> None:
    world = DatacenterWorld(SITES[site], WINDOWS, len(INSTANCES))
    stepped = play_controller(world, name)
    world.reset(INSTANCES, INSTANCES)
    world.run_rules([name] * len(INSTANCES))
    assert torch.equal(stepped, world.arrays.state["start"])


@pytest.mark.parametrize("site", SITES)
def test_a_linear_score_in_the_kernel_equals_the_greedy_policy(site: str) -> None:
    world = DatacenterWorld(WIDE_SITES[site], DISTINCT, len(INSTANCES))
    rule = SoftRule({"log_area": -40.0, "log_wait": 11.0, "fits": 3.0, "hold": -30.0}, gates=("stage",))
    policy = Policy(world.spec, PolicyConfig(messages=None), {KIND: rule}, seed=3)
    network = policy.network(KIND)
    nn.init.zeros_(network.score.weight)
    nn.init.normal_(network.skip, std=0.5, generator=torch.Generator().manual_seed(1))
    evaluate(policy, world, INSTANCES, INSTANCES)
    slow = world.arrays.state["start"].clone()
    weights = torch.tensor(linear_weights(policy, KIND)).float().reshape(1, 2, -1)
    world.reset(INSTANCES, INSTANCES)
    world.run_linear(weights.expand(len(INSTANCES), -1, -1))
    assert torch.equal(slow, world.arrays.state["start"])


def test_linear_scores_refuse_other_shapes_and_engines() -> None:
    world = DatacenterWorld(SITES["one"], WINDOWS, 2)
    with pytest.raises(DatacenterError, match=r"\(2, 2, 13\)"):
        world.run_linear(torch.zeros(2, 2, 12))
    committing = DatacenterWorld(SITES["one"], WINDOWS, 2, engine="committing")
    with pytest.raises(DatacenterError, match="event engine"):
        committing.run_linear(torch.zeros(2, 2, 13))


def test_a_controller_says_what_it_needs() -> None:
    controller = RuleController("saf-easy")
    with pytest.raises(DatacenterError, match="call reset"):
        controller.act(DatacenterWorld(SITES["one"], WINDOWS, 1).reset(INSTANCES[:1], INSTANCES[:1]))
    with pytest.raises(DatacenterError, match="not queue"):
        controller.reset(SimpleNamespace(spec=SimpleNamespace(name="queue")))


def test_holding_for_ever_ends_where_deferral_is_allowed() -> None:
    site = SiteModel((Cluster(256),), deferral=True)
    world = DatacenterWorld(site, LogWindows(load("lublin-1"), jobs=8), 1)
    world.reset(INSTANCES[:1], INSTANCES[:1])
    hold = torch.zeros(1, 2, 13)
    hold[:, 0, -1] = 1.0
    world.run_linear(hold)
    assert bool(world.arrays.state["truncated"][0])
    assert float(world.metrics()["started"][0]) == 0.0
