"""The toy world as a fixture: tests are imported without a package, so they cannot import one another."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOY = Path(__file__).with_name("toy.py")


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module `toy.py`."""
    spec = importlib.util.spec_from_file_location("toy_world", TOY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
