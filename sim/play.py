"""Runs one after another, as the commands start them: their folders, and what they print."""

from collections.abc import Sequence
from pathlib import Path

import typer

from fedsched.sim.checkpoint import newest_checkpoint
from fedsched.sim.errors import UserError, WorldSetupError
from fedsched.sim.folder import RUNS, Run, RunFolderError, folder_name, read_run
from fedsched.sim.progress import open_progress
from fedsched.sim.scenario import Point, Scenario, locate
from fedsched.sim.summary import in_one_line, several, summary


def play(points: Sequence[Point], out: Path | None, source: str, changes: Sequence[str] = ()) -> None:
    """Makes all runs, and prints what came of them: a table of a single one, a line and a common table of several.

    Args:
        points: What runs.
        out: The folder of a single run, or where the folders of several go; by default `runs/`.
        source: The file or shipped scenario that all come from, for messages.
        changes: Values that were set in it, likewise.

    Raises:
        UserError: `out` exists already, or a scenario that cannot run.
    """
    folders = _folders(points, out)
    if len(points) == 1:
        _print(summary(_start(points[0], folders[0], source, changes)))
        return
    done = {}
    for number, (point, folder) in enumerate(zip(points, folders, strict=True), 1):
        typer.echo(f"run {number}/{len(points)}: {point.label}", err=True)
        done[point.label] = _start(point, folder, source, changes)
        _print([f"{point.label}: {in_one_line(done[point.label])}"])
    _print(["", *several(done)])


def go_on(folder: Path) -> None:
    """Continues a run and prints what came of it."""
    _print(summary(_run(read_run(folder).scenario, folder, resume=True)))


def _folders(points: Sequence[Point], out: Path | None) -> list[Path]:
    """A folder for each run: `out` for a single one, else one in `out` or in runs/ each."""
    if out is not None and out.is_file():
        raise RunFolderError(f"{out}: is a file; choose another --out")
    if out is not None and out.exists():
        raise RunFolderError(f"{out}: exists already; choose another --out{_or_continue(out)}")
    if out is not None and len(points) == 1:
        return [out]
    return [(out or RUNS) / folder_name(point.scenario, point.short_name) for point in points]


def _or_continue(folder: Path) -> str:
    return f", or continue the run with --resume {folder}" if (folder / "run.json").is_file() else ""


def _start(point: Point, folder: Path, source: str, changes: Sequence[str]) -> Run:
    try:
        return _run(point.scenario, folder)
    except WorldSetupError as error:
        raise locate(source, changes, error.found, point.values) from error


def _run(scenario: Scenario, folder: Path, resume: bool = False) -> Run:
    from fedsched.sim.run import run

    place = {"folder": None, "resume": folder} if resume else {"folder": folder, "resume": None}
    try:
        with open_progress() as progress:
            done = run(scenario=scenario, progress=progress, **place)
    except (Exception, KeyboardInterrupt) as error:
        _point_to(folder, error)
        raise
    return read_run(done)


def _point_to(folder: Path, error: BaseException) -> None:
    """Adds to an error where to read on and how to go on."""
    if isinstance(error, UserError) or not folder.exists():
        return
    if not isinstance(error, KeyboardInterrupt):
        error.add_note(f"{folder}/log.txt says more")
    if newest_checkpoint(folder) is not None:
        error.add_note(f"continue with: fedsched run --resume {folder}")


def _print(lines: Sequence[str]) -> None:
    typer.echo("\n".join(lines))
