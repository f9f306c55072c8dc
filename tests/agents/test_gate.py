"""The gate: agents learn in `simple_spread`, which nobody here wrote, and what they learn from is what a loop finds."""

import sys
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mpe2")
from mpe2 import simple_spread_v3

from benchmarks.spread import ARGUMENTS, GATE, LENGTH, STEPS, CriticKind, greedy_returns, make_learner, run, spread
from fedsched.agents.constraint import step_costs
from fedsched.agents.experience import Discount, gae_experience
from fedsched.agents.parameters import parameters_to_numpy
from fedsched.envs.core import stream

AGENTS = [f"agent_{number}" for number in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("critic", ["independent", "central"])
def test_greedy_agents_pass_the_gate(critic: CriticKind, seed: int) -> None:
    torch.set_num_threads(1)
    found = run(critic, seed, STEPS)
    sys.stdout.write(f"\n{critic}, seed {seed}: {found['return']:.2f}, {found['averaged_return']:.2f} averaged\n")
    assert found["return"] > GATE


class ByHand:
    """An environment and the networks of a learner, in loops and NumPy alone."""

    def __init__(self, learner: Any) -> None:
        self.env = simple_spread_v3.parallel_env(**ARGUMENTS)
        self.weights = {k.removeprefix("kinds.agent."): v for k, v in parameters_to_numpy(learner.policy).items()}

    def reset(self, instance: int, seed: int) -> list[np.ndarray]:
        found, _ = self.env.reset(seed=int(stream(seed, "foreign/reset", instance).integers(1 << 31)))
        return self._numbered(found)

    def step(self, actions: list[int]) -> tuple[list[np.ndarray], list[float], bool]:
        found, rewards, terminated, truncated, _ = self.env.step(dict(zip(AGENTS, actions, strict=True)))
        assert not any(terminated.values())
        assert len(set(truncated.values())) == 1
        return self._numbered(found), [rewards[agent] for agent in AGENTS], all(truncated.values())

    def likeliest(self, own: np.ndarray) -> int:
        """The row's features are one-hot: a key has one column for each action."""
        state = np.tanh(self._linear("state.layers.1", np.tanh(self._linear("state.layers.0", own))))
        return int((self.weights["score.key.weight"].T @ state + self.weights["skip"][0] * 10).argmax())

    def value(self, own: np.ndarray) -> float:
        hidden = np.tanh(self._linear("critic.second", np.tanh(self._linear("critic.first", own))))
        return float(self._linear("critic.value", hidden)[0])

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    @staticmethod
    def _numbered(found: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate([found[agent], np.eye(3)[a]]) for a, agent in enumerate(AGENTS)]


def test_what_the_gate_measures_is_what_a_loop_measures() -> None:
    """Greedy returns, with networks that have learned a little."""
    with spread(8) as world:
        learner = make_learner(world, "independent", 0)
        rows = torch.arange(8)
        learner.update([learner.collect(world, rows, rows)])
    hand, slow = ByHand(learner), []
    for seed in range(1 << 40, (1 << 40) + 3):
        seen, total, over = hand.reset(0, seed), 0.0, False
        while not over:
            seen, rewards, over = hand.step([hand.likeliest(own) for own in seen])
            total += float(np.mean(rewards))
        slow.append(total)
    np.testing.assert_allclose(greedy_returns(learner.policy, 3), slow, rtol=1e-9)


def test_what_is_learned_from_is_what_a_loop_finds() -> None:
    """Observations, rewards and advantages of episodes that are cut off, not ended, after 25 steps."""
    with spread(4) as world:
        learner = make_learner(world, "independent", 0)
        rows = torch.arange(4)
        rollouts = learner.collect(world, rows, rows + 7)
    costs = step_costs(rollouts, learner.config.weights, None, 0.0)
    part = gae_experience(rollouts, costs, Discount(0.9, None, 0.95))["agent"]
    order = {name: getattr(rollouts, name)("agent").tolist() for name in ("row", "agent", "step")}
    place = {key: d for d, key in enumerate(zip(*order.values(), strict=True))}
    assert len(place) == 4 * 3 * LENGTH
    hand = ByHand(learner)
    for row in range(4):
        seen, values, gained = hand.reset(row, row + 7), [], []
        for step in range(LENGTH):
            mine = [place[row, a, step] for a in range(3)]
            np.testing.assert_allclose(part.decisions.own[mine], seen, rtol=1e-6)
            values.append([hand.value(own) for own in seen])
            seen, rewards, over = hand.step(part.choice[mine].tolist())
            gained.append(rewards)
            assert over == (step == LENGTH - 1)
        following, carried = np.array([hand.value(own) for own in seen]), np.zeros(3)
        for step in reversed(range(LENGTH)):
            delta = np.array(gained[step]) + 0.9 * following - np.array(values[step])
            following, carried = np.array(values[step]), delta + 0.9 * 0.95 * carried
            mine = [place[row, a, step] for a in range(3)]
            np.testing.assert_allclose(part.advantage[mine], carried, atol=1e-4)
