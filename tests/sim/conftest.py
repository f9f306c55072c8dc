"""What the tests of sim share: typer imported once, and a scenario that runs in seconds."""

import copy
import importlib
import io
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsched.sim.progress import PlainProgress
from fedsched.sim.run import run
from fedsched.sim.scenario import Scenario
from fedsched.sim.site import Site
from fedsched.sim.workers import Workers, start

with warnings.catch_warnings():
    # typer 0.20 asks click for a name that click has deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    importlib.import_module("typer.testing")

LOADS = {"north": 1.6, "east": 1.2, "south": 0.3, "west": 0.2}


def _site(seed: int, load: float) -> dict[str, Any]:
    world = {
        "domain": "datacenter",
        "trace": "generated",
        "generator": {"processors": 24, "seed": seed},
        "clusters": [{"processors": 24}, {"processors": 12, "speed": 1.5}],
        "window": {"jobs": 60},
        "load": load,
        "carbon": "nyis-2022",
        "tariff": {"kind": "time-of-use", "seed": seed},
    }
    return {"world": world, "copies": 4, "weights": {"qos": 1.0}}


TINY: dict[str, Any] = {
    "version": 1,
    "name": "tiny",
    "sites": {name: _site(k, load) for k, (name, load) in enumerate(LOADS.items())},
    "agents": {"encoder": {"width": 8}, "ppo": {"rollouts": 4, "epochs": 1}},
    "federation": {"rounds": 2, "local_updates": 1, "secure_aggregation": {}},
    "plan": {"epoch": "3h", "data": {"median": "100 MB"}, "links": {"default": {"bandwidth": "10 Gbps"}}},
    "evaluation": {"every": 1, "windows": 2, "period": "12h", "validation": 2, "against": ["fcfs-easy"]},
}
"""Four generated centres of two clusters, two of them overloaded."""


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        old = base.get(key)
        base[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return base


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Scenario]:
    """Makes the tiny scenario with other values for some keys; `sites` of names keeps only these."""

    def make(*sites: str, **changes: Any) -> Scenario:
        text = _merge(copy.deepcopy(TINY), changes)
        if sites:
            text["sites"] = {name: text["sites"][name] for name in sites}
            text |= {"plan": None} if len(sites) < 4 else {}
            text["federation"] |= {"secure_aggregation": None} if len(sites) < 3 else {}
        return Scenario.model_validate(text)

    return make


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on many threads take long, and starting workers changes the number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def at_work() -> Iterator[Callable[[Scenario], Workers[Site]]]:
    """Starts the sites of a scenario in this process."""
    started: list[Workers[Site]] = []

    def begin(scenario: Scenario) -> Workers[Site]:
        sites = {name: partial(Site, scenario, name) for name in scenario.sites}
        started.append(start(sites, scenario.workers))
        return started[-1]

    yield begin
    for workers in started:
        workers.close()


@pytest.fixture(scope="session")
def finished(tiny: Callable[..., Scenario], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of the tiny scenario; not to be written into."""
    threads = torch.get_num_threads()
    folder = run(tiny(), tmp_path_factory.mktemp("runs") / "finished", None, PlainProgress(io.StringIO()))
    torch.set_num_threads(threads)
    return folder
