"""Copies of a foreign environment in worker processes, each with its share of the rows, over one shared board."""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedsched.envs.core.foreign_board import Array, Board, board_bytes, lay_board
from fedsched.envs.core.foreign_copies import MakeEnv
from fedsched.envs.core.foreign_layout import ForeignError
from fedsched.envs.core.world import KindSpec

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PATIENCE_S = 10.0
"""How long a worker may take to end by itself."""


@dataclass(frozen=True)
class Share:
    """What a worker is told first.

    Attributes:
        make_env: Builds a fresh environment.
        numbered: See `kinds_of`.
        batch: Rows of the board.
        first: The worker's first row.
        last: One past its last row.
    """

    make_env: MakeEnv
    numbered: bool | None
    batch: int
    first: int
    last: int


@dataclass(frozen=True)
class Order:
    """What a worker is to do with some of its rows, counted from its first one."""

    do: Literal["reset", "step"]
    rows: tuple[int, ...]
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A worker's answer where it could not do what was asked; None where it could."""

    message: str


class CopyPool:
    """Rows in processes of their own. Call `close` in the end.

    Workers are fresh interpreters, not forks: threads of this process (torch has some) do not survive a fork. They end
    when this process ends, however it does, since their pipe ends then.

    Args:
        make_env: Builds a fresh environment; must be picklable, such as `EntryPoint` or a function of a module.
        numbered: See `kinds_of`.
        kinds: Of its agents.
        batch: Number of rows.
        workers: Number of processes.

    Raises:
        ForeignError: A function that cannot be sent to another process, or an environment that cannot be built there.
    """

    def __init__(
        self, make_env: MakeEnv, numbered: bool | None, kinds: Sequence[KindSpec], batch: int, workers: int
    ) -> None:
        self._bounds = [round(k * batch / workers) for k in range(workers + 1)]
        self._pipes: list[Connection[Any, Any]] = []
        self._workers: list[subprocess.Popen[bytes]] = []
        with tempfile.TemporaryFile() as file:  # the memory lives as long as some process maps it
            file.truncate(board_bytes(kinds, batch))
            self.board: Board = lay_board(kinds, batch, mmap(file.fileno(), 0))
            try:
                for first, last in zip(self._bounds, self._bounds[1:], strict=False):
                    self._start(Share(make_env, numbered, batch, first, last), file.fileno())
                self._collect(range(workers))
            except BaseException:
                self.close()
                raise

    def reset(self, rows: Array, seeds: Array) -> None:
        """Starts episodes in rows, int64 [n], with their seeds, int64 [n]."""
        self._order("reset", rows, seeds)

    def step(self, rows: Array) -> None:
        """Steps rows, int64 [n]."""
        self._order("step", rows, None)

    def close(self) -> None:
        """Ends all workers; those that do not end by themselves are killed."""
        for pipe in self._pipes:
            pipe.close()
        for worker in self._workers:
            _ended(worker)
        self._pipes, self._workers = [], []

    def _start(self, share: Share, file: int) -> None:
        ours, theirs = Pipe()
        path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
        ends = (theirs.fileno(), file)
        command = [sys.executable, "-P", "-m", "fedsched.envs.core.foreign_worker", *map(str, ends)]
        self._workers.append(subprocess.Popen(command, pass_fds=ends, env=os.environ | {"PYTHONPATH": path}))
        self._pipes.append(ours)
        theirs.close()  # so that a dead worker is seen as the end of its pipe
        try:
            ours.send(share)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            remedy = "use 'foreign_world' with an entry point"
            raise ForeignError(f"{share.make_env!r} cannot be sent to a worker: {error}; {remedy}") from error

    def _order(self, do: Literal["reset", "step"], rows: Array, seeds: Array | None) -> None:
        """Asks all workers that have some of the rows, then waits for all, so that they work at the same time."""
        if not self._workers:
            raise ForeignError("the worker processes have been closed")
        cuts = np.searchsorted(rows, self._bounds)
        asked = [k for k in range(len(self._workers)) if cuts[k] < cuts[k + 1]]
        try:
            for k in asked:
                part = slice(cuts[k], cuts[k + 1])
                own = () if seeds is None else tuple(seeds[part].tolist())
                with suppress(OSError):  # who is gone is found when its answer is waited for
                    self._pipes[k].send(Order(do, tuple((rows[part] - self._bounds[k]).tolist()), own))
            self._collect(asked)
        except KeyboardInterrupt:  # answers that are still to come would be taken for those to later orders
            self.close()
            raise

    def _collect(self, asked: Sequence[int]) -> None:
        """Hears all; then the first failure is raised."""
        answers = [self._receive(k) for k in asked]
        for answer in answers:
            if answer is not None:
                raise answer

    def _receive(self, k: int) -> ForeignError | None:
        try:
            answer = self._pipes[k].recv()
        except (EOFError, OSError):
            return self._dead(k)
        return ForeignError(answer.message) if isinstance(answer, Failed) else None

    def _dead(self, k: int) -> ForeignError:
        code = _ended(self._workers[k])
        first, last = self._bounds[k], self._bounds[k + 1] - 1
        rows = f"world {first}" if first == last else f"worlds {first} to {last}"
        return ForeignError(f"worker {k} ({rows}): its process is gone, exit code {code}")


def _ended(worker: "subprocess.Popen[bytes]") -> int:
    """The exit code of a worker; one that does not end by itself is killed."""
    try:
        return worker.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        return worker.wait()
