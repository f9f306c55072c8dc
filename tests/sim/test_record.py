"""The run folder: what survives a kill at any time, how it is read, and how a run goes on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fedsched.sim import parts, record
from fedsched.sim.folder import RunFolderError, folder_name, make_folder, read_run
from fedsched.sim.record import Metric, Moment, Recorder
from fedsched.sim.scenario import Scenario, load_scenario


@pytest.fixture
def scenario() -> Scenario:
    return load_scenario("datacenter_protocol")


def row(k: int) -> Metric:
    return Metric(float(k), "north", f"cluster_{k % 2}", "train/loss", k / 7)


def test_a_run_reads_back_as_it_was_recorded(tmp_path: Path, scenario: Scenario) -> None:
    folder = make_folder(scenario, tmp_path / "run")
    with Recorder(folder, scenario) as recorder:
        recorder.event("round", round=1, loss=np.float32(0.5), sites=np.arange(2))
        recorder.metrics([row(k) for k in range(5)])
        recorder.metrics([Metric(1.0, "north", "", "train/reward", -2.5)])
        recorder.plan(2, 7, {"bids": [1, 2], "certificate": "abc"})
        assert read_run(folder).status == "running"
    run = read_run(folder)
    assert (run.status, run.reason, run.scenario) == ("done", "", scenario)
    assert [(e["kind"], e["round"], e["loss"], e["sites"]) for e in run.events] == [("round", 1, 0.5, [0, 1])]
    table = run.metrics()
    assert table.column_names == ["time", "site", "agent", "name", "value"]
    assert table.num_rows == 6
    assert table["value"].to_pylist() == [*[k / 7 for k in range(5)], -2.5]
    assert table["agent"].to_pylist()[-1] == ""
    assert run.plans() == {(2, 7): {"bids": [1, 2], "certificate": "abc"}}
    assert run.record["versions"]["fedsched"]
    assert (folder / "plans" / "2" / "epoch-0007.json").is_file()


def test_replays_are_kept_and_made_again_after_a_checkpoint(
    tmp_path: Path, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "FRAME_ROWS", 4)
    folder = make_folder(scenario, tmp_path / "run")
    with Recorder(folder, scenario) as recorder:
        recorder.frames([Moment(0.0, "north", 3, "picture", b"\x00lanes")])
        recorder.frames([Moment(float(k), "north", 3, "frame", bytes([k])) for k in range(2)])
        recorder.checkpoint(1, {}, {})
        for k in range(2, 7):
            recorder.frames([Moment(float(k), "north", 3, "frame", bytes([k]))])
        assert read_run(folder).frames().num_rows == 7  # what a kill would leave: closed parts
        recorder.close("interrupted", "test")
    table = read_run(folder).frames()
    assert table.column_names == ["time", "site", "row", "kind", "data"]
    assert table["data"].to_pylist() == [b"\x00lanes", *(bytes([k]) for k in range(7))]
    assert table["kind"].to_pylist() == ["picture", *["frame"] * 7]
    assert set(table["row"].to_pylist()) == {3}
    with Recorder(folder, scenario, resume=True) as recorder:
        recorder.frames([Moment(2.0, "north", 3, "frame", b"again")])
    assert read_run(folder).frames()["data"].to_pylist() == [b"\x00lanes", b"\x00", b"\x01", b"again"]


def test_the_name_of_a_folder_says_when_what_and_which_seed(scenario: Scenario) -> None:
    names = {folder_name(scenario) for _ in range(20)}
    assert len(names) > 1
    for name in names:
        assert (
            pytest.approx(time.time(), abs=100)
            == time.mktime(time.strptime(name[:15], "%Y%m%dT%H%M%S")) - time.timezone
        )
        assert name[16:].startswith("-datacenter_protocol-s0-")
        assert int(name[-4:], 16) >= 0


def test_a_folder_that_exists_is_refused_and_left_alone(tmp_path: Path, scenario: Scenario) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(RunFolderError, match="exists already; choose another --out"):
        make_folder(scenario, tmp_path / "kept")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="cannot be made"):
        make_folder(scenario, tmp_path / "file" / "run")
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "stopped by the user"),
        (RuntimeError("out of patience"), "failed", "RuntimeError: out of patience"),
    ],
)
def test_the_record_says_how_a_run_ended(
    error: BaseException, status: str, reason: str, tmp_path: Path, scenario: Scenario
) -> None:
    folder = make_folder(scenario, tmp_path / "run")

    def fail() -> None:
        with Recorder(folder, scenario) as recorder:
            recorder.metrics([row(1)])
            raise error

    with pytest.raises(type(error)):
        fail()
    run = read_run(folder)
    assert (run.status, run.reason) == (status, reason)
    assert run.metrics().num_rows == 1
    assert ("out of patience" in (folder / "log.txt").read_text()) == (status == "failed")


WRITER = """
import sys
from pathlib import Path
from fedsched.sim import parts
from fedsched.sim.record import Metric, Recorder
from fedsched.sim.scenario import load_scenario
parts.PART_ROWS = 1000
recorder = Recorder(Path(sys.argv[1]), load_scenario("datacenter_protocol"))
for k in range(10**9):
    recorder.event("round", round=k)
    recorder.metrics([Metric(float(k), "north", "", "train/loss", float(i)) for i in range(100)])
    if k % 10 == 0:
        recorder.checkpoint(k, {"round": k, "weights": list(range(1000))}, {"north": {"round": k}})
    print(k, (k + 1) * 100 - len(recorder._metrics._rows), flush=True)
"""


def test_a_killed_run_can_be_read_and_continued(tmp_path: Path, scenario: Scenario) -> None:
    folder = make_folder(scenario, tmp_path / "run")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    rounds, rows = 0, 0
    while rounds < 40:
        rounds, rows = map(int, writer.stdout.readline().split())
    writer.send_signal(signal.SIGKILL)
    for line in writer.communicate()[0].splitlines():
        if len(line.split()) == 2:
            rounds, rows = map(int, line.split())
    run = read_run(folder)
    assert run.status == "crashed"
    assert [event["round"] for event in run.events][: rounds + 1] == list(range(rounds + 1))
    assert run.metrics().num_rows >= rows
    checkpoint = run.checkpoint()
    assert checkpoint is not None
    assert checkpoint.shared()["round"] == checkpoint.round >= rounds - rounds % 10 - 10
    assert checkpoint.site_states() == {"north": {"round": checkpoint.round}}
    # two that count, and one that may have been in the making
    assert len(list((folder / "checkpoints").iterdir())) <= 4
    with Recorder(folder, scenario, resume=True) as recorder:
        recorder.event("round", round=checkpoint.round + 1)
        recorder.metrics([row(0)])
    continued = read_run(folder)
    assert [event["round"] for event in continued.events] == list(range(checkpoint.round + 2))
    # the checkpoint closed the part that held its round
    assert continued.metrics().num_rows == (checkpoint.round + 1) * 100 + 1
    assert continued.status == "done"
    assert continued.record["started"] == run.record["started"]


def test_a_heart_that_has_stopped_means_crashed(tmp_path: Path, scenario: Scenario) -> None:
    folder = make_folder(scenario, tmp_path / "run")
    recorder = Recorder(folder, scenario)
    path = folder / "run.json"
    alive = json.loads(path.read_bytes())
    assert read_run(folder).status == "running"
    path.write_text(json.dumps(alive | {"host": "elsewhere", "heartbeat": time.time() - 3600}))
    assert read_run(folder).status == "crashed"
    path.write_text(json.dumps(alive | {"host": "elsewhere"}))
    assert read_run(folder).status == "running"
    recorder.close("failed", "test")
    assert read_run(folder).status == "failed"


def test_the_heart_beats_and_open_parts_are_closed_without_new_rows(
    tmp_path: Path, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "BEAT_S", 0.05)
    monkeypatch.setattr(parts, "PART_S", 0.2)
    folder = make_folder(scenario, tmp_path / "run")
    with Recorder(folder, scenario) as recorder:
        first = read_run(folder).record["heartbeat"]
        recorder.metrics([row(1)])
        deadline = time.monotonic() + 20
        while not read_run(folder).metrics().num_rows and time.monotonic() < deadline:
            time.sleep(0.05)
        assert read_run(folder).metrics().num_rows == 1
        assert read_run(folder).record["heartbeat"] > first


def test_parts_are_closed_by_size_with_a_fixed_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 10)
    writer = parts.PartWriter(tmp_path / "metrics", parts.METRICS)
    for k in range(7):
        writer.add([row(3 * k), row(3 * k + 1), row(3 * k + 2)])
    assert [pq.read_metadata(path).num_rows for path in parts.list_parts(tmp_path / "metrics")] == [12]
    writer.close_part()
    table = parts.read_parts(tmp_path / "metrics", parts.METRICS)
    assert table["time"].to_pylist() == [float(k) for k in range(21)]
    assert parts.read_parts(tmp_path / "none", parts.METRICS).num_rows == 0


def test_what_cannot_be_continued_is_refused(tmp_path: Path, scenario: Scenario) -> None:
    folder = make_folder(scenario, tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"no run\.json"):
        Recorder(folder, scenario, resume=True)
    recorder = Recorder(folder, scenario)
    with pytest.raises(RunFolderError, match="still running"):
        Recorder(folder, scenario, resume=True)
    recorder.close("interrupted", "test")
    with pytest.raises(RunFolderError, match="no checkpoint to continue from"):
        Recorder(folder, scenario, resume=True)
    done = make_folder(scenario, tmp_path / "done")
    with Recorder(done, scenario):
        pass
    with pytest.raises(RunFolderError, match="nothing to continue"):
        Recorder(done, scenario, resume=True)


def test_a_folder_of_another_version_is_refused(tmp_path: Path, scenario: Scenario) -> None:
    folder = make_folder(scenario, tmp_path / "run")
    with Recorder(folder, scenario):
        pass
    kept = json.loads((folder / "run.json").read_bytes())
    kept["scenario"]["zzz"] = 1
    (folder / "run.json").write_text(json.dumps(kept))
    with pytest.raises(RunFolderError, match="this one cannot read it"):
        read_run(folder)
