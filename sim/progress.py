"""What a user sees while a run goes on: bars on a terminal, one plain line per step elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich import progress as rich_progress
from rich.console import Console


class Progress(Protocol):
    """Where a run reports how far it is."""

    def begin(self, task: str, total: int, done: int = 0) -> None:
        """A task of `total` steps starts, such as `rounds`; the first `done` were done before a resume."""
        ...

    def step(self, task: str, note: str = "") -> None:
        """One step of a task is done; the note says what came of it, such as `wait x0.98`."""
        ...

    def say(self, line: str) -> None:
        """Something worth a line."""
        ...


class PlainProgress:
    """One line per step, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started_s = time.monotonic()
        self._tasks: dict[str, tuple[int, int]] = {}

    def begin(self, task: str, total: int, done: int = 0) -> None:
        """Starts to count a task, and writes `task 0/20`."""
        self._tasks[task] = (done, total)
        self.say(f"{task} {done}/{total}")

    def step(self, task: str, note: str = "") -> None:
        """Writes `task 3/20 note`."""
        done, total = self._tasks[task]
        self._tasks[task] = (done + 1, total)
        self.say(f"{task} {done + 1}/{total} {note}".rstrip())

    def say(self, line: str) -> None:
        """Writes a line with the seconds since the start."""
        self._stream.write(f"[{time.monotonic() - self._started_s:6.1f} s] {line}\n")
        self._stream.flush()


class BarProgress:
    """A bar per task."""

    def __init__(self, bars: rich_progress.Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, rich_progress.TaskID] = {}

    def begin(self, task: str, total: int, done: int = 0) -> None:
        """Shows a bar; one that is full makes room for a new one of the same name."""
        if task in self._tasks:
            self._bars.remove_task(self._tasks[task])
        self._tasks[task] = self._bars.add_task(task, total=total, completed=done, note="")

    def step(self, task: str, note: str = "") -> None:
        """Moves the bar."""
        self._bars.update(self._tasks[task], advance=1, note=note)

    def say(self, line: str) -> None:
        """Writes a line above the bars."""
        self._bars.console.print(line, markup=False, highlight=False)


@contextmanager
def open_progress() -> Iterator[Progress]:
    """Bars where standard error is a terminal, plain lines elsewhere; standard output is left for results."""
    if not sys.stderr.isatty():
        yield PlainProgress(sys.stderr)
        return
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.fields[note]}", markup=False),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as bars:
        yield BarProgress(bars)
