"""The run folder: where it is, and how a run is read back from it."""

import json
import os
import re
import secrets
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedsched.sim.checkpoint import Checkpoint, newest_checkpoint
from fedsched.sim.errors import UserError
from fedsched.sim.scenario import Scenario

if TYPE_CHECKING:
    import pyarrow as pa

RUNS = Path("runs")
"""Where run folders are made, below the current folder."""
STALE_S = 60.0
"""A running run whose heartbeat is older than this has crashed."""

Status = Literal["running", "done", "failed", "interrupted", "crashed"]


class RunFolderError(UserError):
    """A run folder that cannot be made, read or continued."""


def make_folder(scenario: Scenario, path: Path | None = None) -> Path:
    """Makes a new run folder.

    Args:
        scenario: The scenario that will run.
        path: The folder; by default one below `runs/` named by time, scenario, seed and four random digits.

    Raises:
        RunFolderError: It exists already, or cannot be made.
    """
    if path is None:
        path = RUNS / folder_name(scenario)
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        raise RunFolderError(f"{path}: exists already; choose another --out, or continue it with --resume") from error
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be made: {error.strerror}; choose another --out") from error
    return path


def new_id() -> str:
    """A name that no other run has."""
    return secrets.token_hex(8)


def folder_name(scenario: Scenario, values: str = "") -> str:
    """`<utc>-<scenario>-s<seed>-<4 hex>`; the values of a grid, if there are some, follow the scenario's name."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    parts = [now, scenario.name, *([values] if values else []), f"s{scenario.seed}", secrets.token_hex(2)]
    return "-".join(parts)


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it.

    Attributes:
        folder: The run folder.
        scenario: The scenario with all its defaults.
        status: `crashed` where it claims to be running but its heart has stopped.
        reason: Why it ended; empty while it runs.
        record: Everything in run.json.
        events: The lines of events.jsonl, in order.
    """

    folder: Path
    scenario: Scenario
    status: Status
    reason: str
    record: dict[str, Any]
    events: list[dict[str, Any]] = field(repr=False)

    def metrics(self) -> "pa.Table":
        """Columns time, site, agent, name, value."""
        from fedsched.sim.parts import METRICS, read_parts

        return read_parts(self.folder / "metrics", METRICS)

    def frames(self) -> "pa.Table":
        """Replays: columns time, site, row, kind, data, in the order in which they were recorded."""
        from fedsched.sim.parts import FRAMES, read_parts

        return read_parts(self.folder / "frames", FRAMES)

    def plans(self) -> dict[tuple[int, int], dict[str, Any]]:
        """Settled plans by row and epoch."""
        found = {}
        for path in sorted((self.folder / "plans").glob("*/epoch-*.json")):
            found[int(path.parent.name), int(path.stem.removeprefix("epoch-"))] = json.loads(path.read_bytes())
        return found

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that was written whole."""
        return newest_checkpoint(self.folder)


def read_run(folder: Path) -> Run:
    """Reads a run folder, at any time and after any end.

    Raises:
        RunFolderError: It is none, or was written by another version.
    """
    try:
        record = json.loads((folder / "run.json").read_bytes())
    except OSError as error:
        raise RunFolderError(f"{folder}: not a run folder, it has no run.json that can be read") from error
    except ValueError as error:
        raise RunFolderError(f"{folder}/run.json: not valid JSON: {error}") from error
    if not isinstance(record, dict) or not {"scenario", "status", "reason", "host", "pid"} <= record.keys():
        raise RunFolderError(f"{folder}/run.json: is not what a run writes; give the folder of a run")
    try:
        scenario = Scenario.model_validate(record["scenario"])
    except ValueError as error:
        wrote = record.get("versions", {}).get("fedsched")
        raise RunFolderError(
            f"{folder}/run.json: written by fedsched {wrote}, this one cannot read it: {error}"
        ) from error
    status: Status = record["status"]
    if status == "running" and not _alive(record):
        status = "crashed"
    return Run(folder, scenario, status, record["reason"], record, _read_events(folder / "events.jsonl"))


def _alive(record: dict[str, Any]) -> bool:
    """Whether the process that claims to run still does."""
    if record["host"] == socket.gethostname() and not _process_exists(record["pid"]):
        return False
    return time.time() - float(record["heartbeat"]) < STALE_S


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read_events(path: Path) -> list[dict[str, Any]]:
    lines = re.findall(rb"[^\n]+\n", path.read_bytes()) if path.exists() else []  # a line cut off by a kill has no end
    return [json.loads(line) for line in lines]
