"""Both plain engines: published and independently computed figures, instances worked out by hand, laws."""

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsched.envs.datacenter.model import Cluster, DatacenterError, Jobs, SiteModel, Window
from fedsched.envs.datacenter.reference import (
    HOLD,
    Choose,
    Decision,
    by_rule,
    simulate_committing,
    simulate_event,
    simulate_rule,
)
from fedsched.envs.datacenter.schedule import Schedule
from fedsched.envs.datacenter.trace import load
from fedsched.envs.datacenter.workload import LogWindows

EXPECTED = Path(__file__).parent / "expected" / "windows_1024.json"
FAST = {
    "event": ("fcfs-easy", "sjf", "saf-easy", "wfp3-easy", "unicep", "unicep-easy", "f1-easy", "f2", "f3-easy", "f4"),
    "committing": ("fcfs", "sjf+backfill", "saf", "wfp3", "unicep+backfill", "f1", "f2+backfill", "f3", "f4+backfill",
                   "wfp3-published", "unicep-published+backfill"),
}  # fmt: skip


def make_jobs(*rows: tuple[float, float, float, int]) -> Jobs:
    """Jobs from rows of submission, run time, estimate and processors."""
    columns = np.array(rows, dtype=float).reshape(-1, 4).T
    count = columns.shape[1]
    return Jobs(*columns[:3], columns[3].astype(np.int64), np.arange(count), np.full(count, -1))


def make_site(*processors: int, deferral: bool = False) -> SiteModel:
    return SiteModel(tuple(Cluster(n) for n in processors), deferral=deferral)


def by_preference(*orders: list[int]) -> Choose:
    """Cluster c picks the first legal job of its order."""
    return lambda decision: next(job for job in orders[decision.cluster] if job in decision.legal)


def at_random(seed: int) -> Choose:
    """Any legal action, a function of the decision alone."""

    def choose(decision: Decision) -> int:
        options = (*decision.legal, HOLD) if decision.may_hold else decision.legal
        key = f"{seed} {decision.now_s} {decision.cluster} {decision.stage} {decision.legal}"
        return options[zlib.crc32(key.encode()) % len(options)]

    return choose


# Agreement with the independent simulator and, through it, with the published tables


@cache
def expected() -> dict[str, Any]:
    return json.loads(EXPECTED.read_text())


@cache
def published(log: str) -> LogWindows:
    return LogWindows(load(log), 1024)


def replay(log: str, engine: str, rule: str, k: int) -> Schedule:
    windows = published(log)
    window = windows.window(windows.instance("test", k))
    if engine == "event":
        return simulate_rule(window, make_site(windows.processors), rule)
    name, _, backfill = rule.partition("+")
    choose = by_rule(window.jobs, name, window.origin_s)
    return simulate_committing(window.jobs, windows.processors, choose, backfill=bool(backfill))


@pytest.mark.parametrize("engine", ["event", "committing"])
@pytest.mark.parametrize("log", ["lublin-1", "hpc2n"])
def test_bounded_slowdown_of_two_published_windows(log: str, engine: str) -> None:
    for rule in FAST[engine]:
        for k in (1, 3):
            value = replay(log, engine, rule, k).bounded_slowdown().mean()
            assert value == pytest.approx(expected()[log][engine][rule]["windows"][k], rel=1e-9), (rule, k)


@pytest.mark.slow
@pytest.mark.parametrize(("log", "engine"), [(log, e) for log in ("lublin-1", "hpc2n") for e in FAST])
def test_every_figure_of_all_published_windows(log: str, engine: str) -> None:
    processors = published(log).processors
    for rule, figures in expected()[log][engine].items():
        plans = [replay(log, engine, rule, k) for k in range(10)]
        slowdown = [plan.bounded_slowdown().mean() for plan in plans]
        assert slowdown == pytest.approx(figures["windows"], rel=1e-9), rule
        assert np.mean(slowdown) == pytest.approx(figures["bounded_slowdown"], rel=1e-9)
        assert np.mean([plan.wait_s() for plan in plans]) == pytest.approx(figures["wait_s"], rel=1e-9)
        used = [plan.utilization(processors) for plan in plans]
        assert np.mean(used) == pytest.approx(figures["utilization"], rel=1e-9)
        used = [plan.utilization_published(processors) for plan in plans]
        assert np.mean(used) == pytest.approx(figures["utilization_published"], rel=1e-9)
        assert np.mean([plan.end_s.max() for plan in plans]) == pytest.approx(figures["makespan_s"], rel=1e-9)


# Instances worked out by hand


def test_all_jobs_that_end_at_the_shadow_time_leave_extra_processors() -> None:
    jobs = make_jobs(
        (0, 10, 10, 2), (0, 10, 10, 1), (0, 5, 5, 4), (0, 100, 100, 1), (0, 100, 100, 1), (0, 10, 10, 1)
    )  # fmt: skip
    plan = simulate_rule(Window(jobs), make_site(5), "fcfs-easy")
    # Job 2 fits at 10 with the first job's two processors; the second job's is the one extra, which job 3 takes.
    assert plan.start_s.tolist() == [0, 0, 10, 0, 15, 0]


def test_a_job_that_ends_by_the_shadow_time_leaves_the_extra_processors() -> None:
    jobs = make_jobs((0, 10, 10, 2), (0, 10, 10, 1), (0, 5, 5, 4), (0, 10, 10, 1), (0, 100, 100, 1))
    assert simulate_rule(Window(jobs), make_site(5), "fcfs-easy").start_s.tolist() == [0, 0, 10, 0, 0]


@pytest.mark.parametrize(("head", "follower_start_s"), [(2, 6), (3, 25)])
def test_an_overdue_job_counts_as_ending_now(head: int, follower_start_s: float) -> None:
    jobs = make_jobs((0, 20, 5, 2), (6, 5, 5, head), (6, 9, 100, 1))
    plan = simulate_rule(Window(jobs), make_site(3), "fcfs-easy")
    assert plan.start_s.tolist() == [0, 20, follower_start_s]


def test_without_easy_nobody_passes_the_head() -> None:
    jobs = make_jobs((0, 10, 10, 2), (0, 10, 10, 3), (0, 1, 1, 1))
    assert simulate_rule(Window(jobs), make_site(3), "fcfs").start_s.tolist() == [0, 10, 20]
    assert simulate_rule(Window(jobs), make_site(3), "fcfs-easy").start_s.tolist() == [0, 10, 0]


def test_two_idle_clusters_pick_the_same_job_and_the_faster_one_gets_it() -> None:
    jobs = make_jobs((0, 10, 10, 1))
    unlike = SiteModel((Cluster(1), Cluster(1, speed=2.0)))
    plan = simulate_rule(Window(jobs), unlike, "fcfs")
    assert (plan.cluster.tolist(), plan.end_s.tolist()) == ([1], [5])
    assert simulate_rule(Window(jobs), make_site(1, 1), "fcfs").cluster.tolist() == [0]


def test_a_contested_head_goes_where_it_can_start_first() -> None:
    jobs = make_jobs((0, 100, 100, 2), (0, 5, 5, 2), (1, 90, 90, 3), (1, 1, 1, 1))
    plan = simulate_rule(Window(jobs), SiteModel((Cluster(3, speed=10.0), Cluster(3))), "fcfs")
    # Job 2 would end at 19 on cluster 0 and at 95 on cluster 1, but it can start at 10 there and at 5 here.
    assert plan.cluster.tolist() == [0, 1, 1, 0]
    assert plan.start_s.tolist() == [0, 0, 5, 1]


def test_a_stolen_head_frees_the_cluster_at_once() -> None:
    jobs = make_jobs((0, 10, 10, 1), (1, 5, 5, 2), (1, 5, 5, 1), (1, 100, 100, 1))
    plan = simulate_event(jobs, make_site(2, 3), by_preference([0, 1, 2, 3], [2, 1, 3, 0]))
    # Cluster 0 reserves job 1, so job 3 may not pass; cluster 1 starts job 1, and then it may.
    assert plan.cluster.tolist() == [0, 1, 1, 0]
    assert plan.start_s.tolist() == [0, 1, 1, 1]


def test_a_cluster_on_which_nothing_could_start_is_not_asked_and_reserves_nothing() -> None:
    jobs = make_jobs((0, 10, 10, 2), (0, 9, 9, 2), (0, 9, 9, 2))
    asked: list[Decision] = []

    def choose(decision: Decision) -> int:
        asked.append(decision)
        return decision.legal[-1]

    plan = simulate_event(jobs, make_site(3), choose)
    assert [decision.now_s for decision in asked] == [0, 9]
    assert plan.start_s.tolist() == [18, 9, 0]


def test_a_deferring_site_wakes_at_full_hours() -> None:
    def patient(decision: Decision) -> int:
        return HOLD if decision.now_s < 7200 else decision.legal[0]

    jobs = make_jobs((100, 10, 10, 1))
    plan = simulate_event(jobs, make_site(1, deferral=True), patient)
    assert plan.start_s.tolist() == [7200]
    assert plan.decisions == 3
    at_once = simulate_event(jobs, make_site(1), patient)
    assert (at_once.start_s.tolist(), at_once.decisions) == ([100], 0)


def test_the_published_backfilling_is_strict_and_arrivals_wait_for_time_to_move() -> None:
    jobs = make_jobs((0, 10, 10, 2), (0, 5, 5, 3), (0, 10, 10, 1), (0, 9, 9, 1), (15, 1, 1, 1))
    plan = simulate_committing(jobs, 3, by_rule(jobs, "fcfs"), backfill=True)
    # Job 2 would end at the shadow time 10, which is not before it; job 3 ends at 9 and passes.
    assert plan.start_s.tolist() == [0, 10, 15, 0, 15]


def test_the_published_engine_admits_an_arrival_before_a_completion_of_the_same_instant() -> None:
    jobs = make_jobs((0, 10, 20, 2), (0, 5, 5, 3), (10, 4, 5, 1))
    plan = simulate_committing(jobs, 3, by_rule(jobs, "fcfs"), backfill=True)
    assert plan.start_s.tolist() == [0, 14, 10]


def test_a_committed_job_blocks_without_backfilling() -> None:
    jobs = make_jobs((0, 10, 10, 2), (0, 5, 5, 3), (0, 1, 1, 1))
    plan = simulate_committing(jobs, 3, by_rule(jobs, "fcfs"), backfill=False)
    assert plan.start_s.tolist() == [0, 10, 15]


def test_a_stop_falls_before_the_events_of_its_instant() -> None:
    jobs = make_jobs((0, 10, 10, 1), (5, 10, 10, 1), (10, 10, 10, 1))
    plan = simulate_rule(Window(jobs), make_site(2), "fcfs", until_s=10)
    assert plan.start_s[:2].tolist() == [0, 5]
    assert np.isnan(plan.start_s[2])
    assert plan.clock_s == 10
    assert simulate_rule(Window(jobs), make_site(2), "fcfs", until_s=100).clock_s == 100


def test_too_wide_jobs_and_illegal_choices_are_named() -> None:
    jobs = make_jobs((0, 1, 1, 1), (0, 1, 1, 4))
    with pytest.raises(DatacenterError, match="job 1 is wider"):
        simulate_rule(Window(jobs), make_site(2, 3), "fcfs")
    with pytest.raises(DatacenterError, match="cluster 0 cannot do 7 at 0"):
        simulate_event(jobs, make_site(4), lambda _: 7)


# Laws on random instances; whole seconds make ties common

ROWS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 30), st.integers(1, 30), st.integers(1, 6)), min_size=1, max_size=18
).map(sorted)


def assert_feasible(plan: Schedule, site: SiteModel) -> None:
    jobs = plan.jobs
    speed = np.array([cluster.speed for cluster in site.clusters])[plan.cluster]
    assert (plan.start_s >= jobs.submit_s).all()
    assert (plan.end_s == plan.start_s + jobs.run_s / speed).all()
    for c, cluster in enumerate(site.clusters):
        mine = plan.cluster == c
        for moment in plan.start_s[mine]:
            on = mine & (plan.start_s <= moment) & (plan.end_s > moment)
            assert jobs.processors[on].sum() <= cluster.processors


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 99), clusters=st.integers(1, 3), deferral=st.booleans())
def test_any_choices_give_a_feasible_schedule_of_all_jobs(
    rows: list[tuple[int, int, int, int]], seed: int, clusters: int, deferral: bool
) -> None:
    models = (Cluster(6, speed=1.5), Cluster(4), Cluster(3, speed=0.5))
    site = SiteModel(models[:clusters], deferral=deferral)
    jobs = make_jobs(*rows)
    assert_feasible(simulate_event(jobs, site, at_random(seed), visible=4), site)
    assert_feasible(simulate_committing(jobs, 6, at_random(seed), backfill=deferral), make_site(6))


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_easy_keeps_its_promise_where_estimates_are_exact(rows: list[tuple[int, int, int, int]]) -> None:
    jobs = make_jobs(*((submit, run, run, n) for submit, run, _, n in rows))
    first: dict[int, float] = {}
    fcfs = by_rule(jobs, "fcfs-easy")

    def watch(decision: Decision) -> int:
        job = fcfs(decision)
        if decision.stage == 0:
            first.setdefault(job, decision.now_s)
        return job

    plan = simulate_event(jobs, make_site(6), watch, visible=len(jobs))
    for head, now in first.items():
        before = (plan.start_s < now) | ((plan.start_s == now) & (np.arange(len(jobs)) < head))
        on = before & (plan.end_s > now)
        shadow = next(t for t in (now, *sorted(plan.end_s[on])) if fits(jobs, plan, on, head, t))
        assert plan.start_s[head] <= shadow


def fits(jobs: Jobs, plan: Schedule, on: np.ndarray, head: int, moment: float) -> bool:
    return bool(jobs.processors[on & (plan.end_s > moment)].sum() + jobs.processors[head] <= 6)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_first_come_first_served_starts_in_order(rows: list[tuple[int, int, int, int]]) -> None:
    jobs = make_jobs(*rows)
    event = simulate_rule(Window(jobs), make_site(6), "fcfs")
    assert (np.diff(event.start_s) >= 0).all()
    committing = simulate_committing(jobs, 6, by_rule(jobs, "fcfs"), backfill=False)
    assert committing.start_s.tolist() == event.start_s.tolist()
