"""Toys as fixtures: tests are imported without a package, so they cannot import one another."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module `toy.py`: a world."""
    return _module("toy")


@pytest.fixture(scope="session")
def yard() -> ModuleType:
    """The module `yard.py`: a PettingZoo environment."""
    return _module("yard")


@pytest.fixture(scope="session")
def probe() -> ModuleType:
    """The module `probe.py`: a PettingZoo environment with faults that PettingZoo's own tests let pass."""
    return _module("probe")


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
