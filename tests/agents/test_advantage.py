from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.advantage import between, gae, group_advantage, interpolate, positions
from fedsched.agents.collect import collect
from fedsched.agents.config import PolicyConfig
from fedsched.agents.constraint import step_costs
from fedsched.agents.decisions import AgentError
from fedsched.agents.experience import Discount, gae_experience
from fedsched.agents.policy import Policy


def slow_gae(
    reward: list[float],
    value: list[float],
    discount: list[float],
    sequence: list[int],
    bootstrap: list[float],
    lam: float,
) -> list[float]:
    """One sequence after the other, from its end."""
    advantage = [0.0] * len(reward)
    for s, last in enumerate(bootstrap):
        following, carried = last, 0.0
        for d in [d for d in range(len(reward)) if sequence[d] == s][::-1]:
            carried = reward[d] + discount[d] * following - value[d] + discount[d] * lam * carried
            following = value[d]
            advantage[d] = carried
    return advantage


@pytest.mark.parametrize("lam", [0.0, 0.9, 1.0])
def test_gae_equals_a_slow_twin_with_sequences_that_end_in_the_middle(lam: float) -> None:
    generator = torch.Generator().manual_seed(0)
    count, sequences = 60, 5
    sequence = torch.randint(sequences, (count,), generator=generator)
    sequence[30:] = sequence[30:].clamp(max=2)  # two sequences are cut off half way, one of them is bootstrapped
    reward, value = torch.randn(2, count, generator=generator)
    discount = torch.rand(count, generator=generator)
    bootstrap = torch.tensor([0.0, 2.0, 0.0, -3.0, 0.0])
    fast = gae(reward, value, discount, sequence, bootstrap, lam)
    slow = slow_gae(reward.tolist(), value.tolist(), discount.tolist(), sequence.tolist(), bootstrap.tolist(), lam)
    np.testing.assert_allclose(fast, slow, atol=1e-5)


def test_positions_count_inside_each_sequence() -> None:
    order, place = positions(torch.tensor([2, 0, 2, 1, 0, 2]))
    assert place.tolist() == [0, 0, 1, 0, 1, 2]
    assert order.tolist() == [1, 4, 3, 0, 2, 5]


def test_rewards_are_summed_from_a_decision_to_the_same_agents_next() -> None:
    accrued = torch.tensor([[0.0, 0], [1, 10], [3, 10], [7, 30]]).double()
    step, column = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 0, 1])
    assert between(accrued, step, column, torch.tensor([3, 3])).tolist() == [3.0, 0.0, 4.0, 20.0]
    assert between(accrued, step, column, torch.tensor([3, 2])).tolist() == [3.0, 0.0, 4.0, 0.0]


def test_a_discount_by_time_counts_seconds_and_not_decisions(queue: Callable[..., Any]) -> None:
    """Of a clock that runs by the sizes of jobs; with lambda 1 a return is the discounted sum."""
    world, rows, no = queue(6, jobs=5, agents=2), torch.arange(6), torch.zeros(6, dtype=torch.bool)
    policy = Policy(world.spec, PolicyConfig(critic="central"))
    rollouts = collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows)
    part = gae_experience(rollouts, step_costs(rollouts, {"wait": 1.0}, None, 0.0), Discount(1.0, 0.5, 1.0))["server"]
    clock, reward = rollouts.times.numpy(), rollouts.rewards["server"][..., 0].numpy()
    assert part.returns is not None
    for d, (step, row, agent) in enumerate(
        zip(*(getattr(rollouts, n)("server") for n in ("step", "row", "agent")), strict=True)
    ):
        later = range(int(step), len(reward))
        slow = sum(reward[t, row, agent] * np.exp(-(clock[t, row] - clock[step, row]) / 0.5) for t in later)
        assert float(part.returns[d]) == pytest.approx(float(slow), abs=1e-4)
    assert len(np.unique(np.diff(clock, axis=0))) > 10


def test_interpolation_equals_numpy_also_at_steps_without_duration() -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 20, (6, 30)).astype(np.float64), 1)
    curve = np.cumsum(rng.random((6, 30)), 1)
    at = np.concatenate([rng.uniform(-3, 25, (6, 40)), np.tile(np.arange(20.0), (6, 1))], 1)
    slow = [np.interp(a, t, c) for a, t, c in zip(at, times, curve, strict=True)]
    np.testing.assert_allclose(interpolate(*map(torch.from_numpy, (times, curve, at))), slow, atol=1e-12)


def test_the_group_baseline_equals_a_slow_obvious_twin() -> None:
    rng = np.random.default_rng(1)
    steps, rollouts = 50, 7
    group = np.array([3, 3, 8, 3, 8, 8, 8])
    times = np.concatenate([np.zeros((1, rollouts)), np.cumsum(rng.exponential(5.0, (steps, rollouts)), 0)])
    accrued = np.concatenate([np.zeros((1, rollouts)), np.cumsum(rng.random((steps, rollouts)), 0)])
    column = rng.integers(rollouts, size=200)
    time = times[rng.integers(steps, size=200), column]
    slow = []
    for d in range(200):
        members = np.flatnonzero(group == group[column[d]])
        grid = np.linspace(0, max(times[-1, m] for m in members), 1025)
        after = {m: accrued[-1, m] - np.interp(grid, times[:, m], accrued[:, m]) for m in members}
        others = np.mean([after[m] for m in members if m != column[d]], 0)
        slow.append(np.interp(time[d], grid, others - after[column[d]]))
    fast = group_advantage(*map(torch.from_numpy, (times, accrued, group, column, time)))
    np.testing.assert_allclose(fast, slow, atol=1e-9)


def test_equal_rollouts_have_no_advantage_and_a_cheaper_one_has_what_it_saves() -> None:
    times = torch.tensor([[0.0, 0], [10, 10]]).double()
    group, column, time = torch.zeros(2, dtype=torch.int64), torch.tensor([0, 1, 0]), torch.tensor([0.0, 0, 5]).double()
    equal = group_advantage(times, torch.tensor([[0.0, 0], [4, 4]]).double(), group, column, time)
    assert equal.tolist() == [0.0, 0.0, 0.0]
    unequal = group_advantage(times, torch.tensor([[0.0, 0], [4, 6]]).double(), group, column, time)
    np.testing.assert_allclose(unequal, [2.0, -2.0, 1.0], atol=1e-9)


def test_a_group_of_one_is_refused() -> None:
    table = torch.zeros(2, 1).double()
    with pytest.raises(AgentError, match="at least two"):
        group_advantage(table, table, torch.zeros(1).long(), torch.zeros(0).long(), torch.zeros(0).double())
