import hashlib
import heapq
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from fedsched.envs.datacenter.generate import GeneratedPeriods, GeneratedWindows, LublinFeitelson
from fedsched.envs.datacenter.model import DatacenterError, Jobs, Window
from fedsched.envs.datacenter.splits import (
    PER_SPLIT,
    PUBLISHED_STARTS,
    SPLITS,
    Split,
    Splits,
    chronological,
)
from fedsched.envs.datacenter.trace import Trace, load
from fedsched.envs.datacenter.workload import LogPeriods, LogWindows, Workload

HOUR = 3600.0
ALL: tuple[Split, ...] = get_args(Split)


def workloads() -> dict[str, Workload]:
    model = LublinFeitelson()
    return {
        "log windows": LogWindows(load("hpc2n")),
        "resampled windows": LogWindows(load("lublin-1")),
        "log periods": LogPeriods(load("hpc2n"), 24 * HOUR, load=0.8),
        "generated windows": GeneratedWindows(model),
        "generated periods": GeneratedPeriods(model, 24 * HOUR, load=0.7),
    }


def digest(window: Window) -> str:
    parts = [column.tobytes() for column in vars(window.jobs).values()]
    return hashlib.sha256(b"".join(parts) + str(window.start_hour).encode()).hexdigest()


def toy(jobs: int = 100, gap: float = 600.0, run: float = 60.0, name: str = "toy") -> Trace:
    count = np.arange(jobs)
    columns = Jobs(count * gap, np.full(jobs, run), np.full(jobs, run), np.full(jobs, 2), count + 1, np.full(jobs, -1))
    return Trace(name, columns, 8, {}, "")


@pytest.mark.parametrize("name", list(workloads()))
@pytest.mark.parametrize("split", ALL)
def test_windows_are_well_formed_and_repeatable(name: str, split: Split) -> None:
    workload, twin = workloads()[name], workloads()[name]
    windows = [workload.window(workload.instance(split, k)) for k in range(4)]
    for k, window in enumerate(windows):
        jobs = window.jobs
        assert len(jobs) > 0
        assert jobs.submit_s[0] >= 0
        assert np.all(np.diff(jobs.submit_s) >= 0)
        assert np.all(jobs.submit_s < window.end_s)
        assert jobs.run_s.min() > 0
        assert 1 <= jobs.processors.min() <= jobs.processors.max() <= workload.processors
        assert 0 <= window.start_hour < 8760
        assert all(column.flags.writeable for column in vars(jobs).values())
        assert digest(twin.window(twin.instance(split, k))) == digest(window)
    assert len({digest(window) for window in windows}) == 4


def test_windows_do_not_depend_on_process_or_order() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_workload import *\n"
        "print([digest(w.window(w.instance('train', 3))) for w in workloads().values()])"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    other = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})
    here = []
    for workload in workloads().values():
        workload.window(workload.instance("validation", 1))
        here.append(digest(workload.window(workload.instance("train", 3))))
    assert other.stdout.strip() == str(here)


def test_first_published_window_of_lublin() -> None:
    windows = LogWindows(load("lublin-1"))
    window = windows.window(0)
    assert windows.starts == PUBLISHED_STARTS
    assert len(window.jobs) == 1024
    assert (window.jobs.id[0], window.jobs.id[-1]) == (1982, 3005)
    assert (window.jobs.submit_s[0], window.jobs.submit_s[-1]) == (0, 706_150)
    assert window.origin_s == load("lublin-1").jobs.submit_s[1981] == 1_779_158
    assert (window.jobs.run_s[0], window.jobs.processors[0]) == (
        load("lublin-1").jobs.run_s[1981],
        load("lublin-1").jobs.processors[1981],
    )


def slowdown_of_fcfs(jobs: Jobs, free: int) -> float:
    """Mean bounded slowdown of first come, first served without backfilling on an empty machine."""
    running: list[tuple[float, int]] = []
    now, total = 0.0, 0.0
    for submit, run, need in zip(jobs.submit_s.tolist(), jobs.run_s.tolist(), jobs.processors.tolist(), strict=True):
        now = max(now, submit)
        while running and (free < need or running[0][0] <= now):
            end, size = heapq.heappop(running)
            now, free = max(now, end), free + size
        heapq.heappush(running, (now + run, need))
        free -= need
        total += max(1.0, (now - submit + run) / max(run, 10.0))
    return total / len(jobs)


@pytest.mark.parametrize(("name", "published"), [("lublin-1", 7273.77), ("hpc2n", 297.18)])
def test_fcfs_on_the_test_windows_is_the_published_cell(name: str, published: float) -> None:
    windows = LogWindows(load(name))
    cells = [slowdown_of_fcfs(windows.window(k).jobs, windows.processors) for k in range(10)]
    assert np.mean(cells) == pytest.approx(published, abs=0.005)  # RLScheduler (SC'20), no backfilling


@pytest.mark.parametrize("name", list(SPLITS))
def test_published_splits_are_disjoint(name: str) -> None:
    splits = SPLITS[name]
    used = np.zeros(60_000, dtype=int)
    for a, b in (*splits.train, *splits.validation, *splits.test):
        used[a:b] += 1
    assert used.max() == 1
    learning = np.zeros(60_000, dtype=bool)
    for a, b in (*splits.train, *splits.validation):
        learning[a:b] = True
    assert not any(learning[start : start + 1024].any() for start in splits.starts)


@pytest.mark.parametrize("name", ["hpc2n", "lublin-1"])
def test_learning_never_sees_a_test_job(name: str) -> None:
    windows = LogWindows(load(name))
    test = np.concatenate([windows.indices(windows.instance("test", k)) for k in range(10)])
    train = np.concatenate([windows.indices(windows.instance("train", k)) for k in range(50)])
    validation = np.concatenate([windows.indices(windows.instance("validation", k)) for k in range(50)])
    assert not np.intersect1d(test, train).size
    assert not np.intersect1d(test, validation).size
    assert not np.intersect1d(train, validation).size


def test_resampled_windows_keep_jobs_and_jitter_gaps() -> None:
    trace = load("lublin-1")
    windows = LogWindows(trace)
    instance = windows.instance("train", 5)
    index, jobs = windows.indices(instance), windows.window(instance).jobs
    assert len(jobs) == 1024
    assert np.array_equal(jobs.run_s, trace.jobs.run_s[index])
    breaks = np.flatnonzero(np.diff(index) != 1)
    assert np.all(np.diff(breaks) >= 128)
    inside = np.setdiff1d(np.arange(1, 1024), breaks + 1)
    original = trace.jobs.submit_s[index[inside]] - trace.jobs.submit_s[index[inside] - 1]
    ratio = np.diff(jobs.submit_s)[inside - 1][original > 0] / original[original > 0]
    assert np.log(ratio).std() == pytest.approx(0.15, abs=0.01)
    assert abs(np.log(ratio).mean()) < 0.02


def test_seeds_matter_for_learning_and_not_for_the_published_test() -> None:
    trace = load("hpc2n")
    one, two = LogWindows(trace, seed=1), LogWindows(trace, seed=2)
    assert digest(one.window(3)) == digest(two.window(3))
    train = one.instance("train", 0)
    assert digest(one.window(train)) != digest(two.window(train))


def test_start_hour_is_that_of_the_log() -> None:
    window = LogWindows(load("hpc2n")).window(0)
    day = (1027839845 + int(window.origin_s)) // 3600  # UnixStartTime of the header
    assert window.start_hour % 24 == day % 24


def test_explicit_starts_are_for_evaluation_only() -> None:
    windows = LogWindows(load("lublin-1"), 256, starts=(399, 631))
    assert windows.window(1).jobs.id[0] == 632
    with pytest.raises(DatacenterError, match="test window at job 399 shares jobs with train segment 0 to 1980; use"):
        windows.window(windows.instance("train", 0))


def test_errors_of_windows() -> None:
    windows = LogWindows(load("hpc2n"))
    with pytest.raises(DatacenterError, match="test split has windows 0 to 9, not 10"):
        windows.window(10)
    with pytest.raises(DatacenterError, match=r"starts at job 59000.*use a longer log, or at most 1000 jobs"):
        LogWindows(load("hpc2n"), starts=(59_000,))
    with pytest.raises(DatacenterError, match="ask for at least 1 job"):
        LogWindows(load("hpc2n"), 0)
    with pytest.raises(DatacenterError, match="no validation segment holds 20 jobs; use fewer"):
        LogWindows(toy(), 20, splits=Splits(((0, 60),), ((60, 70),), ((70, 100),), (70,))).window(PER_SPLIT)


def test_other_logs_are_split_by_time() -> None:
    splits = chronological(1000, 10)
    assert (splits.train, splits.validation, splits.test) == (((0, 700),), ((700, 850),), ((850, 1000),))
    assert len(splits.starts) == 10
    assert min(splits.starts) == 850
    assert max(splits.starts) + 10 == 1000
    assert len(LogWindows(toy(1000), 10).window(9).jobs) == 10


@pytest.mark.parametrize("name", ["hpc2n", "lublin-1"])
@pytest.mark.parametrize("split", ALL)
def test_windows_of_jobs_reach_a_load_too(name: str, split: Split) -> None:
    trace = load(name)
    plain, crowded = LogWindows(trace, 300), LogWindows(trace, 300, load=0.5, processors=200)
    factor = LogPeriods(trace, HOUR, processors=200).offered(split) / 0.5
    assert abs(factor - 1.0) > 0.05
    for k in range(3):
        number = plain.instance(split, k)
        np.testing.assert_allclose(crowded.window(number).jobs.submit_s, plain.window(number).jobs.submit_s * factor)


def test_dropped_jobs_are_counted() -> None:
    trace = load("hpc2n")
    window = LogWindows(trace, widest=32, too_wide="drop").window(0)
    assert window.dropped == int((trace.jobs.processors[1981 : 1981 + 1024] > 32).sum()) > 0
    assert len(window.jobs) + window.dropped == 1024
    with pytest.raises(DatacenterError, match="hpc2n, instance 0"):
        LogWindows(trace, widest=32).window(0)


def test_periods_report_what_they_drop() -> None:
    trace = load("hpc2n")
    submit = trace.jobs.submit_s[:10_000]
    periods = LogPeriods(trace, 48 * HOUR, widest=4, too_wide="drop")
    windows = [periods.window(k) for k in range(10)]
    assert sum(window.dropped for window in windows) > 0
    for window in windows:
        there = (submit >= window.origin_s) & (submit < window.origin_s + 48 * HOUR)
        assert len(window.jobs) + window.dropped == there.sum()


@pytest.mark.parametrize("split", ALL)
@pytest.mark.parametrize(("name", "wanted"), [("hpc2n", 0.9), ("lublin-1", 0.6)])
def test_load_is_reached(name: str, split: Split, wanted: float) -> None:
    trace = load(name)
    periods = LogPeriods(trace, 24 * HOUR, processors=200, widest=64, too_wide="narrow", load=wanted)
    work = span = 0.0
    for a, b in getattr(SPLITS[name], split):
        jobs = trace.jobs.take(slice(a, b))
        work += float(jobs.run_s @ np.minimum(jobs.processors, 64))
        end = trace.jobs.submit_s[min(b, len(trace.jobs) - 1)]
        span += (end - jobs.submit_s[0]) * periods.stretch(split)
    assert work / (200 * span) == pytest.approx(wanted, rel=0.01)


def test_mean_load_of_periods() -> None:
    periods = LogPeriods(load("hpc2n"), 7 * 24 * HOUR, load=0.8)
    windows = [periods.window(periods.instance("train", k)) for k in range(300)]
    loads = [float(w.jobs.run_s @ w.jobs.processors) / (240 * 7 * 24 * HOUR) for w in windows]
    assert np.mean(loads) == pytest.approx(0.8, rel=0.05)


def test_periods_share_one_clock() -> None:
    sites = [LogPeriods(load("hpc2n"), 24 * HOUR, seed=1), LogPeriods(load("lublin-1"), 24 * HOUR, seed=2, load=0.6)]
    generated = GeneratedPeriods(LublinFeitelson(), 24 * HOUR, seed=3)
    other = LogPeriods(load("hpc2n"), 24 * HOUR, seed=1, clock=9)
    hours = [[site.window(k).start_hour for k in range(20)] for site in (*sites, generated, other)]
    assert hours[0] == hours[1] == hours[2]
    assert len(set(hours[0])) > 15
    assert hours[3] != hours[0]


def test_periods_begin_at_the_logs_own_hour_of_day() -> None:
    periods = LogPeriods(load("hpc2n"), 6 * HOUR, load=0.8)
    for k in range(10):
        window = periods.window(k)
        assert (1027839845 + window.origin_s) % 86400 == window.start_hour % 24 * 3600


def test_equal_logs_differ_by_seed() -> None:
    one, two = (LogPeriods(load("hpc2n"), 24 * HOUR, seed=seed) for seed in (1, 2))
    assert any(digest(one.window(k)) != digest(two.window(k)) for k in range(3))


def test_estimates_of_periods_are_at_least_a_second() -> None:
    trace = toy(600)
    unknown = replace(trace, jobs=replace(trace.jobs, estimate_s=np.full(600, -1.0)))
    splits = Splits(((0, 1),), ((1, 2),), ((2, 600),), (2,))
    for k in range(5):
        window = LogPeriods(unknown, HOUR, splits=splits).window(k)
        assert window.jobs.estimate_s.tolist() == [1.0] * len(window.jobs)


def test_a_check_finds_the_window_whose_jobs_are_all_too_wide() -> None:
    trace = toy(600)
    wide = np.ones(600, dtype=np.int64)
    wide[200:209] = 9
    trace = replace(trace, jobs=replace(trace.jobs, processors=wide))
    splits = Splits(((0, 204),), ((204, 300),), ((300, 600),), (300,))

    def windows(jobs: int, starts: tuple[int, ...] = (300,)) -> LogWindows:
        return LogWindows(trace, jobs, splits=splits, starts=starts, widest=4, too_wide="drop")

    for split in ("train", "validation", "test"):
        windows(6).check(split)
    windows(5).check("train")
    with pytest.raises(DatacenterError, match="train window at job 200: empty window, every job is too wide"):
        windows(4).check("train")
    with pytest.raises(DatacenterError, match="validation window at job 204: empty window"):
        windows(5).check("validation")
    with pytest.raises(DatacenterError, match="test window at job 202: empty window"):
        windows(2, (202,)).check("test")


def test_a_check_finds_the_hour_of_the_day_without_jobs() -> None:
    trace = toy(4000, gap=1800.0)
    splits = chronological(4000, 1)
    LogPeriods(trace, HOUR, splits=splits).check("train")
    quiet = trace.jobs.submit_s // HOUR % 24 == 5
    trace = replace(trace, jobs=trace.jobs.take(np.flatnonzero(~quiet)))
    splits = chronological(len(trace.jobs), 1)
    with pytest.raises(
        DatacenterError, match=r"toy, train period at 5:00: empty window: .* covers 1\.0 h.*longer periods"
    ):
        LogPeriods(trace, HOUR, splits=splits).check("train")
    LogPeriods(trace, 2 * HOUR, splits=splits).check("train")


def test_quiet_sites_get_a_clear_error() -> None:
    trace = toy(10, gap=1.0)
    with pytest.raises(
        DatacenterError, match=r"the test split has 4 jobs in 0\.0 h; a period of 1 h covers 1\.0 h .*use a longer"
    ):
        LogPeriods(trace, HOUR, splits=Splits(((0, 5),), ((5, 6),), ((6, 10),), (6,))).window(0)
    with pytest.raises(DatacenterError, match="must be above 0"):
        LogPeriods(trace, 0)
    with pytest.raises(DatacenterError, match="must be above 0"):
        LogPeriods(trace, 1, load=0.0)
