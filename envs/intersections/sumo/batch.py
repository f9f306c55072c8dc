"""Several SUMO simulations side by side, each in a fresh process.

libsumo holds one simulation per process, and what the first leaves behind changes the next one's random numbers.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fedsched.envs.intersections.sumo.film import Film, Stage
from fedsched.envs.intersections.sumo.gatekeeper import GatePlan, Limits
from fedsched.envs.intersections.sumo.outputs import Trips
from fedsched.envs.intersections.sumo.simulation import SumoError, SumoSetup, load_libsumo

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PATIENCE_S = 10.0
"""How long a worker may take to end by itself."""


class SumoWorkerError(SumoError):
    """A worker process reported an error or is gone.

    Attributes:
        row: Which one.
    """

    def __init__(self, row: int, message: str) -> None:
        super().__init__(f"SUMO worker {row}: {message}")
        self.row = row


@dataclass(frozen=True)
class Advance:
    """Passes through stages; answered by the `Film` of them.

    Attributes:
        stages: Which.
        limits: At gates, from now on; None where nothing was ever limited.
    """

    stages: tuple[Stage, ...]
    limits: Limits | None = None


@dataclass(frozen=True)
class Guarding:
    """Begins to count who passes gates; answered by their number."""

    gates: GatePlan


@dataclass(frozen=True)
class Finish:
    """Ends the simulation; answered by its `Trips`."""


Request = Advance | Guarding | Finish


@dataclass(frozen=True)
class Failed:
    """A worker's answer where it could not do what was asked."""

    message: str


def start_worker(folder: str) -> "tuple[Connection[Any, Any], subprocess.Popen[bytes]]":
    """A fresh process that runs `worker` with its temporary files in a folder, and the pipe to it.

    Not a child of `multiprocessing`: that would run the caller's script again in each, with all that it imports.
    """
    ours, theirs = multiprocessing.Pipe()
    path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    command = [sys.executable, "-P", "-m", "fedsched.envs.intersections.sumo.worker", str(theirs.fileno())]
    worker = subprocess.Popen(
        command, pass_fds=[theirs.fileno()], env=os.environ | {"PYTHONPATH": path, "TMPDIR": folder}
    )
    theirs.close()  # so that a dead worker is seen as the end of its pipe
    return ours, worker


class SumoBatch:
    """Rows of SUMO simulations that run at the same time. Use as a context manager, or call `close`.

    A running row takes a process and about 130 MB. A row whose worker failed must be started again.

    Raises:
        SumoError: SUMO is missing.
    """

    def __init__(self) -> None:
        load_libsumo()
        self._folder = tempfile.TemporaryDirectory(prefix="fedsched-sumo-")
        self._pipes: dict[int, Connection[Any, Any]] = {}
        self._workers: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, setups: Mapping[int, SumoSetup]) -> None:
        """Starts rows, each in a fresh process; what ran there before is dropped."""
        self._end(setups)
        for row in setups:
            self._pipes[row], self._workers[row] = start_worker(self._folder.name)
        self._ask(setups)

    def guard(self, gates: Mapping[int, GatePlan]) -> None:
        """Has rows that were just started count who passes gates, so that limits can be kept."""
        self._ask({row: Guarding(own) for row, own in gates.items()})

    def advance(
        self, stages: Mapping[int, Sequence[Stage]], limits: Mapping[int, Limits] | None = None
    ) -> dict[int, Film]:
        """Lets rows pass through stages of their own, all at the same time; `limits` hold at their gates."""
        known = limits or {}
        return self._ask({row: Advance(tuple(own), known.get(row)) for row, own in stages.items()})

    def finish(self, rows: Sequence[int]) -> dict[int, Trips]:
        """Ends rows and their processes; every vehicle that was inserted."""
        found: dict[int, Trips] = self._ask(dict.fromkeys(rows, Finish()))
        self._end(rows)
        return found

    def _ask(self, requests: Mapping[int, SumoSetup | Request]) -> dict[int, Any]:
        """Sends all, then waits for all, so that the rows work at the same time."""
        unknown = sorted(set(requests) - set(self._workers))
        if unknown:
            raise SumoError(f"rows {unknown} have not been started")
        return self._collect(list(requests), [row for row, request in requests.items() if not self._send(row, request)])

    def _collect(self, rows: Sequence[int], gone: Sequence[int]) -> dict[int, Any]:
        """All answers; then the first failure is raised."""
        answers = {row: None if row in gone else self._receive(row) for row in rows}
        for row, answer in answers.items():
            if answer is None:
                raise self._dead(row)
            if isinstance(answer, Failed):
                raise SumoWorkerError(row, answer.message)
        return answers

    def _send(self, row: int, request: SumoSetup | Request) -> bool:
        """Whether the worker is there to hear it."""
        try:
            self._pipes[row].send(request)
        except OSError:
            return False
        return True

    def _receive(self, row: int) -> object:
        """The worker's answer, None where it is gone."""
        try:
            return self._pipes[row].recv()
        except (EOFError, OSError):
            return None

    def _dead(self, row: int) -> SumoWorkerError:
        return SumoWorkerError(row, f"its process is gone, exit code {self._workers[row].wait(PATIENCE_S)}")

    def _end(self, rows: Iterable[int]) -> None:
        """Ends workers; those that do not end by themselves are killed."""
        ending = [(self._pipes.pop(row), self._workers.pop(row)) for row in list(rows) if row in self._workers]
        for pipe, _ in ending:
            pipe.close()
        for _, worker in ending:
            try:
                worker.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def drop(self) -> None:
        """Ends all workers; rows can be started again."""
        self._end(list(self._workers))

    def close(self) -> None:
        """Ends all workers and removes what they have left, killed ones too."""
        self.drop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
