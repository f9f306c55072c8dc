"""Noise on the parameters: its law, its size, and that PPO stays right."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import collect, evaluate
from fedsched.agents.config import EncoderConfig, PolicyConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.network import KindNetwork, SoftRule
from fedsched.agents.noise import Explorer, Noise, NoiseConfig, distance
from fedsched.agents.parameters import parameters_to_numpy
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import PpoConfig

WRONG = SoftRule({"size": 2.0})


def make(world: Any, **config: Any) -> Policy:
    return Policy(world.spec, PolicyConfig(**config), {"server": WRONG}, seed=0)


def learner(world: Any, noise: NoiseConfig | None, entropy: float = 0.003, seed: int = 0, gae: bool = False) -> Learner:
    policy = Policy(world.spec, PolicyConfig(critic="central" if gae else "none"), {"server": WRONG}, seed=seed)
    ppo = PpoConfig(lr=1e-2, iterations=25, entropy=entropy)
    return Learner(policy, LearnerConfig({"wait": 1.0}, "gae" if gae else "group", noise=noise, ppo=ppo), seed)


def learn(pupil: Learner, world: Any, iterations: range) -> list[Any]:
    count = world.batch // pupil.config.rows_per_instance
    losses = []
    for iteration in iterations:
        instances = torch.arange(count) + iteration * count
        losses.append(pupil.update([pupil.collect(world, instances, torch.zeros_like(instances))]))
    return losses


def begin(policy: Policy, rows: int, config: NoiseConfig, seed: int = 0) -> Explorer:
    generator = torch.Generator().manual_seed(seed)
    return Noise(config).begin(policy, torch.zeros(rows, dtype=torch.bool), generator)


@torch.no_grad()
def noise_of(explorer: Explorer, policy: Policy) -> torch.Tensor:
    """What is added to the parameters of each member, [members, P], in units of sigma."""
    own = dict(policy.kinds.named_parameters())
    return (
        torch.cat([(p[:-1] - own[n][None]).flatten(1) for n, p in explorer.kinds.named_parameters()], 1)
        / explorer._sigma
    )


def test_the_noise_is_standard_normal_and_autoregressive(queue: Callable[..., Any]) -> None:
    world = queue(4, jobs=3)
    policy, config = make(world), NoiseConfig(correlation=0.9, sigma=0.5)
    explorer = begin(policy, 4, config)
    rows = torch.arange(4)
    observation, mailbox = world.reset(rows, rows), policy.mailbox(world.spec, 4)
    states = []
    for _ in range(30):
        explorer(world.spec, observation, None, mailbox)
        states.append(noise_of(explorer, policy))
    path = torch.stack(states)
    assert float(path.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(path.std()) == pytest.approx(1.0, abs=0.02)
    for lag in (1, 5, 20):
        assert float((path[lag:] * path[:-lag]).mean()) == pytest.approx(0.9**lag, abs=0.03)
    assert float((path[:, 0] * path[:, 1]).mean()) == pytest.approx(0.0, abs=0.05)
    still = begin(policy, 4, replace(config, correlation=1.0))
    first = noise_of(still, policy)
    still(world.spec, observation, None, mailbox)
    assert torch.equal(first, noise_of(still, policy))


@pytest.mark.parametrize("sharing", ["kind", "agent"])
@pytest.mark.parametrize("encoder", ["pointwise", "attention"])
def test_stacked_copies_act_as_each_copy_by_itself(sharing: Any, encoder: Any, queue: Callable[..., Any]) -> None:
    """The slow twin: one plain policy per member, with that member's parameters, on that member's rows."""
    world = queue(6, jobs=4, agents=2)
    policy = make(world, sharing=sharing, encoder=EncoderConfig(encoder))
    explorer = begin(policy, 6, NoiseConfig(members=3, correlation=1.0, sigma=0.3))
    rows = torch.arange(6)
    observation, mailbox = world.reset(rows, rows), policy.mailbox(world.spec, 6)
    step = explorer(world.spec, observation, None, mailbox)
    fast, decisions = step.distribution["server"].log_probs, step.decisions["server"]
    for member in range(3):
        slow = make(world, sharing=sharing, encoder=EncoderConfig(encoder))
        slow.load_state_dict(policy.state_dict())
        copies = dict(explorer.kinds.named_parameters())
        with torch.no_grad():
            for name, parameter in slow.kinds.named_parameters():
                parameter.copy_(copies[name].reshape(4, *parameter.shape)[member])
            alone = slow(world.spec, observation, None, mailbox).distribution["server"].log_probs
        mine = (decisions.moment % 3 == member).index_select(0, decisions.segment())
        torch.testing.assert_close(fast[mine], alone[mine], rtol=1e-4, atol=1e-5)


def test_greedy_rows_and_critics_have_no_noise(queue: Callable[..., Any]) -> None:
    world = queue(6, jobs=4)
    policy = make(world, critic="central")
    greedy = torch.tensor([True, False, False, True, False, False])
    explorer = Noise(NoiseConfig(sigma=1.0)).begin(policy, greedy, torch.Generator().manual_seed(0))
    rows = torch.arange(6)
    observation, mailbox = world.reset(rows, rows), policy.mailbox(world.spec, 6)
    with torch.no_grad():
        noisy, plain = (one(world.spec, observation, None, mailbox) for one in (explorer, policy))
    assert torch.equal(noisy.value["server"], plain.value["server"])
    mine = greedy.index_select(0, plain.decisions["server"].moment[plain.decisions["server"].segment()])
    apart = (noisy.distribution["server"].log_probs - plain.distribution["server"].log_probs).abs()
    assert float(apart[mine].max()) < 1e-5
    assert float(apart[~mine].mean()) > 1e-2
    network = policy.network("server")
    assert isinstance(network, KindNetwork)
    assert network.critic is not None
    assert network.members is None


def test_stored_probabilities_are_those_of_the_copy_that_acted(queue: Callable[..., Any]) -> None:
    """Importance ratios against them average to one: E_acting[policy / acting] = 1, and not without the correction."""
    world = queue(512, jobs=4)
    policy = make(world, messages=None)
    explorer = begin(policy, 512, NoiseConfig(sigma=0.15, correlation=0.5))
    rows = torch.arange(512)
    no = torch.zeros(512, dtype=torch.bool)
    taken = collect(explorer, world, rows, rows, torch.Generator().manual_seed(1), no, rows).taken["server"]
    with torch.no_grad():
        now = policy.judge({"server": taken.decisions}).distribution["server"].log_prob(taken.choice)
    ratio = (now - taken.log_prob).exp()
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.05)
    assert float((ratio - 1).abs().mean()) > 0.05


@pytest.mark.parametrize("gae", [False, True])
def test_sigma_settles_where_the_divergence_is_the_target(gae: bool, queue: Callable[..., Any]) -> None:
    world = queue(64, jobs=5, agents=2)
    for start in (1e-3, 1.0):
        pupil = learner(world, NoiseConfig(target=0.02, sigma=start), gae=gae)
        found = [loss.noise_kl for loss in learn(pupil, world, range(14))]
        assert 0.01 < float(np.mean(found[-6:])) < 0.04


def test_the_optimum_is_learnt_with_noise_as_well(queue: Callable[..., Any]) -> None:
    world = queue(64, jobs=5, agents=2)
    pupil = learner(world, NoiseConfig())
    learn(pupil, world, range(25))
    rows = torch.arange(64) + 10**6
    assert float((evaluate(pupil.averaged, world, rows, rows)["wait"] / world.optimum()).mean()) < 1.01


def test_a_resumed_learner_goes_on_to_the_same_numbers(queue: Callable[..., Any]) -> None:
    world = queue(16, jobs=4, agents=2)
    straight, again, resumed = (learner(world, NoiseConfig()) for _ in range(3))
    learn(straight, world, range(4))
    learn(again, world, range(2))
    state = pickle.loads(pickle.dumps(again.state()))
    resumed.load(state)
    learn(resumed, world, range(2, 4))
    expected = parameters_to_numpy(straight.policy)
    assert all(np.array_equal(a, expected[n]) for n, a in parameters_to_numpy(resumed.policy).items())
    with pytest.raises(AgentError, match="noise differs"):
        learner(world, None).load(state)


def test_distance_is_zero_without_noise(queue: Callable[..., Any]) -> None:
    world = queue(16, jobs=4)
    pupil = learner(world, None)
    rollouts = pupil.collect(world, torch.arange(2), torch.zeros(2).long())
    assert distance(pupil.policy, pupil._experience(rollouts)) == pytest.approx(0.0, abs=1e-6)
