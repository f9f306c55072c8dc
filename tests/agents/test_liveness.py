"""Agents that leave while others live on: who terminated, who was cut off, and what is learned from either."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import collect
from fedsched.agents.config import PolicyConfig
from fedsched.agents.constraint import step_costs
from fedsched.agents.critic import Critic, critic_features
from fedsched.agents.experience import Discount, gae_experience
from fedsched.agents.policy import Policy
from fedsched.agents.rollout import Rollouts
from fedsched.envs.core import KindSpec, Observation, Tokens, Transition, WorldSpec

STEPS = 5
NEVER = 99


class LeavingWorld:
    """Every agent earns its number plus the step while it lives; from then on a nonsense that nobody may learn from.

    `leave` [B, A] is the number of steps that an agent lives, `dies` [B, A] whether it terminates then or is cut off,
    `limit` [B] when a world is cut off as a whole.
    """

    def __init__(self, leave: list[list[int]], dies: list[list[bool]], limit: list[int]) -> None:
        self.leave, self.dies, self.limit = torch.tensor(leave), torch.tensor(dies), torch.tensor(limit)
        self.batch, self.device = self.leave.shape[0], "cpu"
        agents = tuple(f"walker{i}" for i in range(self.leave.shape[1]))
        kind = KindSpec("walker", agents, own=("worth", "one"), action=("left",), actions=2, idle=0)
        nobody = np.zeros((len(agents), 0), dtype=np.int64)
        self.spec = WorldSpec("leaving", (kind,), nobody, ("pay",), ("steps",))
        self.steps = 0

    def reset(self, instances: torch.Tensor, seeds: torch.Tensor, until_s: torch.Tensor | None = None) -> Observation:
        del instances, seeds, until_s
        self.steps = 0
        return self.observe()

    def observe(self) -> Observation:
        alive = (self.leave > self.steps) & (self.limit > self.steps)[:, None]
        agents = alive.shape[1]
        # the last observation of one's own is worth something, what is shown later is not
        worth = torch.where(self.leave >= self.steps, 100.0 * (1 + torch.arange(agents)) + self.steps, torch.nan)
        mask = torch.ones(*alive.shape, 2, dtype=torch.bool)
        mask[..., 1] = alive
        tokens = Tokens(
            own=torch.stack([worth.nan_to_num(1e6), torch.ones_like(worth)], 2),
            entities=torch.zeros(*alive.shape, 0, 0),
            entity_mask=torch.zeros(*alive.shape, 0, dtype=torch.bool),
            actions=torch.zeros(*alive.shape, 2, 1),
            action_mask=mask,
            active=alive,
            alive=alive,
        )
        return Observation(torch.full((self.batch,), float(self.steps), dtype=torch.float64), {"walker": tokens})

    def step(self, actions: Mapping[str, torch.Tensor]) -> Transition:
        del actions
        self.steps += 1
        agents = self.leave.shape[1]
        earned = torch.where(self.leave >= self.steps, torch.arange(agents) + float(self.steps), 1e6)
        ended = (self.leave == self.steps) & self.dies
        cut = self.limit == self.steps
        seen = self.observe()
        return Transition(seen, {"walker": earned[..., None]}, torch.ones_like(seen.time_s), {"walker": ended}, cut)

    def metrics(self) -> dict[str, torch.Tensor]:
        return {"steps": torch.full((self.batch,), float(self.steps), dtype=torch.float64)}


LEAVE = [[5, 2, 3], [5, 5, 1]]
DIES = [[True, True, False], [True, True, True]]
LIMIT = [NEVER, 4]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Rollouts:
    """Rollouts of a world whose critic says what the first own feature shows."""
    monkeypatch.setattr(Critic, "values", lambda _self, features, _owners=None: features[..., 0])
    world: Any = LeavingWorld(LEAVE, DIES, LIMIT)
    policy = Policy(world.spec, PolicyConfig(messages=None, critic="central"))
    rows, no = torch.arange(2), torch.zeros(2, dtype=torch.bool)
    return collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows)


def test_only_the_living_decide_and_a_world_is_over_without_them(played: Rollouts) -> None:
    found = sorted(zip(played.row("walker").tolist(), played.agent("walker").tolist(), strict=True))
    expected = [(b, a) for b in range(2) for a in range(3) for _ in range(min(LEAVE[b][a], LIMIT[b]))]
    assert found == sorted(expected)
    assert played.times.shape[0] - 1 == STEPS
    assert played.truncated.tolist() == [False, True]


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_the_dead_are_worth_nothing_and_those_cut_off_what_they_saw_last(played: Rollouts, lam: float) -> None:
    costs = step_costs(played, {"pay": 1.0}, None, 0.0)
    part = gae_experience(played, costs, Discount(0.9, None, lam))["walker"]
    steps, rows, agents = (getattr(played, what)("walker") for what in ("step", "row", "agent"))
    for b in range(2):
        for a in range(3):
            mine = ((rows == b) & (agents == a)).nonzero().squeeze(1)
            length = min(LEAVE[b][a], LIMIT[b])
            worth = [100.0 * (1 + a) + t for t in range(length + 1)]
            terminated = DIES[b][a] and LEAVE[b][a] <= LIMIT[b]
            following, carried, slow = 0.0 if terminated else worth[length], 0.0, [0.0] * length
            for t in reversed(range(length)):
                carried = (a + t + 1) + 0.9 * following - worth[t] + 0.9 * lam * carried
                following, slow[t] = worth[t], carried
            assert steps[mine].tolist() == list(range(length))
            np.testing.assert_allclose(part.advantage[mine], slow, rtol=1e-5)


def test_a_world_without_survivors_is_over_though_none_of_them_terminated() -> None:
    world: Any = LeavingWorld([[2, 3]], [[False, False]], [NEVER])
    policy = Policy(world.spec, PolicyConfig(messages=None))
    one, no = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool)
    rollouts = collect(policy, world, one, one, torch.Generator().manual_seed(0), no, one)
    assert rollouts.times.shape[0] - 1 == 3
    assert not bool(rollouts.terminated["walker"].any())


def test_what_the_critic_reads_of_the_others_is_of_the_living() -> None:
    world = LeavingWorld(LEAVE, DIES, LIMIT)
    world.steps = 4
    features = critic_features(world.observe())["walker"]
    assert features[0, 0].tolist() == [104.0, 1.0, 104.0, 1.0]
    assert float(features[0, 1, 0]) == 1e6


def test_a_world_that_is_cut_off_is_not_read_as_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The critic's third feature is the mean over those who live; nobody does in the last observation."""
    monkeypatch.setattr(Critic, "values", lambda _self, features, _owners=None: features[..., 2])
    world: Any = LeavingWorld([[5, 5]], [[True, True]], [2])
    policy = Policy(world.spec, PolicyConfig(messages=None, critic="central"))
    one, no = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool)
    rollouts = collect(policy, world, one, one, torch.Generator().manual_seed(0), no, one)
    assert rollouts.last is not None
    assert rollouts.last.value["walker"].tolist() == [[152.0, 152.0]]
