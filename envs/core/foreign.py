"""Any PettingZoo parallel environment as a `World`: `foreign_world("mpe2.simple_spread_v3:parallel_env", ...)`."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch

from fedsched.envs.core.entry_point import EntryPoint
from fedsched.envs.core.foreign_board import Array, KindBoard, board_bytes, lay_board
from fedsched.envs.core.foreign_copies import Copies, MakeEnv, where
from fedsched.envs.core.foreign_layout import ForeignError, check_parallel, kinds_of, name_of, spec_of
from fedsched.envs.core.streams import stream
from fedsched.envs.core.world import (
    IllegalActionError,
    KindSpec,
    Observation,
    Snapshot,
    Tokens,
    Transition,
    WorldError,
)

STEP_S = 1.0
"""Seconds that a step counts."""


class _Stepper(Protocol):
    """Copies here or in workers."""

    def reset(self, rows: Array, seeds: Array) -> None: ...

    def step(self, rows: Array) -> None: ...

    def close(self) -> None: ...


class ForeignWorld:
    """B copies of a PettingZoo `ParallelEnv` that nobody here wrote.

    Kinds are agents with equal spaces. `own` holds the observation, flattened, and behind it the agent's number inside
    its kind, one-hot: agents that share parameters can only act unlike where they see something unlike (Gupta et al.
    2017; Terry et al. 2020, agent indication). Actions are rows with the one-hot number as feature, so that one
    network for rows tells them apart; there are no entities. A step counts one second.

    An agent that terminates shows its last observation once, then zeros and its number (Yu et al. 2022, death masking).
    One that is cut off while others go on is dead but not terminated, and keeps its last observation until the episode
    is over: what it is bootstrapped from. Agents that come later live from the start and have nothing to decide.

    `env.reset` is given a seed drawn from (seed, instance), so an instance is nothing but another seed. A snapshot does
    not hold what is inside an environment: `restore` starts the episodes anew, so `spec.exact` is False.

    Use as a context manager or call `close`; a world that is forgotten closes its environments and workers too.

    Args:
        make_env: Builds a fresh environment; all must have the same agents and spaces.
        batch: Number of copies B.
        workers: Processes that share the copies; 0 steps them here.
        neighbours: Who may message whom, by names of agents; None: everybody everybody.
        numbered: Whether `own` ends with the agent's number; None: where a kind has several agents.
        limit: Steps after which an episode is cut off; None: the environment ends it.

    Raises:
        ForeignError: No ParallelEnv, no agents, a neighbour that does not exist, or workers that cannot start.
        SpaceError: A space that cannot be used.
        WorldError: No copies, or fewer copies than workers.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        batch: int = 1,
        workers: int = 0,
        neighbours: Mapping[str, Sequence[str]] | None = None,
        numbered: bool | None = None,
        limit: int | None = None,
    ) -> None:
        if batch < 1 or not 0 <= workers <= batch:
            raise WorldError(f"a batch of {batch} in {workers} worker processes: at least one copy each is needed")
        env = make_env()
        name = name_of(env)
        check_parallel(env, name)
        layouts = kinds_of(env, numbered)
        kinds = [layout.spec for layout in layouts]
        self.spec, self.batch, self.device = spec_of(name, layouts, neighbours), batch, "cpu"
        self._stepper: _Stepper
        if workers:
            from fedsched.envs.core.foreign_pool import CopyPool

            env.close()
            pool = CopyPool(make_env, numbered, kinds, batch, workers)
            self._stepper, self._board = pool, pool.board
        else:
            self._board = lay_board(kinds, batch, bytearray(board_bytes(kinds, batch)))
            self._stepper = Copies(make_env, layouts, self._board, 0, [env])
        self._end = weakref.finalize(self, self._stepper.close)
        self._board.over[:] = True
        for kind, layout in zip(self._board.kinds, layouts, strict=True):
            kind.mask[:, :, :1] = True
            if layout.numbered:
                kind.own[:, :, layout.observation.size :] = np.eye(len(layout.ids), dtype=np.float32)
        self._stale, self._limit = False, limit
        self._episodes = np.full((batch, 2), -1, dtype=np.int64)
        self._tokens = {
            layout.spec.name: _tokens(kind, batch, layout.action.tokens)
            for kind, layout in zip(self._board.kinds, layouts, strict=True)
        }

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        """Starts new episodes; the first decisions fall on time 0.

        Raises:
            ForeignError: What an environment does wrong, with world and agent.
        """
        del until_s  # nothing happens before time 0
        rows = np.arange(self.batch) if where is None else np.flatnonzero(where.numpy())
        self._episodes[rows] = np.stack([instances.numpy(), seeds.numpy()], 1)[rows]
        drawn = [stream(seed, "foreign/reset", instance).integers(1 << 31) for instance, seed in self._episodes[rows]]
        with self._careful(len(rows) == self.batch):
            self._stepper.reset(rows, np.array(drawn, dtype=np.int64))
            self._check()
        return self._observe()

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        """One step of every row whose episode goes on; a row whose clock has come to `until_s` waits.

        Raises:
            IllegalActionError: An action that the mask forbids or outside the bounds; nothing has been stepped then.
            ForeignError: What an environment does wrong, with world, agent and step.
        """
        board = self._board
        running = ~board.over
        for kind, spec in zip(board.kinds, self.spec.kinds, strict=True):
            kind.action[:] = actions[spec.name].numpy()
            self._check_legal(spec, kind)
            kind.reward.fill(0.0)
        if until_s is not None:
            running &= board.steps * STEP_S < until_s.numpy()
        with self._careful():
            self._stepper.step(np.flatnonzero(running))
            self._check()
        if self._limit is not None:
            self._cut((board.steps >= self._limit) & ~board.over)
        for kind in board.kinds:
            kind.total[:] += kind.reward
        return self._transition(running)

    def metrics(self) -> dict[str, torch.Tensor]:
        """The episodes so far: `foreign_layout.METRICS`."""
        totals = np.concatenate([kind.total for kind in self._board.kinds], 1)
        length = self._board.steps.astype(np.float64)
        values = (totals.mean(1), totals.min(1), length)
        return {name: torch.from_numpy(value) for name, value in zip(self.spec.metrics, values, strict=True)}

    def snapshot(self) -> Snapshot:
        """Which episode each row is in: instance and seed, -1 before the first."""
        return Snapshot({"episodes": self._episodes.copy()}, {"world": self.spec.name})

    def restore(self, snapshot: Snapshot) -> Observation:
        """Starts the episodes of a snapshot anew: what is inside an environment cannot be put back.

        Raises:
            WorldError: A snapshot of another world.
        """
        episodes = torch.as_tensor(snapshot.arrays.get("episodes", ()))
        if snapshot.extra.get("world") != self.spec.name or tuple(episodes.shape) != (self.batch, 2):
            raise WorldError(f"the snapshot is not of {self.batch} copies of {self.spec.name}")
        return self.reset(episodes[:, 0], episodes[:, 1], where=episodes[:, 0] >= 0)

    def close(self) -> None:
        """Closes all environments and ends all workers."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _observe(self) -> Observation:
        return Observation(torch.from_numpy(self._board.steps * STEP_S), self._tokens)

    def _transition(self, stepped: Array) -> Transition:
        board = self._board
        by_kind = list(zip(self.spec.kinds, board.kinds, strict=True))
        return Transition(
            observation=self._observe(),
            reward={spec.name: torch.from_numpy(kind.reward.astype(np.float32)[:, :, None]) for spec, kind in by_kind},
            elapsed_s=torch.from_numpy(stepped * STEP_S),
            terminated={spec.name: torch.from_numpy(kind.terminated.copy()) for spec, kind in by_kind},
            truncated=torch.from_numpy(board.truncated.copy()),
        )

    def _cut(self, rows: Array) -> None:
        """Ends episodes, bool [B], that have lasted long enough; who lives still does in the last observation."""
        self._board.over[rows], self._board.truncated[rows] = True, True
        for kind in self._board.kinds:
            kind.active[rows], kind.mask[rows] = False, False
            kind.mask[rows, :, :1] = True

    @contextmanager
    def _careful(self, afresh: bool = False) -> Iterator[None]:
        """After an error rows stand at unlike steps, so that all must be reset (`afresh`) before anything else."""
        if self._stale and not afresh:
            raise WorldError(f"{self.spec.name}: a step or reset has failed; reset all rows before going on")
        self._stale = True
        yield
        self._stale = False

    def _check(self) -> None:
        """Raises ForeignError for numbers that nothing can be learned from."""
        for kind, spec in zip(self._board.kinds, self.spec.kinds, strict=True):
            for values, what in ((kind.own, "an observation"), (kind.reward[:, :, None], "a reward")):
                good = np.isfinite(values)
                if not good.all():
                    b, a, n = np.argwhere(~good)[0]
                    self._blame(spec, b, a, f"{what} holds {values[b, a, n]}")
            if spec.actions and not kind.mask.any(2).all():
                b, a = np.argwhere(~kind.mask.any(2))[0]
                self._blame(spec, b, a, "its action mask allows nothing")

    def _blame(self, spec: KindSpec, b: int, a: int, message: str) -> None:
        raise ForeignError(where(self.spec.name, int(b), spec.agents[a], int(self._board.steps[b])) + message)

    def _check_legal(self, spec: KindSpec, kind: KindBoard) -> None:
        if spec.bounds is not None:
            low, high = spec.bounds
            good = ((kind.action >= low) & (kind.action <= high)).all(2) | ~kind.active
        else:
            inside = (kind.action >= 0) & (kind.action < spec.actions)
            chosen = np.where(inside, kind.action, 0)[:, :, None]
            good = inside & np.take_along_axis(kind.mask, chosen, 2)[:, :, 0]
        if not good.all():
            b, a = np.argwhere(~good)[0]
            begin = where(self.spec.name, int(b), spec.agents[a], int(self._board.steps[b]))
            legal = "within its bounds" if spec.bounds is not None else np.flatnonzero(kind.mask[b, a]).tolist()
            raise IllegalActionError(f"{begin}action {kind.action[b, a].tolist()} is illegal; legal: {legal}")


def foreign_world(
    entry_point: str,
    arguments: Mapping[str, Any] | None = None,
    batch: int = 1,
    workers: int = 0,
    neighbours: Mapping[str, Sequence[str]] | None = None,
    numbered: bool | None = None,
    limit: int | None = None,
) -> ForeignWorld:
    """The world of an environment named by text.

    Args:
        entry_point: `package.module:parallel_env`, or `path/to/file.py:parallel_env`.
        arguments: Keyword arguments of that function.
        batch: Number of copies.
        workers: Processes that share them; 0 steps them here.
        neighbours: See `ForeignWorld`.
        numbered: See `ForeignWorld`.
        limit: See `ForeignWorld`.

    Raises:
        EntryPointError: Nothing of that name, or arguments that it does not take.
        WorldError: See `ForeignWorld`.
    """
    return ForeignWorld(EntryPoint(entry_point, dict(arguments or {})), batch, workers, neighbours, numbered, limit)


def _tokens(kind: KindBoard, batch: int, actions: Array) -> Tokens:
    agents, mask = kind.active.shape[1], torch.from_numpy(kind.mask)
    return Tokens(
        own=torch.from_numpy(kind.own),
        entities=torch.zeros((batch, agents, 0, 0)),
        entity_mask=torch.zeros((batch, agents, 0), dtype=torch.bool),
        actions=torch.from_numpy(actions).expand(batch, agents, *actions.shape).contiguous(),
        action_mask=mask,
        active=torch.from_numpy(kind.active),
        alive=torch.from_numpy(kind.alive),
    )
