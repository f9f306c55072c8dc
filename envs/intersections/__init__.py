"""Intersections: signals of a road network with the traffic of SUMO's rules.

Importing this registers `fedsched/intersections-v0` with PettingZoo, and nothing heavy before an environment is made.
"""

from typing import TYPE_CHECKING

import pettingzoo

if TYPE_CHECKING:
    from fedsched.envs.intersections.env import parallel_env

__all__ = ["parallel_env"]

ENVIRONMENT = "fedsched/intersections-v0"
"""Id of the PettingZoo environment."""

if ENVIRONMENT not in pettingzoo.parallel_registry:
    # not through envs.core.pettingzoo, which imports torch
    pettingzoo.register("parallel", ENVIRONMENT, "fedsched.envs.intersections.env:parallel_env")


def __getattr__(name: str) -> object:
    if name == "parallel_env":
        from fedsched.envs.intersections.env import parallel_env

        return parallel_env
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
