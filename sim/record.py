"""The recorder: the one writer of a run folder."""

import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import msgspec

from fedsched.sim.checkpoint import write_checkpoint
from fedsched.sim.files import plain, write_json
from fedsched.sim.folder import RunFolderError, new_id, read_run
from fedsched.sim.parts import FRAME_ROWS, FRAMES, METRICS, PartWriter, list_parts
from fedsched.sim.provenance import git_state, versions
from fedsched.sim.scenario import Scenario, resolved

BEAT_S = 10.0
"""Seconds between two heartbeats."""

log = logging.getLogger("fedsched")


class Metric(NamedTuple):
    """One number.

    Attributes:
        time: Round of learning, or row of the operated batch; the name says which: `train/...` and `validation/...`
            count rounds, `operate/...` rows.
        site: Name of the site; empty where all are meant.
        agent: Name of the agent, or who drives the operated site; empty where the site is meant.
        name: What was measured.
        value: How much.
    """

    time: float
    site: str
    agent: str
    name: str
    value: float


class Moment(NamedTuple):
    """One moment of a replay, or what all moments of a replay share.

    Attributes:
        time: Seconds since the start of the episode.
        site: Name of the site.
        row: Row of the operated batch.
        kind: What `data` is; the domain says how it is read. Such as `picture` and `frame` of streets.
        data: In the domain's own form.
    """

    time: float
    site: str
    row: int
    kind: str
    data: bytes


class Recorder:
    """Writes a run folder; a context manager that notes how the run ended.

    Args:
        folder: A new folder (`make_folder`), or one that is to be continued.
        scenario: What runs.
        resume: Continue a run: what was recorded after its newest checkpoint is cut off, as it will be made again.

    Attributes:
        folder: The run folder.
        id: Of the run, the same after a resume.

    Raises:
        RunFolderError: Nothing to continue, or the run is still running.
    """

    def __init__(self, folder: Path, scenario: Scenario, resume: bool = False) -> None:
        self.folder = folder
        before = _rewind(folder) if resume else {}
        self.id: str = before.get("id") or new_id()
        self._lock = threading.RLock()
        self._record: dict[str, Any] = {
            "id": self.id,
            "scenario": resolved(scenario),
            "versions": versions(),
            "git": git_state(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": float(before.get("started", time.time())),
            "status": "running",
            "reason": "",
        }
        self.heartbeat()
        self._events = (folder / "events.jsonl").open("ab")
        self._metrics = PartWriter(folder / "metrics", METRICS)
        self._frames = PartWriter(folder / "frames", FRAMES, FRAME_ROWS)
        self._log = logging.FileHandler(folder / "log.txt", encoding="utf-8")
        self._log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        log.addHandler(self._log)
        self._ended = threading.Event()
        self._beat = threading.Thread(target=self._keep_beating, name="fedsched-heartbeat", daemon=True)
        self._beat.start()

    def event(self, kind: str, **fields: object) -> None:
        """One line of events.jsonl: a round, an episode, an epoch, a settlement, a fault."""
        line = msgspec.json.encode({"at": time.time(), "kind": kind, **fields}, enc_hook=plain) + b"\n"
        with self._lock:
            self._events.write(line)
            self._events.flush()

    def metrics(self, rows: Sequence[Metric]) -> None:
        """Many numbers at once."""
        with self._lock:
            self._metrics.add(rows)

    def frames(self, moments: Sequence[Moment]) -> None:
        """Moments of replays, in order of time within a row."""
        with self._lock:
            self._frames.add(moments)

    def plan(self, row: int, epoch: int, plan: Mapping[str, object]) -> None:
        """Bids, plan and certificate of one epoch of one row."""
        folder = self.folder / "plans" / str(row)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"epoch-{epoch:04d}.json", plan)

    def checkpoint(self, round: int, shared: Mapping[str, Any], sites: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes what the run needs to go on: a kill at any time leaves this checkpoint or the one before.

        Args:
            round: Rounds done; -1 before the search for a start.
            shared: State that all sites share; plain data, arrays and tensors.
            sites: Each site's own state, by name.
        """
        with self._lock:
            self._metrics.close_part()
            self._frames.close_part()
            os.fsync(self._events.fileno())
            parts = {"metrics_parts": self._metrics.parts, "frames_parts": self._frames.parts}
            write_checkpoint(self.folder, round, shared, sites, events_bytes=self._events.tell(), **parts)

    def heartbeat(self) -> None:
        """Says that the run is alive."""
        with self._lock:
            self._record["heartbeat"] = time.time()
            write_json(self.folder / "run.json", self._record)

    def close(self, status: Literal["done", "failed", "interrupted"], reason: str = "") -> None:
        """Ends the record; the first call counts.

        Args:
            status: How the run ended.
            reason: Why.
        """
        if self._ended.is_set():
            return
        self._ended.set()
        self._beat.join()
        self._metrics.close_part()
        self._frames.close_part()
        self._events.close()
        log.removeHandler(self._log)
        self._log.close()
        self._record |= {"status": status, "reason": reason, "ended": time.time()}
        self.heartbeat()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close("done")
        elif isinstance(error, KeyboardInterrupt | SystemExit):
            # Ray turns SIGTERM into the latter
            reason = str(error) if isinstance(error, KeyboardInterrupt) else ""
            self.close("interrupted", reason or "stopped by the user")
        else:
            log.error("the run failed\n%s", "".join(traceback.format_exception(kind, error, trace)))
            self.close("failed", f"{type(error).__name__}: {error}")

    def _keep_beating(self) -> None:
        while not self._ended.wait(BEAT_S):
            self.heartbeat()
            with self._lock:
                self._metrics.close_due()
                self._frames.close_due()


def _rewind(folder: Path) -> dict[str, Any]:
    """Cuts off what was recorded after the newest checkpoint; returns what run.json says."""
    run = read_run(folder)
    if run.status == "running":
        raise RunFolderError(
            f"{folder}: is still running, as process {run.record['pid']} on {run.record['host']}; stop it first"
        )
    if run.status == "done":
        raise RunFolderError(f"{folder}: is done, there is nothing to continue; start a new run with more rounds")
    newest = run.checkpoint()
    if newest is None:
        raise RunFolderError(f"{folder}: has no checkpoint to continue from; start a new run of its scenario")
    os.truncate(folder / "events.jsonl", newest.events_bytes)
    for name, parts in (("metrics", newest.metrics_parts), ("frames", newest.frames_parts)):
        for part in list_parts(folder / name)[parts:]:
            part.unlink()
    return run.record
