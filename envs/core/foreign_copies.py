"""Copies of a PettingZoo environment, stepped one after another in this process; what happens goes onto a board."""

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pettingzoo

from fedsched.envs.core.foreign_board import Array, Board, KindBoard
from fedsched.envs.core.foreign_layout import ForeignError, check_parallel, name_of
from fedsched.envs.core.foreign_spaces import MASK, KindLayout

MakeEnv = Callable[[], pettingzoo.ParallelEnv]
"""Builds a fresh environment."""


@dataclass(frozen=True)
class Seat:
    """The place of one agent: column `a` of the board of its kind."""

    id: Any
    name: str
    a: int
    layout: KindLayout
    board: KindBoard

    def look(self, b: int, seen: object, info: Mapping[str, Any]) -> None:
        """Writes an observation and its mask; raises ValueError or KeyError where they have another form."""
        codec = self.layout.observation
        self.board.own[b, self.a, : codec.size] = codec.read(seen)
        if self.layout.action.choices:
            mask = info.get(MASK) if codec.mask is None else codec.mask(seen)
            self.board.mask[b, self.a] = True if mask is None else self._legal(mask)

    def _legal(self, mask: object) -> Array:
        array, count = np.asarray(mask).reshape(-1), len(self.layout.action.choices)
        if array.size != count:
            raise ValueError(f"the action mask has {array.size} entries, there are {count} actions")
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"the action mask holds {array[~np.isin(array, (0, 1))][0]}, neither 0 nor 1")
        return array

    def action(self, b: int) -> object:
        """What the environment is told."""
        chosen = self.board.action[b, self.a]
        return self.layout.action.vector(chosen) if chosen.ndim else self.layout.action.choices[chosen]

    def rest(self, b: int) -> None:
        """There is nothing to decide: only the idle action is legal."""
        self.board.active[b, self.a] = False
        self.board.mask[b, self.a] = False
        self.board.mask[b, self.a, :1] = True

    def clear(self, b: int) -> None:
        """Zeros in the place of the observation; the agent's number stays."""
        self.board.own[b, self.a, : self.layout.observation.size] = 0.0


class Copies:
    """Some rows of a batch.

    Args:
        make_env: Builds a fresh environment; all must have the same agents and spaces.
        kinds: Of its agents.
        board: The rows.
        first: Number of the first row in the whole batch, for messages.
        built: Environments that are there already, for the first rows.

    Raises:
        ForeignError: A copy with other agents or spaces than the first.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        kinds: Sequence[KindLayout],
        board: Board,
        first: int = 0,
        built: Sequence[pettingzoo.ParallelEnv] = (),
    ) -> None:
        self._board, self._first = board, first
        rows = len(board.steps)
        self.envs = [*built, *(make_env() for _ in range(rows - len(built)))]
        self._name = name_of(self.envs[0])
        self._seats = {
            agent: Seat(agent, layout.spec.agents[a], a, layout, kind)
            for layout, kind in zip(kinds, board.kinds, strict=True)
            for a, agent in enumerate(layout.ids)
        }
        for b, env in enumerate(self.envs):
            self._check_alike(b, env)
        self._live: list[list[Seat]] = [[] for _ in range(rows)]
        self._gone: list[set[Any]] = [set() for _ in range(rows)]
        self._fading: list[list[Seat]] = [[] for _ in range(rows)]

    def reset(self, rows: Iterable[int], seeds: Iterable[int]) -> None:
        """Starts episodes in rows, counted from the first one here."""
        for b, seed in zip(rows, seeds, strict=True):
            self._reset(b, int(seed))  # environments insist on a plain int

    def step(self, rows: Iterable[int]) -> None:
        """Steps rows, each with the actions on the board; those whose episodes are over must not be among them."""
        for b in rows:
            self._step(b)

    def close(self) -> None:
        """Closes all environments."""
        for env in self.envs:
            with suppress(Exception):  # one that cannot be closed must not keep the others open
                env.close()

    def _check_alike(self, b: int, env: pettingzoo.ParallelEnv) -> None:
        check_parallel(env, self._name)
        first = self.envs[0]
        if set(env.possible_agents) != set(self._seats) or any(
            env.observation_space(agent) != first.observation_space(agent)
            or env.action_space(agent) != first.action_space(agent)
            for agent in self._seats
        ):
            raise ForeignError(f"{self._name}: copy {self._first + b} has other agents or spaces than the first copy")

    def _reset(self, b: int, seed: int) -> None:
        board, env = self._board, self.envs[b]
        board.steps[b], board.over[b], board.truncated[b] = 0, True, False
        for kind in board.kinds:
            kind.reward[b], kind.total[b] = 0.0, 0.0
            kind.alive[b], kind.terminated[b] = True, False
        for seat in self._seats.values():
            seat.clear(b)
            seat.rest(b)
        self._live[b], self._gone[b], self._fading[b] = [], set(), []
        try:
            seen, infos = env.reset(seed=seed)
        except Exception as error:
            raise self._failed(b, "reset") from error
        self._enter(b, seen, infos)
        if not self._live[b]:
            raise self._wrong(b, "", "no agents after the reset; an episode needs at least one")
        board.over[b] = False

    def _step(self, b: int) -> None:
        env, acting = self.envs[b], self._live[b]
        for seat in self._fading[b]:
            seat.clear(b)
        self._fading[b] = []
        actions = {seat.id: seat.action(b) for seat in acting}
        self._board.steps[b] += 1
        try:
            seen, rewards, terminated, truncated, infos = env.step(actions)
        except Exception as error:
            raise self._failed(b, "step") from error
        cut = False
        for seat in acting:
            try:
                gained, ends, stops = rewards[seat.id], terminated[seat.id], truncated[seat.id]
                seat.board.reward[b, seat.a] = gained
            except (KeyError, TypeError, ValueError) as error:
                raise self._wrong(
                    b, seat.name, f"no reward, termination or truncation of its own: {error!r}"
                ) from error
            if not ends or seat.id in seen:
                self._see(b, seat, seen, infos)
            if ends or stops:
                self._end(b, seat, bool(ends))
                cut |= not ends
        if cut or len(env.agents) != len(acting) or self._fading[b]:
            self._change(b, acting, seen, infos)

    def _see(self, b: int, seat: Seat, seen: Mapping[Any, object], infos: Mapping[Any, Mapping[str, Any]]) -> None:
        try:
            seat.look(b, seen[seat.id], infos.get(seat.id, {}))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            missing = isinstance(error, KeyError) and error.args == (seat.id,)
            raise self._wrong(b, seat.name, "got no observation" if missing else str(error)) from error

    def _end(self, b: int, seat: Seat, terminated: bool) -> None:
        """Who has terminated shows its last observation once more, then zeros; who is cut off keeps it until the end.

        So what a learner bootstraps from is there when the episode is over, however much earlier an agent was cut off.
        """
        seat.board.alive[b, seat.a] = False
        seat.board.terminated[b, seat.a] = terminated
        seat.rest(b)
        self._gone[b].add(seat.id)
        if terminated:
            self._fading[b].append(seat)

    def _change(
        self, b: int, acting: Sequence[Seat], seen: Mapping[Any, object], infos: Mapping[Any, Mapping[str, Any]]
    ) -> None:
        """Takes note of who is there now; the episode is over with its last agent."""
        gone, now = self._gone[b], set(self.envs[b].agents)
        for seat in acting:
            if seat.id not in now and seat.id not in gone:
                raise self._wrong(b, seat.name, "left 'agents' without being terminated or truncated")
        self._live[b] = [seat for seat in acting if seat.id not in gone]
        self._enter(b, seen, infos)
        if not self._live[b]:
            self._finish(b, acting)

    def _enter(self, b: int, seen: Mapping[Any, object], infos: Mapping[Any, Mapping[str, Any]]) -> None:
        """Seats the agents that are new."""
        known = {seat.id for seat in self._live[b]}
        for agent in self.envs[b].agents:
            if agent in known:
                continue
            if agent not in self._seats:
                raise self._wrong(b, str(agent), "is not one of 'possible_agents'")
            seat = self._seats[agent]
            if agent in self._gone[b]:
                raise self._wrong(b, seat.name, "has ended, but is in 'agents'; ended agents leave it and never return")
            self._see(b, seat, seen, infos)
            seat.board.active[b, seat.a] = True
            self._live[b].append(seat)

    def _finish(self, b: int, last: Sequence[Seat]) -> None:
        """Those cut off with the world count as living in its last observation; those who never came as terminated."""
        self._board.over[b] = True
        for agent, seat in self._seats.items():
            if agent not in self._gone[b]:
                seat.board.alive[b, seat.a] = False
                seat.board.terminated[b, seat.a] = True
        for seat in last:
            seat.board.alive[b, seat.a] = not seat.board.terminated[b, seat.a]
        self._board.truncated[b] = not all(bool(kind.terminated[b].all()) for kind in self._board.kinds)

    def _wrong(self, b: int, agent: str, message: str) -> ForeignError:
        return ForeignError(where(self._name, self._first + b, agent, int(self._board.steps[b])) + message)

    def _failed(self, b: int, method: str) -> ForeignError:
        return self._wrong(b, "", f"{method} raised:\n{traceback.format_exc().strip()}")


def where(name: str, world: int, agent: str, step: int) -> str:
    """The begin of a message: which environment, world, agent and step."""
    return f"{name}: world {world}, {f'agent {agent}, ' if agent else ''}step {step}: "
