"""Data centres: queues of parallel jobs before clusters, on real or generated logs.

Importing this registers `fedsched/datacenter-v0` with PettingZoo, and nothing heavy before an environment is made.
"""

import importlib
from typing import TYPE_CHECKING

import pettingzoo

if TYPE_CHECKING:
    from fedsched.envs.datacenter.controllers import RuleController
    from fedsched.envs.datacenter.env import parallel_env
    from fedsched.envs.datacenter.make import draw_instances, make_world
    from fedsched.envs.datacenter.model import Cluster

__all__ = ["parallel_env", "make_world", "draw_instances", "Cluster", "RuleController"]

_HOMES = {
    "parallel_env": "env",
    "make_world": "make",
    "draw_instances": "make",
    "Cluster": "model",
    "RuleController": "controllers",
}
"""Modules of the public names; they are imported when a name is first asked for."""
ENVIRONMENT = "fedsched/datacenter-v0"
"""Id of the PettingZoo environment."""

if ENVIRONMENT not in pettingzoo.parallel_registry:
    # not through envs.core.pettingzoo, which imports torch
    pettingzoo.register("parallel", ENVIRONMENT, "fedsched.envs.datacenter.env:parallel_env")


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
