from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import Ended, collect, evaluate, quieten
from fedsched.agents.config import PolicyConfig
from fedsched.agents.decisions import AgentError, row_features
from fedsched.agents.experience import group_experience
from fedsched.agents.policy import Policy
from fedsched.agents.rollout import Column, Table
from fedsched.envs.core import KindSpec, Tokens, Transition


def test_a_column_grows_by_doubling_and_keeps_what_it_holds() -> None:
    column = Column(torch.zeros(0, 2), capacity=4)
    lines = torch.arange(200.0).reshape(100, 2)
    sizes = set()
    for start in range(0, 100, 3):
        column.append(lines[start : start + 3])
        sizes.add(column.view().untyped_storage().nbytes() // 8)
    assert torch.equal(column.view(), lines)
    assert sizes == {4, 8, 16, 32, 64, 128}


def test_a_table_without_lines_says_that_nothing_happened() -> None:
    with pytest.raises(AgentError, match="no agent had a decision"):
        Table().need("own")


def test_only_legal_rows_are_stored(queue: Callable[..., Any]) -> None:
    world = queue(4, jobs=6, slots=128)
    rows, no = torch.arange(4), torch.zeros(4, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    rollouts = collect(Policy(world.spec, PolicyConfig()), world, rows, rows, generator, no, rows)
    decisions = rollouts.taken["server"].decisions
    assert decisions.pointers.diff().tolist() == [left for left in (6, 5, 4, 3, 2, 1) for _ in range(4)]
    assert decisions.rows.shape == (4 * 21, 3)
    assert rollouts.step("server").tolist() == [step for step in range(6) for _ in range(4)]
    assert rollouts.row("server").tolist() == [0, 1, 2, 3] * 6


class Late:
    """A world whose first decision comes after a while, in which every agent pays; a stop at 0 comes before it."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self.spec, self.batch, self.device, self.metrics = world.spec, world.batch, world.device, world.metrics

    def reset(self, instances: torch.Tensor, seeds: torch.Tensor, until_s: torch.Tensor | None = None) -> Any:
        self._first = self._world.reset(instances, seeds)
        self._owed = 7.0
        assert until_s is not None
        return quieten(self._first, until_s <= 0.0)

    def step(self, actions: Any) -> Transition:
        if self._owed:
            nothing = torch.zeros(self.batch, dtype=torch.bool)
            owed, self._owed = torch.full((self.batch, 1, 2), -self._owed), 0.0
            ended = {"server": nothing[:, None]}
            return Transition(self._first, {"server": owed}, self._first.time_s, ended, nothing)
        return self._world.step(actions)


def test_what_accrues_before_the_first_decision_is_in_the_sum_and_nobodys_doing(queue: Callable[..., Any]) -> None:
    rows, no = torch.arange(4) // 2, torch.zeros(4, dtype=torch.bool)
    policy = Policy(queue(4).spec, PolicyConfig())
    plain, late = (
        collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows)
        for world in (queue(4), Late(queue(4)))
    )
    total, known = late.rewards["server"].sum(0), plain.rewards["server"].sum(0)
    assert torch.allclose(total, known - 7.0)
    costs = [{"server": -r.rewards["server"][..., 0].double()} for r in (late, plain)]
    advantages = [group_experience(r, c)["server"].advantage for r, c in zip((late, plain), costs, strict=True)]
    assert torch.allclose(*advantages, atol=1e-6)
    assert bool(advantages[0].any())


def test_rows_that_act_greedily_follow_the_likeliest_actions(queue: Callable[..., Any]) -> None:
    world = queue(6, jobs=6)
    policy = Policy(world.spec, PolicyConfig(), seed=3)
    rows = torch.arange(6)
    greedy = rows % 2 == 0
    rollouts = collect(policy, world, rows, rows, torch.Generator().manual_seed(0), greedy, rows)
    alone = evaluate(policy, world, rows, rows)["wait"]
    assert torch.equal(rollouts.metrics["wait"][greedy], alone[greedy])
    assert not torch.equal(rollouts.metrics["wait"], alone)


def test_a_world_that_was_cut_off_is_asked_no_more(queue: Callable[..., Any]) -> None:
    world = queue(2, jobs=4, limit=2)
    rows = torch.arange(2)
    observation = world.reset(rows, rows)
    ended = Ended(world.spec, 2, "cpu")
    transition = world.step({"server": torch.zeros(2, 1, dtype=torch.int64)})
    ended.observe(replace(transition, truncated=torch.tensor([False, True])))
    assert ended.over.tolist() == [False, True]
    asked = quieten(transition.observation, ended.over).kinds["server"].active
    assert asked.tolist() == [[True], [False]]
    # what a world says after its end changes nothing
    late = Transition(observation, {}, transition.elapsed_s, {"server": torch.ones(2, 1).bool()}, torch.zeros(2).bool())
    ended.observe(late)
    assert ended.terminated["server"].tolist() == [[True], [False]]
    assert ended.over.tolist() == [True, True]


def test_an_action_that_concerns_several_entities_carries_the_sum_of_the_live_ones() -> None:
    relation = np.array([[[1, 1, 0], [0, 1, 1], [0, 0, 1]]], dtype=np.bool_)
    kind = KindSpec("signal", ("a",), (), ("queue",), 3, ("phase",), 3, relation=relation)
    mask = torch.tensor([[[True, True, False]]])
    tokens = Tokens(
        own=torch.zeros(1, 1, 0),
        entities=torch.tensor([[[[2.0], [4.0], [0.0]]]]),
        entity_mask=mask,
        actions=torch.tensor([[[[7.0], [8.0], [9.0]]]]),
        action_mask=torch.ones(1, 1, 3, dtype=torch.bool),
        active=torch.ones(1, 1, dtype=torch.bool),
        alive=torch.ones(1, 1, dtype=torch.bool),
    )
    assert row_features(tokens, kind, torch.arange(3)).tolist() == [[6.0, 7.0], [4.0, 8.0], [0.0, 9.0]]
