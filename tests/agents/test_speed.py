"""Speed at the size of a data centre: 128 slots, 12 rows a decision. Run with `-m slow -s` to see the figures."""

import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedsched.agents.config import EncoderConfig, EncoderKind, MessageConfig, PolicyConfig
from fedsched.agents.experience import Experience
from fedsched.agents.layers import Dense, Owners
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import Optimiser, PpoConfig
from fedsched.envs.core import KindSpec, Observation, Tokens, WorldSpec

OWN, ENTITY, SLOTS = 16, 11, 128
# decisions per CPU second, acting at batch 256 and learning
FLOORS: dict[EncoderKind, tuple[int, int]] = {
    "pointwise": (50_000, 20_000),
    "attention": (15_000, 5_000),
    "hierarchical": (8_000, 3_000),
    "gat": (8_000, 1_000),
}


def site(agents: int) -> WorldSpec:
    names = tuple(f"cluster{i}" for i in range(agents))
    kind = KindSpec(
        "cluster",
        names,
        own=tuple(f"own{i}" for i in range(OWN)),
        entity=tuple(f"job{i}" for i in range(ENTITY)),
        entities=SLOTS,
        action=("hold",),
        actions=SLOTS + 1,
        idle=SLOTS,
    )
    table = np.array([[j for j in range(agents) if j != i] for i in range(agents)], dtype=np.int64)
    return WorldSpec("datacenter", (kind,), table.reshape(agents, agents - 1), ("qos",), ())


def observation(batch: int, agents: int) -> Observation:
    """One cluster of every site decides; 2 to 22 jobs wait."""
    generator = torch.Generator().manual_seed(0)
    waiting = torch.randint(2, 22, (batch, agents, 1), generator=generator)
    mask = torch.arange(SLOTS) < waiting
    active = torch.arange(agents).expand(batch, agents) == 0
    actions = torch.zeros(batch, agents, SLOTS + 1, 1)
    actions[:, :, -1] = 1
    tokens = Tokens(
        own=torch.rand(batch, agents, OWN, generator=generator),
        entities=torch.rand(batch, agents, SLOTS, ENTITY, generator=generator) * mask[..., None],
        entity_mask=mask,
        actions=actions,
        action_mask=torch.cat([mask & active[..., None], torch.ones(batch, agents, 1, dtype=torch.bool)], 2),
        active=active,
        alive=torch.ones_like(active),
    )
    return Observation(torch.zeros(batch, dtype=torch.float64), {"cluster": tokens})


def best_of(repeats: int, run: Callable[[], object]) -> float:
    """Shortest CPU seconds of a call."""
    run()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return min(spent)


def acting_rate(policy: Policy, spec: WorldSpec, batch: int) -> float:
    seen = observation(batch, len(spec.kinds[0].agents))
    mailbox = policy.mailbox(spec, batch)
    generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def act() -> None:
        step = policy(spec, seen, None, mailbox)
        chosen = step.distribution["cluster"].sample(generator)
        step.distribution["cluster"].log_prob(chosen)

    return batch / best_of(30, act)


def learning_rate(policy: Policy, spec: WorldSpec, minibatch: int) -> float:
    decisions = 4 * minibatch
    mailbox = policy.mailbox(spec, decisions)
    with torch.no_grad():
        step = policy(spec, observation(decisions, len(spec.kinds[0].agents)), None, mailbox)
        choice = step.distribution["cluster"].mode()
        old = step.distribution["cluster"].log_prob(choice)
    advantage = torch.randn(decisions, generator=torch.Generator().manual_seed(0))
    experience = {"cluster": Experience(step.decisions["cluster"], choice, old, advantage)}
    config = PpoConfig(minibatch=minibatch, epochs=3, kl_stop=1e9, lr=1e-4)
    optimiser = Optimiser(policy, config, torch.Generator().manual_seed(0))
    return decisions / best_of(3, lambda: optimiser.update(experience, decisions))


@pytest.mark.slow
@pytest.mark.parametrize("encoder", FLOORS)
@pytest.mark.parametrize(("agents", "rounds"), [(1, 0), (3, 1)])
def test_decisions_per_second(encoder: EncoderKind, agents: int, rounds: int) -> None:
    torch.set_num_threads(1)
    spec = site(agents)
    config = PolicyConfig(EncoderConfig(encoder), MessageConfig(rounds) if rounds else None)
    policy = Policy(spec, config)
    acting = {batch: acting_rate(policy, spec, batch) for batch in (64, 256)}
    learning = learning_rate(policy, spec, 4096)
    figures = f"acting {acting[64]:,.0f} at batch 64, {acting[256]:,.0f} at 256; learning {learning:,.0f}"
    sys.stdout.write(f"\n{encoder}, {agents} agents, {rounds} rounds, decisions per CPU second: {figures}\n")
    assert acting[256] > FLOORS[encoder][0]
    assert learning > FLOORS[encoder][1]


@pytest.mark.slow
@pytest.mark.parametrize(("agents", "lines"), [(3, 256), (16, 1024), (64, 8192), (256, 8192)])
def test_layers_that_agents_own_cost_little_more_than_shared_ones(agents: int, lines: int) -> None:
    torch.set_num_threads(1)
    owner = torch.arange(lines) % agents
    owners, mine = Owners.of(owner, agents), [(owner == agent).nonzero().squeeze(1) for agent in range(agents)]
    features = torch.randn(lines, 32, generator=torch.Generator().manual_seed(0))
    shared, stacked, alone = Dense(32, 32), Dense(32, 32, agents), [torch.nn.Linear(32, 32) for _ in range(agents)]

    def loop() -> torch.Tensor:
        parts = [layer(features.index_select(0, index)) for layer, index in zip(alone, mine, strict=True)]
        return torch.empty(lines, 32).index_copy(0, torch.cat(mine), torch.cat(parts))

    ways = {"shared": lambda: shared(features), "stacked": lambda: stacked(features, owners), "a loop": loop}
    spent = {name: best_of(20, lambda way=way: torch.autograd.backward(way().sum())) for name, way in ways.items()}
    layout = best_of(20, lambda: Owners.of(owner, agents))
    figures = ", ".join(f"{name} {seconds * 1e6:,.0f}" for name, seconds in spent.items())
    sys.stdout.write(f"\n{agents} agents, {lines} lines, us forward and back: {figures}; layout {layout * 1e6:,.0f}\n")
    assert agents < 16 or spent["stacked"] < 0.8 * spent["a loop"]
