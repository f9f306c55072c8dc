"""Small instances for the tests of worlds, and a workload that is a list of windows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from fedsched.envs.datacenter.model import Cluster, Jobs, SiteModel, Window
from fedsched.envs.datacenter.world import DatacenterWorld

CLUSTERS = (Cluster(6, 1.5, 15.0, 160.0, 1.2), Cluster(4, 1.0, 25.0, 120.0, 1.5), Cluster(3, 0.5, 10.0, 90.0, 1.1))


@dataclass(frozen=True)
class Listed:
    """Instance k is the k-th window."""

    windows: Sequence[Window]

    def window(self, instance: int) -> Window:
        return self.windows[instance]


@pytest.fixture(scope="session")
def listed() -> type[Listed]:
    return Listed


@pytest.fixture(scope="session")
def make_jobs() -> Callable[..., Jobs]:
    """Jobs from rows of submission, run time, estimate and processors."""

    def make(*rows: tuple[float, float, float, int]) -> Jobs:
        columns = np.array(rows, dtype=float).reshape(-1, 4).T
        count = columns.shape[1]
        return Jobs(*columns[:3], columns[3].astype(np.int64), np.arange(count) + 100, np.full(count, -1))

    return make


@pytest.fixture(scope="session")
def random_window() -> Callable[..., Window]:
    """A short busy window in whole seconds, so that ties and overdue jobs are common."""

    def make(seed: int, count: int = 25, widest: int = 6, span_s: int = 60) -> Window:
        rng = np.random.default_rng(seed)
        submit = np.sort(rng.integers(0, span_s, count)).astype(float)
        submit -= submit[0]
        run = rng.integers(1, 40, count).astype(float)
        estimate = np.where(rng.random(count) < 0.5, run, rng.integers(1, 60, count)).astype(float)
        wide = rng.integers(1, widest + 1, count)
        jobs = Jobs(submit, run, estimate, wide, np.arange(count) + 1, np.full(count, -1))
        return Window(jobs, start_hour=int(rng.integers(0, 30)), log="random", origin_s=float(rng.integers(0, 9)))

    return make


@pytest.fixture(scope="session")
def make_site() -> Callable[..., SiteModel]:
    """One to three unlike clusters with series of 24 and 7 hours; a price may be negative."""

    def make(clusters: int = 1, deferral: bool = False) -> SiteModel:
        rng = np.random.default_rng(5)
        carbon, price = rng.uniform(50, 700, 24), rng.uniform(-0.05, 0.4, 7)
        return SiteModel(CLUSTERS[:clusters], carbon, price, deferral, data_median_mb=800.0, data_sigma=1.0)

    return make


@pytest.fixture(scope="session")
def make_world() -> Callable[..., DatacenterWorld]:
    """A world of one row per window, at instance k in row k, not yet reset."""

    def make(site: SiteModel, windows: Sequence[Window], **options: object) -> DatacenterWorld:
        return DatacenterWorld(site, Listed(windows), len(windows), **options)

    return make
