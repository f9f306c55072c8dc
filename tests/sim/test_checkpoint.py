"""Checkpoints: whole or not at all wherever a run is killed, and the sites' own states apart."""

import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsched.sim.checkpoint import Checkpoint, CheckpointError, newest_checkpoint, write_checkpoint
from fedsched.sim.encoding import EncodingError, encode
from fedsched.sim.evaluate import evaluate_run
from fedsched.sim.folder import make_folder, read_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.record import Recorder
from fedsched.sim.run import run
from fedsched.sim.scenario import Scenario

SITES = ("north", "east")


class Kill(BaseException):
    """The process is gone; what it would have done next never happens."""


class Killer:
    """Lets so many calls that name, rename or remove files below checkpoints/ pass, then none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self._left, self.calls = left, 0
        for module, name in ((os, "replace"), (os, "mkdir"), (shutil, "rmtree")):
            monkeypatch.setattr(module, name, self._guarded(getattr(module, name)))

    def _guarded(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if "checkpoints" in str(path) or self.calls >= self._left:
                self.calls += 1
                if self.calls > self._left:
                    raise Kill
            return real(path, *arguments, **options)

        return call


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


def write(folder: Path, k: int) -> None:
    sites = {site: {"round": k, "moments": np.full(3, k)} for site in SITES}
    write_checkpoint(folder, k, {"round": k}, sites, events_bytes=10 * k, metrics_parts=k, frames_parts=2 * k)


def told(checkpoint: Checkpoint | None) -> int:
    """Its round, which all of its parts must tell."""
    assert checkpoint is not None
    k = checkpoint.round
    assert checkpoint.shared() == {"round": k}
    assert [state["moments"].tolist() for state in checkpoint.site_states().values()] == [[k] * 3] * 2
    assert (checkpoint.events_bytes, checkpoint.metrics_parts, checkpoint.frames_parts) == (10 * k, k, 2 * k)
    return k


def calls_of_a_checkpoint(folder: Path, patch: pytest.MonkeyPatch) -> int:
    for k in range(3):
        write(folder, k)
    killer = Killer(patch, 1000)
    write(folder, 3)
    patch.undo()
    return killer.calls


def test_a_kill_between_any_two_writes_leaves_the_checkpoint_before_or_this_one(
    tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    count = calls_of_a_checkpoint(tmp_path / "counted", patch)
    assert count >= 7  # two folders, three states, the pointer, and an old one to remove
    found = []
    for left in range(count):
        folder = tmp_path / str(left)
        for k in range(3):
            write(folder, k)
        Killer(patch, left)
        with pytest.raises(Kill):
            write(folder, 3)
        patch.undo()
        found.append(told(newest_checkpoint(folder)))
        write(folder, 4)
        write(folder, 5)
        assert told(newest_checkpoint(folder)) == 5
        # nothing is left of the broken one
        assert len([path for path in (folder / "checkpoints").iterdir() if path.is_dir()]) == 2
    assert found == [2] * (count - 1) + [3]


def test_the_newest_checkpoint_and_the_one_before_are_kept(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for k in (1, 2, 10):
        write(tmp_path, k)
    names = sorted(str(path.relative_to(tmp_path / "checkpoints")) for path in tmp_path.rglob("*") if path.is_file())
    states = ("shared.msgpack", "sites/east.msgpack", "sites/north.msgpack")
    assert names == [f"{n}/{name}" for n in ("000002", "000003") for name in states] + ["newest.json"]
    assert told(newest_checkpoint(tmp_path)) == 10


def killed_run(scenario: Scenario, folder: Path, left: int, patch: pytest.MonkeyPatch) -> None:
    """A run that ends in the middle of a checkpoint, without a word in its record."""
    Killer(patch, left)
    with pytest.raises(Kill):
        run(scenario, folder, None, PlainProgress(io.StringIO()))
    patch.undo()
    logging.getLogger("fedsched").handlers.clear()
    record = json.loads((folder / "run.json").read_bytes())
    assert record["status"] == "running"
    (folder / "run.json").write_text(json.dumps(record | {"host": "elsewhere", "heartbeat": 0.0}))


@pytest.mark.parametrize("left", [17, 20, 24, 26])
def test_a_run_killed_in_a_checkpoint_goes_on_to_equal_numbers(
    left: int, tiny: Callable[..., Scenario], tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    scenario = tiny(plan=None, evaluation={"windows": 1})
    whole = run(scenario, tmp_path / "whole", None, PlainProgress(io.StringIO()))
    killed_run(scenario, tmp_path / "killed", left, patch)
    again = run(scenario, None, tmp_path / "killed", PlainProgress(io.StringIO()))
    one, other = read_run(whole), read_run(again)
    kinds = ("validation", "round", "operated")
    assert [known(event) for event in one.events if event["kind"] in kinds] == [
        known(event) for event in other.events if event["kind"] in kinds
    ]
    assert one.metrics().to_pylist() == other.metrics().to_pylist()
    states = [run.checkpoint() for run in (one, other)]
    shared, sites = ([encode(part(state)) for state in states if state] for part in (shared_of, sites_of))
    assert shared[0] == shared[1]
    assert sites[0] == sites[1]


def known(event: dict[str, Any]) -> dict[str, Any]:
    """Without the clock, and the bytes of messages, which hold random keys."""
    return {name: value for name, value in event.items() if name not in ("at", "bytes_up", "bytes_down")}


def shared_of(checkpoint: Checkpoint) -> dict[str, Any]:
    return checkpoint.shared()


def sites_of(checkpoint: Checkpoint) -> dict[str, Any]:
    return checkpoint.site_states()


# Handed on without sites/


def test_without_the_sites_own_states_a_run_can_be_evaluated_but_not_continued(
    finished: Path, tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    folder = tmp_path / "handed-on"
    shutil.copytree(finished, folder)
    for place in (folder / "checkpoints").glob("*/sites"):
        shutil.rmtree(place)
    assert evaluate_run(folder, tiny("south", evaluation={"windows": 1}), PlainProgress(io.StringIO()))
    record = json.loads((folder / "run.json").read_bytes())
    (folder / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    before = sorted(folder.rglob("*"))
    lacking = r"sites: lacks north\.msgpack, east\.msgpack, south\.msgpack, west\.msgpack; .* put them back"
    with pytest.raises(CheckpointError, match=lacking):
        run(tiny(), None, folder, PlainProgress(io.StringIO()))
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("learning", ["federated", "central", "local"])
def test_what_is_shared_holds_nothing_of_a_single_sites_learner(
    learning: str, tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    scenario = tiny(learning=learning, plan=None, federation={"rounds": 1}, evaluation={"windows": 1})
    checkpoint = read_run(run(scenario, tmp_path / "run", None, PlainProgress(io.StringIO()))).checkpoint()
    assert checkpoint is not None
    shared, sites = checkpoint.shared(), checkpoint.site_states()
    assert set(shared) == {"learning", "selection"}
    assert set(shared["selection"]["parameters"]) == set(scenario.sites)
    if learning == "central":
        assert sites == {}
        return
    assert set(sites) == set(scenario.sites)
    assert all("adam" in state["learner"] for state in sites.values())
    assert set(shared["learning"]) == ({"parameters"} if learning == "federated" else set())


def test_a_checkpoint_that_is_gone_or_damaged_is_refused(tmp_path: Path, tiny: Callable[..., Scenario]) -> None:
    folder = make_folder(tiny(), tmp_path / "run")
    with Recorder(folder, tiny()) as recorder:
        recorder.checkpoint(1, {"a": 1}, {"north": {}})
    checkpoint = newest_checkpoint(folder)
    assert checkpoint is not None
    (checkpoint.path / "sites" / "north.msgpack").write_bytes(b"x")
    with pytest.raises(EncodingError, match="not a state of a run"):
        checkpoint.site_states()
    (checkpoint.path / "shared.msgpack").unlink()
    with pytest.raises(CheckpointError, match=r"shared\.msgpack: cannot be read"):
        checkpoint.shared()
