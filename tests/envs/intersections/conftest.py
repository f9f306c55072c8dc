"""Streets of scenes as a fixture: tests are imported without a package, so they cannot import one another."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def streets() -> ModuleType:
    """The module `streets.py`."""
    spec = importlib.util.spec_from_file_location("street_scenes", Path(__file__).with_name("streets.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
