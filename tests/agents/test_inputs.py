"""What a world says wrongly is named, with world, agent and step, before it is learned from."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedsched.agents.collect import GreedyActor, collect, play
from fedsched.agents.config import MessageConfig, PolicyConfig, TriggerConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.imitation import demonstrate
from fedsched.agents.policy import Policy
from fedsched.envs.core import Observation, Tokens, Transition


class Faulty:
    """A queue world with one fault in what it says after two steps, about agent 1 of world 3."""

    def __init__(self, world: Any, fault: str) -> None:
        self._world, self._fault = world, fault
        self.spec, self.batch, self.device, self.metrics = world.spec, world.batch, world.device, world.metrics

    def reset(self, *arguments: Any, **options: Any) -> Observation:
        return self._world.reset(*arguments, **options)

    def step(self, actions: Any) -> Transition:
        moved = self._world.step(actions)
        if self._world.steps != 2:
            return moved
        if self._fault == "reward":
            moved.reward["server"][3, 1, 1] = torch.inf
            return moved
        seen = moved.observation
        return replace(moved, observation=replace(seen, kinds={"server": self._spoil(seen.kinds["server"])}))

    def _spoil(self, tokens: Tokens) -> Tokens:
        if self._fault == "mask":
            tokens.action_mask[3, 1] = False
        elif self._fault == "own":
            tokens.own[3, 1, 1] = torch.nan
        else:
            live = int(tokens.entity_mask[3, 1].nonzero()[-1])
            tokens.entities[3, 1, live, 0] = -torch.inf
        return tokens


class LastJob:
    """A teacher that picks any job."""

    name, reads = "last-job", "observation"

    def reset(self, world: Any) -> None: ...

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        mask = observation.kinds["server"].action_mask
        return {"server": mask.shape[2] - 1 - mask.flip(2).int().argmax(2)}


FAULTS = {
    "own": "queue, world 3, agent 'server1', step 2: own feature 'clock' is nan",
    "entity": "queue, world 3, agent 'server1', step 2: entity or action feature 'size' is -inf",
    "mask": "queue, world 3, agent 'server1', step 2: must decide, but its action mask allows nothing",
    "reward": "queue, world 3, agent 'server1', step 1: reward part 'busy' is inf",
}


@pytest.mark.parametrize("critic", ["none", "central"])
@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_is_named_while_collecting(fault: str, critic: Any, queue: Callable[..., Any]) -> None:
    world: Any = Faulty(queue(6, jobs=4, agents=2), fault)
    policy = Policy(world.spec, PolicyConfig(critic=critic))
    rows, no = torch.arange(6), torch.zeros(6, dtype=torch.bool)
    with pytest.raises(AgentError, match=re.escape(FAULTS[fault])):
        collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows)


@pytest.mark.parametrize("trigger", [None, TriggerConfig(measure="gap"), TriggerConfig(measure="entropy")])
@pytest.mark.parametrize("fault", ["own", "entity", "mask"])
def test_a_fault_is_named_while_acting_greedily(fault: str, trigger: Any, queue: Callable[..., Any]) -> None:
    world: Any = Faulty(queue(6, jobs=4, agents=2), fault)
    policy = Policy(world.spec, PolicyConfig(messages=MessageConfig(trigger=trigger)))
    rows = torch.arange(6)
    with pytest.raises(AgentError, match=re.escape(FAULTS[fault])):
        play(world, rows, rows, GreedyActor(policy, world.spec, 6))


@pytest.mark.parametrize("fault", ["own", "entity", "mask"])
def test_a_fault_is_named_while_a_teacher_is_asked(fault: str, queue: Callable[..., Any]) -> None:
    world: Any = Faulty(queue(6, jobs=4, agents=2), fault)
    rows = torch.arange(6)
    with pytest.raises(AgentError, match=re.escape(FAULTS[fault])):
        demonstrate(Policy(world.spec, PolicyConfig()), world, LastJob(), rows, rows, 0.5, torch.Generator())


def test_an_entity_is_named_that_no_action_concerns(handover: Callable[..., Any]) -> None:
    """Its agent may only tell others of it."""
    world = handover(2)
    policy = Policy(world.spec, PolicyConfig())
    rows = torch.arange(2)
    seen = world.reset(rows, rows)
    seen.kinds["post"].entities[1, 0, 1, 0] = torch.nan
    with pytest.raises(AgentError, match=r"handover, world 1, agent 's0', step 0: entity feature 'worth' is nan"):
        GreedyActor(policy, world.spec, 2)(seen)


def test_kinds_that_share_a_network_are_named_with_their_own_features(clerk: Callable[..., Any]) -> None:
    world = clerk(2)
    policy = Policy(world.spec, PolicyConfig(sharing="all"))
    rows = torch.arange(2)
    seen = world.reset(rows, rows)
    seen.kinds["clerk"].own[1, 0, 0] = torch.nan
    with pytest.raises(AgentError, match=r"handover, world 1, agent 'c0', step 0: own feature 'mood' is nan"):
        GreedyActor(policy, world.spec, 2)(seen)


def test_a_last_observation_that_is_worth_nothing_finite_is_named(queue: Callable[..., Any]) -> None:
    world: Any = Faulty(queue(6, jobs=4, agents=2, limit=2), "own")
    policy = Policy(world.spec, PolicyConfig(critic="central"))
    rows, no = torch.arange(6), torch.zeros(6, dtype=torch.bool)
    with pytest.raises(
        AgentError, match=r"world 3, agent 'server1', step 2: own feature 'clock' of its last observ.* nan"
    ):
        collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows)


def test_parameters_that_are_not_finite_are_told_from_observations(queue: Callable[..., Any]) -> None:
    world = queue(6, jobs=4, agents=2)
    policy = Policy(world.spec, PolicyConfig())
    with torch.no_grad():
        policy.network("server").score.weight[0, 0] = torch.nan
    rows = torch.arange(6)
    with pytest.raises(AgentError, match=r"step 0: .* not finite: kinds\.server\.score\.weight"):
        play(world, rows, rows, GreedyActor(policy, world.spec, 6))
