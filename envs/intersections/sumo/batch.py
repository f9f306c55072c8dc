"""Several SUMO simulations side by side, each in a fresh process.

libsumo holds one simulation per process, and what the first leaves behind changes the next one's random numbers.
"""

import multiprocessing
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from fedsched.envs.intersections.sumo.outputs import Outcome
from fedsched.envs.intersections.sumo.simulation import (
    OnRoad,
    SignalPlan,
    SumoError,
    SumoSetup,
    SumoSimulation,
    load_libsumo,
)

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

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


Stage = tuple[Mapping[int, str], int]
"""States to set, by signal, and the seconds they are then left alone: a decision is yellow, then the new green."""


@dataclass(frozen=True)
class Advance:
    """Passes through stages; answered by the `Moment` after the last."""

    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Ask:
    """A question that changes nothing: `plans` for a tuple of `SignalPlan`."""

    about: Literal["plans"]


@dataclass(frozen=True)
class Finish:
    """Ends the simulation; answered by its `Outcome`."""

    departs_s: npt.NDArray[np.float64]


Request = Advance | Ask | Finish


@dataclass(frozen=True)
class Moment:
    """A simulation at a decision.

    Attributes:
        time_s: On the clock of the files.
        on_road: Everyone on the road.
        states: What each signal shows.
        pending: Vehicles whose departure is due and who found no room yet.
    """

    time_s: int
    on_road: OnRoad
    states: tuple[str, ...]
    pending: int


@dataclass(frozen=True)
class _Failed:
    message: str


def moment(simulation: SumoSimulation) -> Moment:
    """What a simulation shows now."""
    return Moment(simulation.time_s, simulation.on_road(), simulation.states(), len(simulation.pending()))


def serve(pipe: "Connection[Any, Any]", setup: SumoSetup) -> None:
    """A worker's life: starts a simulation and answers requests until its pipe is closed."""
    try:
        with SumoSimulation(setup) as simulation:
            pipe.send(moment(simulation))
            while True:
                pipe.send(_answer(simulation, pipe.recv()))
    except EOFError:
        return
    except SumoError as error:
        pipe.send(_Failed(str(error)))
    except Exception:  # the parent raises it: a worker must not die in silence
        pipe.send(_Failed(traceback.format_exc()))


def _answer(simulation: SumoSimulation, request: Request) -> Moment | tuple[SignalPlan, ...] | Outcome:
    match request:
        case Advance(stages):
            for states, seconds in stages:
                simulation.set_states(states)
                simulation.step(seconds)
            return moment(simulation)
        case Ask():
            return simulation.plans()
        case Finish(departs_s):
            return simulation.outcome(departs_s)
        case _:
            raise SumoError(f"unknown request {request!r}")


class SumoBatch:
    """Rows of SUMO simulations that run at the same time. Use as a context manager, or call `close`.

    A running row takes a process and about 130 MB. A row whose worker failed must be started again.

    Raises:
        SumoError: SUMO is missing.
    """

    def __init__(self) -> None:
        load_libsumo()
        self._context = multiprocessing.get_context("spawn")
        self._pipes: dict[int, Connection[Any, Any]] = {}
        self._workers: dict[int, BaseProcess] = {}

    def start(self, setups: Mapping[int, SumoSetup]) -> dict[int, Moment]:
        """Starts rows, each in a fresh process; what ran there before is dropped."""
        self._end(setups)
        for row, setup in setups.items():
            self._pipes[row], theirs = self._context.Pipe()
            self._workers[row] = self._context.Process(target=serve, args=(theirs, setup), daemon=True)
            self._workers[row].start()
            theirs.close()  # so that a dead worker is seen as the end of its pipe
        return self._collect(list(setups), [])

    def advance(self, stages: Mapping[int, Sequence[Stage]]) -> dict[int, Moment]:
        """Lets rows pass through stages of their own; what they show after the last."""
        return self._ask({row: Advance(tuple(own)) for row, own in stages.items()})

    def plans(self, row: int) -> tuple[SignalPlan, ...]:
        """Programs and movements of a row's signals."""
        found: tuple[SignalPlan, ...] = self._ask({row: Ask("plans")})[row]
        return found

    def finish(self, departs_s: Mapping[int, npt.NDArray[np.float64]]) -> dict[int, Outcome]:
        """Ends rows; their runs in numbers, given when each vehicle of their demand was to depart."""
        return self._ask({row: Finish(times) for row, times in departs_s.items()})

    def _ask(self, requests: Mapping[int, Request]) -> dict[int, Any]:
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
            if isinstance(answer, _Failed):
                raise SumoWorkerError(row, answer.message)
        return answers

    def _send(self, row: int, request: Request) -> bool:
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
        self._workers[row].join(PATIENCE_S)
        return SumoWorkerError(row, f"its process is gone, exit code {self._workers[row].exitcode}")

    def _end(self, rows: Iterable[int]) -> None:
        """Ends workers; those that do not end by themselves are killed."""
        ending = [(self._pipes.pop(row), self._workers.pop(row)) for row in list(rows) if row in self._workers]
        for pipe, _ in ending:
            pipe.close()
        for _, worker in ending:
            worker.join(PATIENCE_S)
            if worker.is_alive():
                worker.kill()
                worker.join()

    def close(self) -> None:
        """Ends all workers."""
        self._end(list(self._workers))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
