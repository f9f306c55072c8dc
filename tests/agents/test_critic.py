"""What critics read, and in which units they learn."""

from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.config import CriticKind
from fedsched.agents.critic import Critic, critic_features, critic_width
from fedsched.envs.core import KindSpec, Observation, Tokens, WorldSpec


def crowd(live: torch.Tensor) -> tuple[WorldSpec, Observation]:
    """Agents that see entities in the slots that are `live` bool [B, A, E]; each third agent is dead."""
    generator = torch.Generator().manual_seed(0)
    batch, agents, slots = live.shape
    names = tuple(f"a{i}" for i in range(agents))
    kind = KindSpec("a", names, own=("x", "y"), entity=("u", "v", "w"), entities=slots, actions=1)
    alive = (torch.arange(agents) % 3 != 2).expand(batch, agents)
    tokens = Tokens(
        own=torch.randn(batch, agents, 2, generator=generator),
        entities=torch.randn(batch, agents, slots, 3, generator=generator) - 5.0,
        entity_mask=live,
        actions=torch.zeros(batch, agents, 1, 0),
        action_mask=torch.ones(batch, agents, 1, dtype=torch.bool),
        active=alive,
        alive=alive,
    )
    spec = WorldSpec("crowd", (kind,), np.full((agents, 1), -1, dtype=np.int64), ("r",), ("r",))
    return spec, Observation(torch.zeros(batch, dtype=torch.float64), {"a": tokens})


def slow_features(tokens: Tokens, critic: CriticKind, b: int, a: int) -> list[float]:
    """One agent's, in loops over agents and entities; all entities are below zero, as no maximum over none may be."""
    found = tokens.own[b, a].tolist()
    if critic == "central":
        living = [tokens.own[b, other].tolist() for other in range(tokens.own.shape[1]) if tokens.alive[b, other]]
        found += [sum(column) / len(living) for column in zip(*living, strict=True)]
    seen = [e.tolist() for e, there in zip(tokens.entities[b, a], tokens.entity_mask[b, a], strict=True) if there]
    if not seen:
        return found + [0.0] * 6
    columns = list(zip(*seen, strict=True))
    return found + [sum(column) / len(seen) for column in columns] + [max(column) for column in columns]


@pytest.mark.parametrize("critic", ["independent", "central"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_features_equal_loops_wherever_the_live_slots_lie(critic: CriticKind, share: float) -> None:
    live = torch.rand(4, 5, 9, generator=torch.Generator().manual_seed(1)) < share
    spec, observation = crowd(live)
    fast = critic_features(observation, critic)["a"]
    slow = [[slow_features(observation.kinds["a"], critic, b, a) for a in range(5)] for b in range(4)]
    assert fast.shape[2] == critic_width(spec, spec.kinds[0], critic)
    np.testing.assert_allclose(fast, slow, rtol=1e-5)


def test_statistics_move_a_tenth_and_values_stay() -> None:
    """The second half of PopArt; the first returns set the statistics."""
    torch.manual_seed(0)
    critic, features = Critic(3, 8), torch.randn(20, 3)
    returns = [torch.tensor([3.0, 7.0]), torch.tensor([100.0, 120.0])]
    before: Any = critic.values(features).detach()
    critic.observe(returns[0])
    assert (float(critic.mean), float(critic.deviation)) == (5.0, 2.0)
    critic.observe(returns[1])
    assert float(critic.mean) == pytest.approx(0.9 * 5 + 0.1 * 110)
    assert float(critic.deviation) == pytest.approx(0.9 * 2 + 0.1 * 10)
    torch.testing.assert_close(critic.values(features), before, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(critic.normalise(critic.values(features)), critic(features), atol=1e-5, rtol=1e-5)
