"""Whose parameters an agent uses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.config import EncoderConfig, MessageConfig, PolicyConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.network import SoftRule
from fedsched.agents.parameters import parameters_from_numpy, parameters_to_numpy
from fedsched.agents.policy import Policy, PolicyStep
from fedsched.agents.ppo import PpoConfig

OWN = PolicyConfig(messages=None, sharing="agent", critic="central")


def act(policy: Policy, world: Any) -> PolicyStep:
    rows = torch.arange(world.batch)
    step: PolicyStep = policy(world.spec, world.reset(rows, rows), None, policy.mailbox(world.spec, world.batch))
    return step


@pytest.mark.parametrize(
    "encoder",
    [
        EncoderConfig("pointwise", layers=1),
        EncoderConfig("pointwise", scoring="dot"),
        EncoderConfig("attention", layers=1),
        EncoderConfig("hierarchical", scoring="dot", layers=1),
        EncoderConfig("gat"),
    ],
    ids=lambda config: f"{config.kind} {config.scoring}",
)
def test_every_agent_decides_as_a_policy_of_its_parameters_alone(
    encoder: EncoderConfig, queue: Callable[..., Any]
) -> None:
    world, config = queue(4, jobs=5, agents=3), replace(OWN, encoder=encoder)
    stacked = Policy(world.spec, config, {"server": SoftRule({"size": -3.0}, gates=("left",))}, seed=1)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in stacked.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    mine = act(stacked, world)
    whose = mine.decisions["server"].agent
    for agent in range(3):
        alone = Policy(world.spec, replace(config, sharing="kind"), {"server": SoftRule(gates=("left",))})
        parameters_from_numpy(alone, {name: p[agent] for name, p in parameters_to_numpy(stacked).items()})
        ours = act(alone, world)
        rows = whose[mine.distribution["server"].segment] == agent
        np.testing.assert_allclose(
            mine.distribution["server"].log_probs[rows].detach(),
            ours.distribution["server"].log_probs[rows].detach(),
            atol=1e-5,
        )
        assert mine.value is not None
        assert ours.value is not None
        values = mine.value["server"][whose == agent], ours.value["server"][whose == agent]
        np.testing.assert_allclose(values[0].detach(), values[1].detach(), atol=1e-5)


def test_an_agents_choice_moves_its_own_copy_alone_but_for_those_it_listened_to(queue: Callable[..., Any]) -> None:
    world = queue(4, jobs=5, agents=3)
    policy = Policy(world.spec, replace(OWN, messages=MessageConfig(2)))
    with torch.no_grad():
        policy.network("server").score.weight.fill_(1.0)
    step = act(policy, world)
    rows = step.decisions["server"].agent[step.distribution["server"].segment] == 1
    torch.autograd.backward(step.distribution["server"].log_probs[rows].square().sum())
    moved = {
        name: [bool(copy.any()) for copy in parameter.grad]
        for name, parameter in policy.named_parameters()
        if parameter.grad is not None
    }
    assert moved["kinds.server.score.weight"] == [False, True, False]
    assert moved["messenger.merge.weight"] == [True, True, True]
    assert policy.messenger is not None
    assert moved["messenger.null"] == [True, True, True]


def test_agents_start_apart_but_from_the_same_rule(queue: Callable[..., Any]) -> None:
    spec = queue(1, agents=3).spec
    network = Policy(spec, OWN, {"server": SoftRule({"size": -3.0})}).network("server")
    assert torch.equal(network.skip[0], network.skip[2])
    assert not torch.equal(network.encoder.mix.weight[0], network.encoder.mix.weight[2])


def test_agents_with_parameters_of_their_own_learn(queue: Callable[..., Any]) -> None:
    world = queue(32, jobs=5, agents=2)
    config = replace(OWN, messages=MessageConfig(1))
    ppo = PpoConfig(lr=1e-2, iterations=15)
    learner = Learner(Policy(world.spec, config), LearnerConfig({"wait": 1.0}, "gae", rollouts=1, ppo=ppo), seed=0)
    rows = torch.arange(world.batch)
    cost = []
    for iteration in range(15):
        rollouts = learner.collect(world, rows + iteration * world.batch, torch.zeros_like(rows))
        cost.append(float((rollouts.metrics["wait"] / world.optimum()).mean()))
        learner.update([rollouts])
    assert cost[0] > 1.3
    assert cost[-1] < 1.1


def test_a_policy_of_other_agents_names_them(queue: Callable[..., Any]) -> None:
    policy = Policy(queue(1, agents=2).spec, OWN)
    with pytest.raises(
        AgentError, match=r"queue: .* belongs to the agents it was built for; server2 differ: build one"
    ):
        policy.mailbox(queue(1, agents=3).spec, 1)
