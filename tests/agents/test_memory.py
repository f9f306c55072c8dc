"""Memory: acting carries it, learning recomputes it in chunks, and a task that needs it is solved with it alone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import GreedyActor, collect, evaluate
from fedsched.agents.config import EncoderConfig, MessageConfig, PolicyConfig
from fedsched.agents.experience import Experience
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.memory import Memory
from fedsched.agents.minibatches import Chunks, minibatches
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import PpoConfig
from fedsched.agents.recall import judge_choices
from fedsched.agents.rollout import Rollouts
from fedsched.envs.core import KindSpec, Observation, Tokens, Transition, WorldSpec

SIZE = 8


class CueWorld:
    """A side is shown in the first step alone; after a pause each agent is paid for naming it."""

    def __init__(self, batch: int, pause: int = 2) -> None:
        self.batch, self.device, self.pause = batch, "cpu", pause
        kind = KindSpec("clerk", ("clerk",), own=("side", "asked"), action=("side",), actions=2, idle=0)
        self.spec = WorldSpec("cue", (kind,), np.zeros((1, 0), dtype=np.int64), ("right",), ("right",))
        self.side, self.right = torch.zeros(batch), torch.zeros(batch, dtype=torch.float64)
        self.steps = 0

    def reset(self, instances: torch.Tensor, seeds: torch.Tensor, until_s: torch.Tensor | None = None) -> Observation:
        del seeds, until_s
        draws = [np.random.default_rng(int(instance)).integers(2) for instance in instances]
        self.side = torch.tensor(draws, dtype=torch.float32) * 2 - 1
        self.right.zero_()
        self.steps = 0
        return self.observe()

    def observe(self) -> Observation:
        asked, over = self.steps == self.pause, self.steps > self.pause
        shown = self.side if self.steps == 0 else torch.zeros(self.batch)
        mask = torch.ones(self.batch, 1, 2, dtype=torch.bool)
        mask[:, :, 1] = not over
        alive = torch.full((self.batch, 1), not over)
        tokens = Tokens(
            own=torch.stack([shown, torch.full_like(shown, float(asked))], 1)[:, None],
            entities=torch.zeros(self.batch, 1, 0, 0),
            entity_mask=torch.zeros(self.batch, 1, 0, dtype=torch.bool),
            actions=torch.tensor([[-1.0], [1.0]]).expand(self.batch, 1, 2, 1).clone(),
            action_mask=mask,
            active=alive,
            alive=alive,
        )
        return Observation(torch.full((self.batch,), float(self.steps), dtype=torch.float64), {"clerk": tokens})

    def step(self, actions: Mapping[str, torch.Tensor]) -> Transition:
        right = (actions["clerk"][:, 0] * 2.0 - 1.0 == self.side) & (self.steps == self.pause)
        self.right += right
        self.steps += 1
        over = torch.full((self.batch, 1), self.steps > self.pause)
        earned = right.to(torch.float32).reshape(self.batch, 1, 1)
        cut = torch.zeros(self.batch, dtype=torch.bool)
        seen = self.observe()
        return Transition(seen, {"clerk": earned}, torch.ones_like(seen.time_s), {"clerk": over}, cut)

    def metrics(self) -> dict[str, torch.Tensor]:
        return {"right": self.right.clone()}


def clerk(world: Any, memory: int, seed: int = 0) -> Learner:
    encoder = EncoderConfig(width=16, hidden=16, layers=1)
    config = PolicyConfig(encoder, None, critic="independent", critic_width=16, memory=memory)
    ppo = PpoConfig(lr=1e-2, lr_end=1.0, iterations=25, epochs=4, minibatches=2, kl_stop=0.1, entropy=0.01)
    return Learner(Policy(world.spec, config, seed=seed), LearnerConfig({"right": 1.0}, "gae", 1, ppo=ppo), seed)


@pytest.mark.parametrize(("memory", "least", "most"), [(SIZE, 0.99, 1.0), (0, 0.3, 0.7)])
def test_what_was_shown_at_the_start_is_named_at_the_end_with_memory_alone(
    memory: int, least: float, most: float
) -> None:
    world: Any = CueWorld(64)
    pupil = clerk(world, memory)
    for update in range(25):
        instances = torch.arange(64) + 64 * update
        pupil.update([pupil.collect(world, instances, instances)])
    instances = torch.arange(64) + 10**6
    assert least <= float(evaluate(pupil.policy, world, instances, instances)["right"].mean()) <= most


def test_the_unit_is_pytorchs() -> None:
    torch.manual_seed(0)
    memory, cell = Memory(5, SIZE), torch.nn.GRUCell(SIZE, SIZE)
    with torch.no_grad():
        for mine, theirs in ((memory.new, "ih"), (memory.old, "hh")):
            getattr(cell, f"weight_{theirs}").copy_(mine.weight)
            mine.bias.normal_()
            getattr(cell, f"bias_{theirs}").copy_(mine.bias)
    seen, before = torch.randn(7, 5), torch.randn(7, SIZE)
    torch.testing.assert_close(memory(seen, before), cell(torch.tanh(memory.embed(seen)), before))


def acted(world: Any, sharing: Any = "kind") -> tuple[Policy, dict[str, Experience], Rollouts]:
    config = PolicyConfig(messages=MessageConfig(), critic="central", memory=SIZE, sharing=sharing)
    policy = Policy(world.spec, config)
    rows, no = torch.arange(world.batch), torch.zeros(world.batch, dtype=torch.bool)
    rollouts = collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows)
    parts = {
        name: Experience(t.decisions, t.choice, t.log_prob, torch.zeros(len(t.decisions)))
        for name, t in rollouts.taken.items()
    }
    return policy, parts, rollouts


def move(policy: Policy) -> None:
    """Other parameters than those that acted."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def chunks_of(rollouts: Rollouts, length: int) -> Chunks:
    return Chunks.of([(rollouts.times.shape[0] - 1, rollouts.batch)], length)


@pytest.mark.parametrize("length", [1, 2, 100])
@pytest.mark.parametrize("sharing", ["kind", "agent"])
def test_unchanged_parameters_give_the_probabilities_of_acting(
    length: int, sharing: str, queue: Callable[..., Any], relay: Callable[..., Any]
) -> None:
    """With messages between the agents, and where they take turns."""
    for world in (queue(6, jobs=5, agents=3), relay(5, alternate=True), relay(5)):
        policy, parts, rollouts = acted(world, sharing)
        with torch.no_grad():
            found = judge_choices(policy, parts, chunks_of(rollouts, length))
        stored = torch.cat([part.log_prob for part in parts.values()])
        torch.testing.assert_close(found.log_prob, stored, atol=1e-5, rtol=0)
        assert bool((found.entropy >= -1e-6).all())
        assert all(float(part.decisions.memory.abs().max()) > 0.01 for part in parts.values())


def slow_judge(policy: Policy, parts: dict[str, Experience], rollouts: Rollouts) -> dict[str, torch.Tensor]:
    """Every row's episode by itself, one step after the other, memories in a plain dict."""
    found = {name: torch.zeros(len(part.decisions)) for name, part in parts.items()}
    for row in range(rollouts.batch):
        memory: dict[int, torch.Tensor] = {}
        for step in range(rollouts.times.shape[0] - 1):
            now, places = {}, {}
            for name, part in parts.items():
                here = (part.decisions.moment == step * rollouts.batch + row).nonzero().squeeze(1)
                if len(here):
                    mine = part.decisions.select(here)
                    known = [memory.get(int(agent), torch.zeros(SIZE)) for agent in mine.agent]
                    now[name], places[name] = mine.with_memory(torch.stack(known)), here
            judged = policy.judge(now)
            for name, here in places.items():
                assert judged.memory is not None
                memory |= {int(a): m for a, m in zip(now[name].agent, judged.memory[name], strict=True)}
                chosen = judged.distribution[name].log_prob(parts[name].choice[here])
                found[name] = found[name].index_copy(0, here, chosen)
    return found


@pytest.mark.parametrize("alternate", [True, False])
def test_a_chunk_as_long_as_the_episode_equals_a_plain_loop(alternate: bool, relay: Callable[..., Any]) -> None:
    policy, parts, rollouts = acted(relay(3, rounds=3, alternate=alternate))
    move(policy)
    fast = judge_choices(policy, parts, chunks_of(rollouts, 100)).log_prob
    slow = torch.cat(list(slow_judge(policy, parts, rollouts).values()))
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    weights = torch.randn(fast.shape, generator=torch.Generator().manual_seed(0))
    gradients = [
        torch.autograd.grad((log_prob * weights).sum(), list(policy.parameters()), materialize_grads=True)
        for log_prob in (fast, slow)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_chunk_starts_with_the_memories_that_were_stored(queue: Callable[..., Any]) -> None:
    policy, parts, rollouts = acted(queue(4, jobs=6, agents=2))
    move(policy)
    chunks = chunks_of(rollouts, 3)
    with torch.no_grad():
        log_prob, plain = (judge_choices(policy, parts, c).log_prob for c in (chunks, None))
    start = chunks.offset[parts["server"].decisions.moment] == 0
    torch.testing.assert_close(log_prob[start], plain[start], atol=1e-5, rtol=0)
    assert not torch.allclose(log_prob[~start], plain[~start], atol=1e-3)


def test_minibatches_keep_chunks_whole(queue: Callable[..., Any]) -> None:
    _, parts, rollouts = acted(queue(8, jobs=6, agents=2))
    chunks = chunks_of(rollouts, 3)
    assert chunks.count == 16
    generator = torch.Generator().manual_seed(0)
    pieces = list(minibatches(parts, rollouts.moments, 4, generator, chunks))
    held = [set(chunks.chunk[piece["server"].decisions.moment].tolist()) for piece in pieces]
    assert sum(map(len, held)) == len(set().union(*held)) == 16
    assert sum(len(piece["server"].decisions) for piece in pieces) == len(parts["server"].decisions)


def test_chunks_of_several_rollouts_are_apart() -> None:
    chunks = Chunks.of([(5, 2), (3, 4)], 2)
    assert chunks.count == 3 * 2 + 2 * 4
    assert chunks.chunk.tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 9, 6, 7, 8, 9, 10, 11, 12, 13]
    assert chunks.offset.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]


def test_a_greedy_actor_remembers_as_a_greedy_row_does_and_starts_without_memory() -> None:
    world: Any = CueWorld(8)
    policy = clerk(world, SIZE).policy
    rows = torch.arange(8)
    rollouts = collect(policy, world, rows, rows, torch.Generator(), torch.ones(8, dtype=torch.bool), rows)
    first = rollouts.taken["clerk"].decisions
    assert first.memory is not None
    assert not bool(first.memory[:8].any())
    actor = GreedyActor(policy, world.spec, 8)
    observation = world.reset(rows, rows)
    for step in range(3):
        assert actor.memory is not None
        torch.testing.assert_close(actor.memory["clerk"][:, 0], first.memory[8 * step : 8 * step + 8])
        observation = world.step(actor(observation)).observation
