"""Vector actions: the distribution, the bounds, and worlds with a known optimum."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from fedsched.agents.collect import GreedyActor, evaluate, idle_actions
from fedsched.agents.config import EncoderConfig, EncoderKind, MessageConfig, PolicyConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.gaussian import DiagonalGaussian, GaussianHead, within
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.network import SoftRule
from fedsched.agents.policy import Policy
from fedsched.agents.population import linear_weights
from fedsched.agents.ppo import PpoConfig
from fedsched.envs.core import KindSpec, Observation, Snapshot, Tokens, Transition, WorldSpec

LOW, HIGH = np.array([-2.0, 0.0], dtype=np.float32), np.array([2.0, 1.0], dtype=np.float32)


class AimWorld:
    """Every arm sees a point and is paid for putting its hand there; with `pick` a picker chooses the larger number.

    With `tell` the picker sees the arms' points in its own features, and the arms see nothing of their own: a message
    is necessary. The arms see their point as the only live one of two entities where `entities` is set.
    """

    def __init__(
        self, batch: int, arms: int = 2, pick: bool = False, tell: bool = False, entities: bool = False
    ) -> None:
        self.batch, self.device, self.rounds = batch, "cpu", 4
        self.arms, self.pick, self.tell, self.seen_as_entities = arms, pick, tell, entities
        arm = KindSpec(
            "arm",
            tuple(f"arm{i}" for i in range(arms)),
            own=("x", "y"),
            entity=("x", "y") if entities else (),
            entities=2 if entities else 0,
            bounds=(LOW, HIGH),
        )
        picker = KindSpec("picker", ("picker",), own=("x", "y"), entity=("number",), entities=2, actions=2)
        kinds = (picker, arm) if pick else (arm,)
        everyone = arms + pick
        table = [[j for j in range(everyone) if j != i] for i in range(everyone)]
        neighbours = np.array(table, dtype=np.int64).reshape(everyone, everyone - 1)
        self.spec = WorldSpec("aim", kinds, neighbours, ("miss",), ("miss", "right"))
        self.points = torch.zeros(batch, self.rounds + 1, arms, 2)
        self.numbers = torch.zeros(batch, self.rounds + 1, 2)
        self.miss, self.right = torch.zeros(batch, dtype=torch.float64), torch.zeros(batch, dtype=torch.float64)
        self.steps = 0

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        del where, until_s
        for row in range(self.batch):
            generator = torch.Generator().manual_seed(int(instances[row]) * 1000 + int(seeds[row]))
            share = torch.rand(self.rounds + 1, self.arms, 2, generator=generator)
            self.points[row] = torch.from_numpy(LOW) + share * torch.from_numpy(HIGH - LOW)
            self.numbers[row] = torch.rand(self.rounds + 1, 2, generator=generator)
        if self.tell:
            self.points[:] = self.points[:, :, :1]
        self.miss.zero_()
        self.right.zero_()
        self.steps = 0
        return self.observe()

    def observe(self) -> Observation:
        going = torch.full((self.batch, self.arms), self.steps < self.rounds)
        points = self.points[:, self.steps]
        hidden = self.tell or self.seen_as_entities
        slots = 2 if self.seen_as_entities else 0
        entities = torch.zeros(self.batch, self.arms, slots, 2 if slots else 0)
        mask = torch.zeros(self.batch, self.arms, slots, dtype=torch.bool)
        if slots:
            entities[:, :, 1], mask[:, :, 1] = points, True
        none = torch.zeros(self.batch, self.arms, 0)
        own = torch.zeros_like(points) if hidden else points.clone()
        tokens = {"arm": Tokens(own, entities, mask, none[..., None], none.bool(), going, going.clone())}
        if self.pick:
            alive = going[:, :1].clone()
            both = torch.ones(self.batch, 1, 2, dtype=torch.bool)
            numbers = self.numbers[:, None, self.steps, :, None].clone()
            nothing = torch.zeros(self.batch, 1, 2, 0)
            tokens["picker"] = Tokens(points[:, :1].clone(), numbers, both, nothing, both.clone(), alive, alive.clone())
        kinds = {kind.name: tokens[kind.name] for kind in self.spec.kinds}
        return Observation(torch.full((self.batch,), float(self.steps), dtype=torch.float64), kinds)

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        del until_s
        hand = actions["arm"]
        assert hand.dtype == torch.float32
        assert bool(((hand >= torch.from_numpy(LOW)) & (hand <= torch.from_numpy(HIGH))).all())
        missed = (hand - self.points[:, self.steps]).square().sum(2)
        reward = {"arm": -missed[:, :, None]}
        self.miss += missed.mean(1) / self.rounds
        if self.pick:
            good = (actions["picker"] == self.numbers[:, self.steps].argmax(1)[:, None]).float()
            reward["picker"] = good[:, :, None]
            self.right += good[:, 0] / self.rounds
        self.steps += 1
        over = {k.name: torch.full((self.batch, len(k.agents)), self.steps == self.rounds) for k in self.spec.kinds}
        elapsed = torch.ones(self.batch, dtype=torch.float64)
        return Transition(self.observe(), reward, elapsed, over, torch.zeros(self.batch, dtype=torch.bool))

    def metrics(self) -> dict[str, torch.Tensor]:
        return {"miss": self.miss.clone(), "right": self.right.clone()}

    def snapshot(self) -> Snapshot:
        raise NotImplementedError

    def restore(self, snapshot: Snapshot) -> Observation:
        raise NotImplementedError


def learnt(world: AimWorld, config: PolicyConfig, updates: int) -> dict[str, float]:
    """Mean metrics of the greedy policy over fresh episodes after some updates."""
    policy = Policy(world.spec, config)
    ppo = PpoConfig(lr=1e-2, iterations=updates, epochs=6, minibatch=256, kl_stop=0.1, entropy=0.0)
    learner = Learner(policy, LearnerConfig({"miss": 1.0}, "gae", rollouts=1, gamma=0.0, ppo=ppo), seed=0)
    rows = torch.arange(world.batch)
    for iteration in range(updates):
        learner.update([learner.collect(world, rows + iteration * world.batch, torch.zeros_like(rows))])
    found = evaluate(policy, world, rows + 10**6, torch.zeros_like(rows))
    return {name: float(values.mean()) for name, values in found.items()}


# a hand that rests in the middle of the range misses by its variance, 4^2 / 12 + 1 / 12
RESTING = 17 / 12


@pytest.mark.parametrize(("entities", "encoder"), [(False, "gat"), (True, "pointwise"), (True, "gat")])
def test_ppo_finds_the_points(entities: bool, encoder: EncoderKind) -> None:
    config = PolicyConfig(EncoderConfig(encoder, width=32, scoring="dot"), messages=None, critic="central")
    assert learnt(AimWorld(64, entities=entities), config, 15)["miss"] < 0.05 * RESTING


def test_choosing_and_pointing_agents_learn_together_and_tell_each_other() -> None:
    config = PolicyConfig(EncoderConfig(width=32), MessageConfig(), critic="central")
    found = learnt(AimWorld(64, pick=True, tell=True), config, 20)
    assert found["miss"] < 0.05 * RESTING
    assert found["right"] > 0.95


def test_log_probability_and_entropy_equal_torchs_normal() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, choice = torch.randn(3, 50, 4, generator=generator)
    ours, theirs = DiagonalGaussian(mean, log_std), torch.distributions.Normal(mean, log_std.exp())
    np.testing.assert_allclose(ours.log_prob(choice), theirs.log_prob(choice).sum(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.entropy(), theirs.entropy().sum(1), atol=1e-5)
    assert torch.equal(ours.mode(), mean)


def test_samples_have_the_mean_and_deviation_and_greedy_ones_leave_the_stream_alone() -> None:
    mean = torch.tensor([[1.0, -2.0]]).expand(20_000, 2)
    log_std = torch.tensor([[0.5, -1.0]]).expand(20_000, 2)
    part = DiagonalGaussian(mean, log_std)
    drawn = part.sample(torch.Generator().manual_seed(0))
    np.testing.assert_allclose(drawn.mean(0), mean[0], atol=5 * math.exp(0.5) / 20_000**0.5)
    np.testing.assert_allclose(drawn.std(0), log_std[0].exp(), rtol=5 / 40_000**0.5)
    quiet = torch.arange(20_000) % 2 == 0
    mixed = part.sample(torch.Generator().manual_seed(0), quiet)
    assert torch.equal(mixed[quiet], mean[quiet])
    assert torch.equal(mixed[~quiet], drawn[~quiet])


def test_samples_are_scaled_to_the_bounds_and_cut_there() -> None:
    infinite = np.float32(np.inf)
    low = np.array([-2.0, 10.0, -infinite, 1.0], dtype=np.float32)
    high = np.array([2.0, 20.0, infinite, infinite], dtype=np.float32)
    sample = torch.tensor([[0.5, -0.5, 7.0, 3.0], [3.0, -3.0, -7.0, -3.0]])
    expected = [[1.0, 12.5, 7.0, 3.0], [2.0, 10.0, -7.0, 1.0]]
    assert within(sample, (low, high)).tolist() == expected


def test_a_head_starts_in_the_middle_with_half_the_half_range() -> None:
    head = GaussianHead(8, 2)(torch.ones(5, 8))
    assert float(head.mean.detach().abs().max()) < 0.05
    np.testing.assert_allclose(head.log_std.detach().exp(), 0.5)


def test_inactive_agents_idle_and_rollouts_keep_what_was_drawn_before_the_cut() -> None:
    world = AimWorld(8, arms=2)
    rows = torch.arange(8)
    assert torch.equal(idle_actions(world.spec, 8)["arm"], torch.zeros(8, 2, 2))
    policy = Policy(world.spec, PolicyConfig(critic="central"))
    with torch.no_grad():
        policy.kinds["arm"].head.log_std.fill_(1.0)
    learner = Learner(policy, LearnerConfig({"miss": 1.0}, "gae", rollouts=1), seed=0)
    taken = learner.collect(world, rows, rows).taken["arm"]
    assert taken.choice.shape == (8 * 4 * 2, 2)
    assert float(taken.choice.abs().max()) > 1.5
    judged = policy.judge({"arm": taken.decisions}).distribution["arm"]
    np.testing.assert_allclose(judged.log_prob(taken.choice).detach(), taken.log_prob, atol=1e-4)
    observation = world.reset(rows, rows)
    sleeping = observation.kinds["arm"].active.clone()
    observation.kinds["arm"].active[:, 1] = False
    acted = GreedyActor(policy, world.spec, 8)(observation)["arm"]
    assert bool(sleeping.all())
    assert float(acted[:, 1].abs().max()) == 0.0
    assert float(acted[:, 0, 1].min()) > 0.0


def test_rules_and_searches_of_linear_scores_are_refused_for_vectors() -> None:
    spec = AimWorld(1).spec
    with pytest.raises(AgentError, match="'arm' has vector actions, which no soft rule can score"):
        Policy(spec, PolicyConfig(), {"arm": SoftRule({"x": 1.0})})
    with pytest.raises(AgentError, match="'arm' has vector actions: it has no linear scores"):
        linear_weights(Policy(spec, PolicyConfig()), "arm")
