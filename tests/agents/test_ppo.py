from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import collect
from fedsched.agents.config import PolicyConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.experience import Experience
from fedsched.agents.minibatches import minibatches
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import (
    Optimiser,
    PpoConfig,
    Terms,
    explained_variance,
    loss_terms,
    normalise_advantages,
    policy_terms,
    value_loss,
)


@pytest.fixture
def acted(queue: Callable[..., Any]) -> tuple[Policy, dict[str, Experience], int]:
    """A policy, what it did, and the number of moments."""
    world = queue(6, jobs=5, agents=2)
    policy = Policy(world.spec, PolicyConfig(critic="central"))
    rows, no = torch.arange(6), torch.zeros(6, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    rollouts = collect(policy, world, rows, rows, generator, no, rows)
    taken = rollouts.taken["server"]
    assert taken.value is not None
    advantage, noise = torch.randn(2, len(taken.decisions), generator=generator)
    part = Experience(taken.decisions, taken.choice, taken.log_prob, advantage, taken.value, taken.value + noise)
    return policy, {"server": part}, rollouts.moments


@torch.no_grad()
def judge(policy: Policy, experience: dict[str, Experience]) -> Terms:
    return loss_terms(policy, experience, PpoConfig())


def test_the_clipped_losses_equal_loops_over_decisions() -> None:
    rng = np.random.default_rng(0)
    new, old, advantage, value, before, returns = rng.normal(size=(6, 300)) * 0.5
    policy, worth, clipped = 0.0, 0.0, 0
    for d in range(300):
        ratio = np.exp(new[d] - old[d])
        policy -= min(ratio * advantage[d], min(max(ratio, 0.8), 1.2) * advantage[d]) / 300
        clipped += abs(ratio - 1) > 0.2
        near = before[d] + min(max(value[d] - before[d], -0.2), 0.2)
        worth += max((value[d] - returns[d]) ** 2, (near - returns[d]) ** 2) / 600
    loss, kl, fraction = policy_terms(*map(torch.from_numpy, (new, old, advantage)), 0.2)
    assert float(loss) == pytest.approx(policy)
    assert float(fraction) == pytest.approx(clipped / 300)
    assert float(kl) == pytest.approx(np.mean(np.exp(new - old) - 1 - (new - old)))
    assert float(value_loss(*map(torch.from_numpy, (value, before, returns)), 0.2)) == pytest.approx(worth)


@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("huber", [None, 1.0, 10.0])
def test_the_value_loss_equals_a_loop_with_and_without_its_options(clip: float | None, huber: float | None) -> None:
    rng = np.random.default_rng(0)
    value, before, returns = rng.normal(size=(3, 200)) * 6

    def h(error: float) -> float:
        if huber is None or abs(error) <= huber:
            return error**2 / 2
        return huber * (abs(error) - huber / 2)

    slow = []
    for v, b, r in zip(value, before, returns, strict=True):
        near = v if clip is None else b + min(max(v - b, -clip), clip)
        slow.append(max(h(v - r), h(near - r)))
    fast = value_loss(*map(torch.from_numpy, (value, before, returns)), clip, huber)
    assert float(fast) == pytest.approx(np.mean(slow))


def test_a_critic_has_its_own_step_size_and_both_fall_or_stay(
    acted: tuple[Policy, dict[str, Experience], int],
) -> None:
    policy, experience, moments = acted
    config = PpoConfig(lr=0.0, critic_lr=1e-2, lr_end=1.0, iterations=1, epochs=1, kl_stop=1e9)
    optimiser = Optimiser(policy, config, torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    for _ in range(3):
        optimiser.update(experience, moments)
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if ".critic." in name}
    assert [group["lr"] for group in optimiser.adam.param_groups] == [0.0, 1e-2]


def test_the_entropy_weight_falls_to_what_is_asked(
    acted: tuple[Policy, dict[str, Experience], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, experience, moments = acted
    weights = []

    def step(_self: Optimiser, _piece: object, entropy: float, _chunks: object) -> torch.Tensor:
        weights.append(entropy)
        return torch.zeros(7)

    monkeypatch.setattr(Optimiser, "_step", step)
    for end in (0.0, 1.0):
        config = PpoConfig(entropy=0.1, entropy_end=end, epochs=1, iterations=2)
        optimiser = Optimiser(policy, config, torch.Generator())
        for _ in range(4):
            optimiser.update(experience, moments)
    assert weights == pytest.approx([0.1, 0.05, 0.0, 0.0, 0.1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("wrong", ["policy", "value"])
def test_a_gradient_that_is_not_finite_stops_the_update_and_names_its_loss(
    wrong: str, acted: tuple[Policy, dict[str, Experience], int]
) -> None:
    policy, experience, moments = acted
    part = experience["server"]
    assert part.returns is not None
    bad = {"policy": {"log_prob": part.log_prob - 1e9}, "value": {"returns": part.returns * torch.nan}}[wrong]
    optimiser = Optimiser(policy, PpoConfig(minibatches=2), torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    with pytest.raises(AgentError, match=f"update 1: the {wrong} loss is (nan|inf)"):
        optimiser.update({"server": replace(part, **bad)}, moments)
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters())


def test_an_update_tells_what_one_needs_to_see_it_fail(acted: tuple[Policy, dict[str, Experience], int]) -> None:
    policy, experience, moments = acted
    policy.critic("server").observe(torch.tensor([3.0, 7.0]))
    config = PpoConfig(minibatches=4, epochs=2, lr=1e-2, kl_stop=1e9)
    losses = Optimiser(policy, config, torch.Generator().manual_seed(0)).update(experience, moments)
    assert (losses.value_mean, losses.value_deviation) == (5.0, 2.0)
    assert 0 < losses.clip_fraction < 1
    assert losses.entropy > 0
    assert losses.gradient_norm > 0
    assert losses.explained_variance == pytest.approx(explained_variance(experience))


def test_the_first_pass_sees_the_policy_that_acted(acted: tuple[Policy, dict[str, Experience], int]) -> None:
    """Messages, gates and all are recomputed from what was stored: the ratio is one, the loss minus the advantage."""
    policy, experience, _ = acted
    terms = judge(policy, experience)
    assert float(terms.approx_kl) == pytest.approx(0, abs=1e-9)
    assert float(terms.policy) == pytest.approx(-float(experience["server"].advantage.mean()), abs=1e-5)


def test_minibatches_hold_every_decision_once_and_keep_moments_whole(
    acted: tuple[Policy, dict[str, Experience], int],
) -> None:
    policy, experience, moments = acted
    pieces = list(minibatches(experience, moments, 5, torch.Generator().manual_seed(0)))
    assert len(pieces) == 5
    seen = [set(piece["server"].decisions.moment.tolist()) for piece in pieces]
    assert sum(len(piece["server"].decisions) for piece in pieces) == len(experience["server"].decisions)
    assert sum(len(s) for s in seen) == len(set().union(*seen))
    # and so the loss of the pieces is that of the whole
    whole = judge(policy, experience).policy
    parts = [judge(policy, p).policy * len(p["server"].decisions) for p in pieces]
    total = len(experience["server"].decisions)
    assert float(torch.stack(parts).sum() / total) == pytest.approx(float(whole), abs=1e-5)


def test_an_update_lowers_its_own_loss(acted: tuple[Policy, dict[str, Experience], int]) -> None:
    policy, experience, moments = acted
    normal = normalise_advantages(experience)
    before = judge(policy, normal)
    optimiser = Optimiser(policy, PpoConfig(lr=3e-3, epochs=5), torch.Generator().manual_seed(0))
    losses = optimiser.update(experience, moments)
    after = judge(policy, normal)
    assert float(after.policy) < float(before.policy)
    assert float(after.value) < float(before.value)
    assert losses.epochs == 5
    assert losses.approx_kl > 0


def test_the_kl_stop_ends_an_update_and_the_step_size_falls(
    acted: tuple[Policy, dict[str, Experience], int],
) -> None:
    policy, experience, moments = acted
    config = PpoConfig(lr=0.1, epochs=10, iterations=4, lr_end=0.1, kl_stop=1e-4)
    optimiser = Optimiser(policy, config, torch.Generator().manual_seed(0))
    rates = []
    for _ in range(6):
        losses = optimiser.update(experience, moments)
        assert losses.epochs < 10
        rates.append(optimiser.adam.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, [0.1, 0.0775, 0.055, 0.0325, 0.01, 0.01])


def test_the_kl_stop_counts_from_the_policy_that_acted(acted: tuple[Policy, dict[str, Experience], int]) -> None:
    """Where another policy acted, as with noise on the parameters, its distance is no move of this one."""
    policy, experience, moments = acted
    part = experience["server"]
    shifted = {"server": replace(part, log_prob=part.log_prob - 0.5)}
    distance = float(judge(policy, shifted).approx_kl)
    assert distance == pytest.approx(np.exp(0.5) - 1.5, abs=1e-4)
    for away, epochs in ((0.0, 1), (distance, 4)):
        config = PpoConfig(lr=1e-5, epochs=4, kl_stop=0.03)
        losses = Optimiser(policy, config, torch.Generator().manual_seed(0)).update(shifted, moments, away=away)
        assert losses.epochs == epochs


def test_advantages_are_normal_and_cut(acted: tuple[Policy, dict[str, Experience], int]) -> None:
    experience = acted[1]
    wild = experience["server"].advantage.clone()
    wild[0] = 1e6
    part = normalise_advantages({"server": Experience(**{**vars(experience["server"]), "advantage": wild})})["server"]
    assert float(part.advantage.max()) == 5.0
    plain = normalise_advantages(experience)["server"].advantage
    assert float(plain.mean()) == pytest.approx(0, abs=1e-6)
    assert float(plain.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_explained_variance_of_a_perfect_and_of_a_constant_critic(
    acted: tuple[Policy, dict[str, Experience], int],
) -> None:
    part = acted[1]["server"]
    assert part.returns is not None
    for value, expected in ((part.returns, 1.0), (torch.zeros_like(part.returns), 0.0)):
        judged = Experience(**{**vars(part), "value": value})
        assert explained_variance({"server": judged}) == pytest.approx(expected, abs=1e-6)
