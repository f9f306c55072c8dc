import numpy as np
import pytest
from scipy import stats

from fedsched.envs.core import stream
from fedsched.envs.datacenter.generate import GeneratedPeriods, GeneratedWindows, LublinFeitelson, data_mb
from fedsched.envs.datacenter.model import DatacenterError, IntArray, Jobs
from fedsched.envs.datacenter.trace import load

MODEL = LublinFeitelson()
SEEDS = range(4)


def generated(seed: int) -> tuple[Jobs, int]:
    window = GeneratedWindows(MODEL, 10_000, seed=seed).window(0)
    return window.jobs, window.start_hour % 24


def by_octave(sizes: IntArray) -> np.ndarray:
    return np.bincount(np.floor(np.log2(sizes)).astype(int), minlength=9) / len(sizes)


@pytest.mark.parametrize("seed", SEEDS)
def test_sizes_agree_with_the_published_log(seed: int) -> None:
    ours, theirs = generated(seed)[0].processors, load("lublin-1").jobs.processors
    assert np.abs(by_octave(ours) - by_octave(theirs)).max() < 0.02
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.06)
    powers = [np.mean((size & (size - 1)) == 0) for size in (ours, theirs)]
    assert powers[0] == pytest.approx(powers[1], abs=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_run_times_agree_with_the_published_log(seed: int) -> None:
    ours, theirs = np.log(generated(seed)[0].run_s), np.log(load("lublin-1").jobs.run_s)
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.12)  # four standard errors of the difference
    assert ours.std() == pytest.approx(theirs.std(), abs=0.06)
    for share in (0.05, 0.25, 0.75, 0.95):
        assert np.quantile(ours, share) == pytest.approx(np.quantile(theirs, share), abs=0.25)


@pytest.mark.parametrize("seed", SEEDS)
def test_wide_jobs_are_longer_as_in_the_published_log(seed: int) -> None:
    for first, last in ((1, 1), (2, 8), (9, 64), (65, 256)):
        means = []
        for jobs in (generated(seed)[0], load("lublin-1").jobs):
            chosen = (jobs.processors >= first) & (jobs.processors <= last)
            means.append(np.log(jobs.run_s[chosen]).mean())
        assert means[0] == pytest.approx(means[1], abs=0.35)


@pytest.mark.parametrize("seed", SEEDS)
def test_arrivals_agree_with_the_published_log(seed: int) -> None:
    (ours, hour), theirs = generated(seed), load("lublin-1").jobs
    counts = [
        np.bincount(((submit + shift) // 3600 % 24).astype(int), minlength=24) / len(submit)
        for submit, shift in ((ours.submit_s, hour * 3600), (theirs.submit_s, 0))
    ]
    assert np.abs(counts[0] - counts[1]).sum() / 2 < 0.09  # total variation over the hours of the day
    gaps = [np.diff(jobs.submit_s) for jobs in (ours, theirs)]
    logs = [np.log(gap[gap > 0]) for gap in gaps]
    assert logs[0].mean() == pytest.approx(logs[1].mean(), abs=0.1)
    assert logs[0].std() == pytest.approx(logs[1].std(), abs=0.06)


def test_the_daily_cycle_is_the_gamma_distribution() -> None:
    edges = np.arange(11, 60) - 0.5
    mass = np.diff(stats.gamma.cdf(edges, a=8.1737, scale=3.9631))
    weight = np.empty(48)
    weight[(np.arange(11, 59) - 1) % 48] = mass / mass.mean()
    assert np.allclose(np.diff(MODEL.weighted) / 1800, weight, rtol=1e-3)
    assert MODEL.weighted[-1] == pytest.approx(86400)


def test_the_clock_inverts_weighted_time() -> None:
    assert MODEL.clock(MODEL.weighted[:-1]) == pytest.approx(np.arange(48) * 1800.0)
    assert MODEL.clock(MODEL.weighted[:-1] + 3 * 86400) == pytest.approx(np.arange(48) * 1800.0 + 3 * 86400)


def test_expected_load_is_that_of_large_samples() -> None:
    rng = stream(1, "test")
    sizes = MODEL.sizes(rng, 400_000)
    work = MODEL.run_times(rng, sizes) @ sizes / 400_000
    gap = MODEL.gaps(rng, 4_000_000).mean()
    assert work / (256 * gap) == pytest.approx(MODEL.mean_load(), rel=0.02)


def test_periods_reach_the_load_over_a_month() -> None:
    periods = GeneratedPeriods(MODEL, 30 * 86400, processors=512, load=0.5)
    loads = []
    for k in range(60):
        jobs = periods.window(periods.instance("train", k)).jobs
        loads.append(float(jobs.run_s @ jobs.processors) / (512 * 30 * 86400))
    assert np.mean(loads) == pytest.approx(0.5, rel=0.06)


def test_smaller_machines_get_smaller_jobs() -> None:
    sizes = LublinFeitelson(64).sizes(stream(0, "test"), 5000)
    assert sizes.max() == 64
    assert sizes.min() == 1


def test_f_model_of_estimates() -> None:
    exact = GeneratedWindows(MODEL).window(0).jobs
    assert np.array_equal(exact.estimate_s, exact.run_s)
    loose = GeneratedWindows(LublinFeitelson(overestimate=4.0), 5000).window(0).jobs
    long = loose.run_s > 1000
    factor = loose.estimate_s[long] / loose.run_s[long]
    assert factor.min() >= 1
    assert factor.max() <= 5.001
    assert stats.kstest(factor, stats.uniform(1, 4).cdf).pvalue > 0.001


@pytest.mark.parametrize("load", [0.3, 0.9])
def test_windows_of_jobs_reach_a_load_too(load: float) -> None:
    windows = GeneratedWindows(MODEL, 20_000, processors=512, load=load, seed=2)
    offered = []
    for k in range(4):
        jobs = windows.window(k).jobs
        offered.append(float(jobs.run_s @ jobs.processors) / (512 * jobs.submit_s[-1]))
    assert np.mean(offered) == pytest.approx(load, rel=0.05)


def test_errors() -> None:
    with pytest.raises(DatacenterError, match="at least 12 processors, got 8"):
        LublinFeitelson(8)
    with pytest.raises(DatacenterError, match="overestimate must be 0"):
        LublinFeitelson(overestimate=-1)
    with pytest.raises(DatacenterError, match="at least 1 job"):
        GeneratedWindows(MODEL, 0)
    with pytest.raises(DatacenterError, match=r"64 draws of 0\.0 h held no job; use longer periods or a higher load"):
        GeneratedPeriods(MODEL, 1.0, load=1e-4).window(0)
    with pytest.raises(DatacenterError, match="train period at 0:00: empty window, 16 draws"):
        GeneratedPeriods(MODEL, 1.0, load=1e-4).check("train")
    GeneratedPeriods(MODEL, 6 * 3600.0).check("train")
    with pytest.raises(DatacenterError, match="in no split"):
        GeneratedWindows(MODEL).window(-1)
    with pytest.raises(DatacenterError, match=r"the load must be above 0, got 0\.0"):
        GeneratedWindows(MODEL, load=0.0)
    with pytest.raises(DatacenterError, match="the duration must be above 0"):
        GeneratedPeriods(MODEL, 0.0)


def test_volumes_are_log_normal_and_independent() -> None:
    normal = np.log(data_mb("hpc2n", np.arange(50_000), 20_000.0, 1.5) / 20_000) / 1.5
    assert stats.kstest(normal, "norm").pvalue > 0.001
    assert abs(np.corrcoef(normal[:-1], normal[1:])[0, 1]) < 0.02
    others = [data_mb("lublin-1", np.arange(50_000), 1.0, 1.0), data_mb("hpc2n", np.arange(50_000), 1.0, 1.0, seed=1)]
    assert all(abs(np.corrcoef(normal, np.log(other))[0, 1]) < 0.02 for other in others)


def test_a_volume_does_not_depend_on_its_neighbours() -> None:
    ids = np.array([900_719, 11, 254_153])
    together = data_mb("hpc2n", ids, 20_000.0, 1.0)
    assert together.tolist() == [float(data_mb("hpc2n", ids[k : k + 1], 20_000.0, 1.0)[0]) for k in range(3)]
    assert np.all(data_mb("hpc2n", ids, 5.0, 0.0) == 5.0)
