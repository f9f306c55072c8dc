"""Seeded episodes of random legal actions, recorded row by row: what checks and tests compare."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsched.envs.core.laws import check_observation, check_transition
from fedsched.envs.core.streams import stream
from fedsched.envs.core.world import KindSpec, Observation, Tokens, Transition, World, WorldSpec

Array = npt.NDArray[Any]
Pair = tuple[int, int]
"""Instance and seed of an episode."""

Episode = list[dict[str, Array]]
"""What one row showed at every moment, by name."""

_FIELDS = tuple(Tokens.__dataclass_fields__)


def legal_actions(
    spec: WorldSpec, observation: Observation, pairs: Sequence[Pair], step: int
) -> dict[str, torch.Tensor]:
    """Random legal actions by kind; a row's depend on its pair and the step alone, not on its place in the batch."""
    table: dict[str, torch.Tensor] = {}
    for k, kind in enumerate(spec.kinds):
        tokens = observation.kinds[kind.name]
        rows = [
            [
                _legal_action(kind, tokens, b, a, stream(pair[1], "check/action", pair[0], step, k, a))
                for a in range(len(kind.agents))
            ]
            for b, pair in enumerate(pairs)
        ]
        dtype = torch.int64 if kind.bounds is None else torch.float32
        table[kind.name] = torch.tensor(np.array(rows), dtype=dtype, device=tokens.own.device)
    return table


def _legal_action(kind: KindSpec, tokens: Tokens, b: int, a: int, rng: np.random.Generator) -> Array | int:
    active = bool(tokens.active[b, a])
    if kind.bounds is not None:
        return np.asarray(rng.uniform(*kind.bounds)) if active else np.clip(0.0, *kind.bounds)
    if not active:
        return kind.idle
    return int(rng.choice(np.flatnonzero(tokens.action_mask[b, a].cpu().numpy())))


def play(
    world: World,
    pairs: Sequence[Pair],
    steps: int,
    observation: Observation | None = None,
    first: int = 0,
) -> list[Episode]:
    """Plays from a reset, or on from an observation; an episode stops where its row ends."""
    if observation is None:
        observation = start(world, pairs)
    check_observation(world.spec, world.batch, observation)
    episodes = [[moment(observation, b)] for b in range(world.batch)]
    ended = all_over(observation)
    for step in range(first, steps):
        if ended.all():
            break
        before = observation.time_s.clone()
        alive = {name: tokens.alive.clone() for name, tokens in observation.kinds.items()}
        moved = world.step(legal_actions(world.spec, observation, pairs, step))
        observation = moved.observation
        check_observation(world.spec, world.batch, observation)
        check_transition(world.spec, world.batch, moved, before, alive)
        for b in np.flatnonzero(~ended):
            episodes[b].append(moment(observation, int(b)) | _gain(moved, int(b)))
        ended |= all_ended(moved)
    return episodes


def start(world: World, pairs: Sequence[Pair]) -> Observation:
    """Resets every row to its pair."""
    table = torch.tensor(pairs, dtype=torch.int64, device=world.device)
    return world.reset(table[:, 0].contiguous(), table[:, 1].contiguous())


def all_ended(moved: Transition) -> npt.NDArray[np.bool_]:
    """Rows whose episodes are over, [B]."""
    done = torch.cat(list(moved.terminated.values()), 1).all(1) | moved.truncated
    return np.asarray(done.cpu().numpy())


def all_over(observation: Observation) -> npt.NDArray[np.bool_]:
    """Rows in which no agent is alive, [B]; so is a world whose episode was over at its reset."""
    alive = torch.cat([tokens.alive for tokens in observation.kinds.values()], 1).any(1)
    return np.asarray(~alive.cpu().numpy())


def moment(observation: Observation, b: int) -> dict[str, Array]:
    """All that row b shows."""
    values = {"time_s": observation.time_s[b]}
    for name, tokens in observation.kinds.items():
        values |= {f"{name}.{field}": getattr(tokens, field)[b] for field in _FIELDS}
    return {name: np.array(value.cpu().numpy()) for name, value in values.items()}


def _gain(moved: Transition, b: int) -> dict[str, Array]:
    values = {"elapsed_s": moved.elapsed_s[b], "truncated": moved.truncated[b]}
    values |= {f"{name}.reward": reward[b] for name, reward in moved.reward.items()}
    values |= {f"{name}.terminated": ended[b] for name, ended in moved.terminated.items()}
    return {name: np.array(value.cpu().numpy()) for name, value in values.items()}


def digest(episodes: Sequence[Episode]) -> str:
    """A fingerprint of all numbers of these episodes."""
    sum_ = hashlib.blake2b(digest_size=16)
    for episode in episodes:
        for moment in episode:
            for name in sorted(moment):
                sum_.update(name.encode() + moment[name].tobytes())
    return sum_.hexdigest()
