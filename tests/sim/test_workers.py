"""Sites in this process and on Ray: equal results, errors with the name of the site, one start for all tests."""

import os
import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch

from fedsched.sim import workers as workers_module
from fedsched.sim.errors import UserError
from fedsched.sim.scenario import Workers as Settings
from fedsched.sim.workers import RayWorkers, SiteError, Workers, WorkersError, start

LOCAL = Settings(backend="local")
RAY = Settings(backend="ray", cpus_per_site=0.5)


class Walk:
    """A small thing with a state: a random walk that averages with what it is told."""

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError("a seed below zero")
        self.generator = torch.Generator().manual_seed(seed)
        self.place = torch.zeros(4)

    def move(self, towards: np.ndarray, share: float) -> dict[str, np.ndarray]:
        self.place = (1 - share) * self.place + share * torch.tensor(towards)
        self.place += torch.randn(4, generator=self.generator)
        return {"place": self.place.numpy().copy()}

    def fail(self, kind: str) -> None:
        raise UserError("mend it") if kind == "user" else ZeroDivisionError("too small")

    def facts(self) -> tuple[int, int, str | None]:
        return os.getpid(), torch.get_num_threads(), os.environ.get("RAY_USAGE_STATS_ENABLED")


def factories(*seeds: int) -> dict[str, partial[Walk]]:
    return {f"site{k}": partial(Walk, seed) for k, seed in enumerate(seeds)}


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray for all tests; workers join it and leave it running."""
    first = workers_module._join_ray(6, Settings())
    assert first
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def local() -> Iterator[Workers[Walk]]:
    threads = torch.get_num_threads()
    with start(factories(1, 2, 3), LOCAL) as workers:
        yield workers
    torch.set_num_threads(threads)


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def both(request: pytest.FixtureRequest) -> Iterator[Workers[Walk]]:
    if request.param == "local":
        yield request.getfixturevalue("local")
        return
    request.getfixturevalue("ray_session")
    with start(factories(1, 2, 3), RAY) as workers:
        yield workers


def trajectory(workers: Workers[Walk]) -> list[np.ndarray]:
    mean = np.zeros(4, dtype=np.float32)
    seen = []
    for k in range(5):
        moved = workers.map("move", dict.fromkeys(workers.sites, (mean, 0.5)))
        assert list(moved) == list(workers.sites)
        mean = np.mean([result["place"] for result in moved.values()], axis=0)
        seen.append(mean)
        if k == 2:
            seen.append(workers.proxy("site1").move(mean, 0.25)["place"])
    return seen


@pytest.mark.ray
def test_results_on_ray_equal_those_in_process(local: Workers[Walk], ray_session: None) -> None:
    del ray_session
    with start(factories(1, 2, 3), RAY) as remote:
        for here, there in zip(trajectory(local), trajectory(remote), strict=True):
            np.testing.assert_array_equal(here, there)


def test_errors_carry_the_site_and_the_state_stays(both: Workers[Walk]) -> None:
    with pytest.raises(SiteError, match=r"site site1, fail: ZeroDivisionError: too small") as caught:
        both.map("fail", {"site1": ("other",), "site2": ("other",)})
    assert caught.value.site == "site1"
    assert caught.value.__cause__ is not None
    with pytest.raises(UserError, match="mend it"):
        both.call("site0", "fail", "user")
    with pytest.raises(SiteError, match="site site0, jump: AttributeError"):
        both.call("site0", "jump")
    assert both.call("site0", "move", np.zeros(4, dtype=np.float32), 0.0)["place"].shape == (4,)


def test_a_site_that_cannot_be_made_is_named(both: Workers[Walk]) -> None:
    settings = RAY if isinstance(both, RayWorkers) else LOCAL
    with pytest.raises(SiteError, match="site site1, start: ValueError: a seed below zero"):
        start(factories(1, -1), settings)


def test_threads_follow_the_share_and_telemetry_is_off(both: Workers[Walk]) -> None:
    pids = set()
    for pid, threads, usage in both.map("facts", dict.fromkeys(both.sites, ())).values():
        pids.add(pid)
        assert threads == 1
        assert usage == "0" or pid == os.getpid()
    assert len(pids) == (3 if isinstance(both, RayWorkers) else 1)
    assert (os.getpid() in pids) == (not isinstance(both, RayWorkers))


@pytest.mark.ray
def test_a_cluster_that_is_too_small_is_refused_not_waited_for(ray_session: None) -> None:
    del ray_session
    with pytest.raises(WorkersError, match=r"workers\.cpus_per_site: 2 sites need 2000 CPUs, the Ray cluster has"):
        start(factories(1, 2), Settings(backend="ray", cpus_per_site=1000))
    with pytest.raises(WorkersError, match=r"workers\.gpus_per_site: 2 sites need 2000 GPUs"):
        start(factories(1, 2), Settings(backend="auto", gpus_per_site=1000))


@pytest.mark.ray
def test_sites_that_find_no_room_are_named(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    del ray_session
    whole = Settings(backend="ray", cpus_per_site=6)
    with start(factories(1), RAY):
        monkeypatch.setattr(workers_module, "_PLACEMENT_S", 1.0)
        with pytest.raises(WorkersError, match="no room for site0 on the Ray cluster"):
            start(factories(1), whole)


def test_a_ray_that_does_not_start_is_tried_again_and_then_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    # whatever is set for a cluster here may not reach the other tests
    monkeypatch.setattr(workers_module, "_bring_token", lambda: None)

    attempts = []

    def refuse(**keywords: object) -> None:
        attempts.append(keywords)
        warnings.warn("Ray Client connection timed out. Ensure that ...", UserWarning, stacklevel=1)
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(workers_module.time, "sleep", lambda _: None)
    with pytest.raises(WorkersError, match="no Ray cluster answers at ray://nowhere:1"):
        start(factories(1), Settings(address="ray://nowhere:1"))
    assert [keywords["address"] for keywords in attempts] == ["ray://nowhere:1"]
    with pytest.raises(WorkersError, match="use `--workers local`"):
        start(factories(1), RAY)
    assert [keywords["address"] for keywords in attempts[1:]] == ["local"] * 3
    assert attempts[-1]["include_dashboard"] is False
    assert attempts[-1]["log_to_driver"] is False
