import gzip
import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest

from fedsched.envs.datacenter.model import DatacenterError
from fedsched.envs.datacenter.trace import DATA, FOLDER_VARIABLE, load, read_swf

HEADER = "; Computer: toy\n; MaxProcs: 8\n"


def row(
    number: int = 1, submit: float = 0, run: float = 60, allocated: int = 2, requested: int = -1, limit: float = 90
) -> str:
    return f"{number} {submit} -1 {run} {allocated} -1 -1 {requested} {limit} -1 1 7 -1 -1 -1 -1 -1 -1\n"


def write(folder: Path, text: str, name: str = "toy.swf") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_hpc2n_is_the_first_60000_records() -> None:
    trace = load("hpc2n")
    text = gzip.decompress((DATA / "hpc2n_first60000.swf.gz").read_bytes()).decode()
    records = [line.split() for line in text.splitlines() if not line.startswith(";")]
    assert len(records) == len(trace.jobs) == 60_000  # none has run time 0, so places are those of the whole log
    assert trace.processors == 240
    assert trace.header["Installation"].startswith("HPC2N")
    assert [trace.jobs.id[0], trace.jobs.id[12_000], trace.jobs.id[-1]] == [11, int(records[12_000][0]), 254153]
    assert int(trace.jobs.submit_s.sum()) == sum(int(record[1]) for record in records)
    assert int((trace.jobs.run_s * trace.jobs.processors).sum()) == sum(int(r[3]) * int(r[4]) for r in records)


def test_lublin_estimates_are_the_run_times() -> None:
    trace = load("lublin-1")
    jobs = trace.jobs
    assert (len(jobs), trace.processors) == (10_000, 256)
    assert (jobs.submit_s[0], jobs.run_s[0], jobs.processors[0]) == (5094, 12072, 16)
    assert np.array_equal(jobs.estimate_s, jobs.run_s)
    assert np.all(jobs.user == -1)


def test_the_digest_is_that_of_the_uncompressed_bytes() -> None:
    data = gzip.decompress((DATA / "lublin_256.swf.gz").read_bytes())
    assert load("lublin-1").digest == hashlib.sha256(data).hexdigest()


def test_the_shipped_files_carry_no_time_and_no_name() -> None:
    for path in DATA.glob("*.gz"):
        head = path.read_bytes()[:10]
        assert head[3] == 0, path.name
        assert head[4:8] == bytes(4), path.name


def test_60000_jobs_load_fast() -> None:
    begin = time.process_time()
    read_swf(DATA / "hpc2n_first60000.swf.gz")
    assert time.process_time() - begin < 2.0  # 0.4 s on an idle core


@pytest.mark.parametrize("name", ["toy.swf", "toy.swf.gz"])
def test_the_loader_rule(tmp_path: Path, name: str) -> None:
    rows = (
        row(2, 5, run=0),
        row(3, 9, run=-1, limit=100),
        row(4, 9, run=-1, limit=-1),
        row(5, 9, run=50, limit=-1, allocated=2, requested=4),
        row(1, 5, run=60, limit=30),
    )
    trace = load(write(tmp_path, HEADER + "".join(rows), name))
    jobs = trace.jobs
    assert trace.name == "toy"
    assert jobs.id.tolist() == [1, 3, 4, 5]
    assert jobs.run_s.tolist() == [60, 10, 10, 50]
    assert jobs.estimate_s.tolist() == [30, 100, -1, 50]
    assert jobs.processors.tolist() == [2, 2, 2, 4]
    assert jobs.user.tolist() == [7, 7, 7, 7]
    with pytest.raises(ValueError, match="read-only"):
        jobs.run_s[0] = 1


def test_max_nodes_stands_in_for_max_procs(tmp_path: Path) -> None:
    assert load(write(tmp_path, "; MaxNodes: 4\n" + row())).processors == 4


@pytest.mark.parametrize(
    ("text", "line", "what", "remedy"),
    [
        (HEADER + row() + "2 3 4\n", 4, "18 fields", "write -1 for what is unknown"),
        (HEADER + row() + row(2).replace("60", "abc"), 4, "run time (field 4) is 'abc'", "write -1"),
        (HEADER + row() + row(2).replace("60", "nan"), 4, "run time (field 4) is 'nan'", "write -1"),
        (HEADER + row(submit=-5), 3, "negative time", "count seconds from the log's start"),
        (
            HEADER + row(submit=9) + "\n" + row(2, 5),
            5,
            "job 2 is submitted at 5 s, before job 1 of line ",
            "sort the jobs",
        ),
        (HEADER + row() + row(1, 5), 4, "number of another job", "number the jobs"),
        (HEADER + row(allocated=9), 3, "wider than the machine of 8", "correct MaxProcs"),
        (HEADER + row(allocated=-1), 3, "no number of processors", "fill field 5 or 8"),
    ],
)
def test_bad_records_name_line_and_remedy(tmp_path: Path, text: str, line: int, what: str, remedy: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DatacenterError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert what in message
    assert remedy in message


@pytest.mark.parametrize(
    ("times", "line", "what"),
    [
        ((0, 100, 10**9, 200, 300), 4, "job 3 is submitted at 1000000000 s, after job 4 of line 5 (200 s)"),
        ((10**9, 100, 200), 2, "job 1 is submitted at 1000000000 s, after job 2 of line 3 (100 s)"),
        ((0, 100, 200, 7, 300), 5, "job 4 is submitted at 7 s, before job 3 of line 4 (200 s)"),
        ((0, 100, 50), 4, "job 3 is submitted at 50 s, before job 2 of line 3 (100 s)"),
    ],
)
def test_time_that_runs_backwards_blames_the_job_that_no_neighbour_agrees_with(
    tmp_path: Path, times: tuple[int, ...], line: int, what: str
) -> None:
    path = write(tmp_path, "; MaxProcs: 128\n" + "".join(row(k, t) for k, t in enumerate(times, 1)))
    with pytest.raises(DatacenterError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{line}: {what}; ")


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("", "holds no job", "Standard Workload Format"),
        (HEADER, "holds no job", "Standard Workload Format"),
        (HEADER + row(run=0), "every job has run time 0", "give a log with run times"),
        (row(), "how large the machine is", "add a line '; MaxProcs: 128'"),
        ("; MaxProcs: many\n" + row(), "'many'", "write a whole number above 0"),
    ],
)
def test_bad_logs_name_file_and_remedy(tmp_path: Path, text: str, what: str, remedy: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DatacenterError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert what in str(caught.value)
    assert remedy in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "broken.swf.gz").write_bytes(gzip.compress(b"; x")[:-6])
    with pytest.raises(DatacenterError, match="fetch the file again"):
        load(tmp_path / "broken.swf.gz")
    with pytest.raises(DatacenterError, match="no such log; check the path"):
        load(tmp_path / "absent.swf")


def test_logs_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(DatacenterError, match="unknown log 'hpc3n': use one of hpc2n, lublin-1, sdsc-sp2, lublin-2"):
        load("hpc3n")
    with pytest.raises(DatacenterError, match=r"not shipped: get SDSC-SP2.*folder.*FEDSCHED_DATA"):
        load("sdsc-sp2")
    with pytest.raises(DatacenterError, match=r"lublin_256_new2\.swf\.gz does not exist"):
        load("lublin-2", folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "jobs", "machine", "unknown"), [("sdsc-sp2", 59_705, 128, 31), ("lublin-2", 10_000, 256, 0)]
)
def test_outside_logs(name: str, jobs: int, machine: int, unknown: int) -> None:
    if FOLDER_VARIABLE not in os.environ:
        pytest.skip("FEDSCHED_DATA names no folder with SDSC-SP2 and Lublin-2")
    trace = load(name)
    assert (len(trace.jobs), trace.processors) == (jobs, machine)
    assert int((trace.jobs.estimate_s < 1).sum()) == unknown
