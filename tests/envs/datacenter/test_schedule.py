"""Figures of a schedule and its reward parts, worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsched.envs.datacenter.model import Cluster, Jobs, SiteModel, Window
from fedsched.envs.datacenter.reference import simulate_rule
from fedsched.envs.datacenter.schedule import PARTS, Schedule, reward_parts


def make_schedule(*rows: tuple[float, float, float, int], clock_s: float | None = None) -> Schedule:
    """Jobs on cluster 0 from rows of submission, start, run time and processors."""
    submit, start, run, processors = np.array(rows, dtype=float).T
    count = len(rows)
    jobs = Jobs(submit, run, run, processors.astype(np.int64), np.arange(count), np.full(count, -1))
    placed = np.where(np.isnan(start), -1, 0)
    return Schedule(jobs, start, start + run, placed, 0, np.nanmax(start + run) if clock_s is None else clock_s)


def test_bounded_slowdown_clips_runs_under_ten_seconds() -> None:
    plan = make_schedule((0, 0, 2, 1), (0, 5, 2, 1), (0, 18, 2, 1), (0, 10, 20, 1))
    assert plan.bounded_slowdown().tolist() == [1.0, 1.0, 2.0, 1.5]


def test_both_utilisations() -> None:
    plan = make_schedule((10, 10, 20, 2), (10, 30, 40, 1))
    assert plan.utilization(4) == pytest.approx((40 + 40) / (60 * 4))
    assert plan.utilization_published(4) == pytest.approx((40 + 40) / (20 * 4))


def test_energy_carbon_and_cost_across_hours_and_the_end_of_the_series() -> None:
    carbon, price = np.full(24, 1e9), np.full(24, 1e9)
    carbon[[23, 0]], price[[23, 0]] = (100, 300), (0.5, 1.0)
    site = SiteModel((Cluster(4, idle_w=10, busy_w=110, pue=2.0),), carbon, price)
    parts = dict(zip(PARTS, reward_parts(make_schedule((1800, 1800, 3600, 2)), site, start_hour=23)[0], strict=True))
    # IT energy is 140 Wh in hour 23 and 120 Wh in the half hour after it; the facility takes twice that.
    assert parts["energy_efficiency"] == pytest.approx(-0.52)
    assert parts["carbon"] == pytest.approx(-(0.28 * 100 + 0.24 * 300) / 1000)
    assert parts["cost"] == pytest.approx(-(0.28 * 0.5 + 0.24 * 1.0))
    assert parts["utilization"] == pytest.approx(2 / 4)
    assert parts["qos"] == parts["wait"] == 0


def test_jobs_that_still_wait_or_run_count_up_to_the_clock() -> None:
    plan = make_schedule((0, 0, 7200, 1), (0, np.nan, 4, 1), clock_s=3600)
    parts = reward_parts(plan, SiteModel((Cluster(1),)))[0]
    assert parts[PARTS.index("utilization")] == pytest.approx(1.0)
    assert parts[PARTS.index("wait")] == pytest.approx(-1.0)
    assert parts[PARTS.index("qos")] == pytest.approx(-(3600 - 6) / 10)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4000), st.integers(1, 6000), st.integers(1, 4)), min_size=1, max_size=12
    ).map(sorted),
    cut_s=st.integers(1, 9000),
)
def test_quality_of_service_sums_to_the_slowdown_and_parts_add_up_over_clusters(
    rows: list[tuple[int, int, int]], cut_s: int
) -> None:
    submit, run, processors = np.array(rows, dtype=float).T
    jobs = Jobs(submit, run, run, processors.astype(np.int64), np.arange(len(rows)), np.full(len(rows), -1))
    site = SiteModel((Cluster(4), Cluster(4)), np.arange(1.0, 25.0), np.arange(24.0))
    whole = simulate_rule(Window(jobs), site, "saf-easy")
    parts = reward_parts(whole, site, 5)
    assert parts[0, 1] / len(rows) == pytest.approx(1 - whole.bounded_slowdown().mean())
    assert parts[:, 0].sum() * 8 * 3600 == pytest.approx((run * processors).sum())
    cut = reward_parts(simulate_rule(Window(jobs), site, "saf-easy", until_s=cut_s), site, 5)
    if cut_s <= whole.clock_s:
        assert (np.abs(cut) <= np.abs(parts) + 1e-9).all()
    else:
        assert cut[:, :3] == pytest.approx(parts[:, :3])
        idle_kwh = (cut_s - whole.clock_s) / 3600 * 1.3 * 4 * 0.02
        assert cut[:, 3] == pytest.approx(parts[:, 3] - idle_kwh)
