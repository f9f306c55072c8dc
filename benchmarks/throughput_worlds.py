"""What both sides of `benchmarks.throughput` have in common: the environments, timed inside, and the schedule.

It imports nothing but PettingZoo before an environment is made, as one side runs where nothing else is installed.
"""

import importlib
import time
from dataclasses import dataclass
from typing import Any

from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper

SPREAD, SPREAD_ARGUMENTS = "mpe2.simple_spread_v3", {"N": 3, "max_cycles": 25, "continuous_actions": False}
CLUSTERS, JOBS = (256, 128, 128), 128
"""The site of the world of ours: machines by their processors, and jobs of an episode."""
FRAMES, WIDTH = 1600, 64
"""Steps of the environment that an update of the third-party world learns from, and units of each of two layers."""
EPOCHS, MINIBATCHES = 5, 4
GAMMA, LAMBDA, LEARNING_RATE, CLIP, ENTROPY, VALUE, GRADIENT_NORM = 0.9, 0.95, 1e-3, 0.2, 0.003, 0.5, 10.0


@dataclass
class Clock:
    """CPU seconds of this process spent inside of environments so far."""

    seconds: float = 0.0


class Timed(BaseParallelWrapper):
    """An environment that says how long its own `reset` and `step` take."""

    def __init__(self, env: ParallelEnv, clock: Clock) -> None:
        """Adds what they take to `clock`."""
        super().__init__(env)
        self._clock = clock

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """As the environment does."""
        begin = time.process_time()
        found = self.env.reset(seed, options)
        self._clock.seconds += time.process_time() - begin
        return found

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """As the environment does."""
        begin = time.process_time()
        found = self.env.step(actions)
        self._clock.seconds += time.process_time() - begin
        return found


class MasksAlone(BaseParallelWrapper):
    """Infos hold the action mask alone: TorchRL makes tensors of all that they hold, and knows no nested ones."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """As the environment does, with less in its infos."""
        seen, infos = self.env.reset(seed, options)
        return seen, _masks(infos)

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """As the environment does, with less in its infos."""
        seen, rewards, terminated, truncated, infos = self.env.step(actions)
        return seen, rewards, terminated, truncated, _masks(infos)


def _masks(infos: dict[str, Any]) -> dict[str, Any]:
    return {agent: {"action_mask": info["action_mask"]} for agent, info in infos.items()}


def make_spread(clock: Clock) -> ParallelEnv:
    """A copy of the environment that nobody here wrote."""
    return Timed(importlib.import_module(SPREAD).parallel_env(**SPREAD_ARGUMENTS), clock)


def make_datacenter(clock: Clock) -> ParallelEnv:
    """A copy of the world of ours as a PettingZoo environment, observations flat."""
    env = importlib.import_module("fedsched.envs.datacenter").parallel_env(
        clusters=list(CLUSTERS), jobs=JOBS, flatten=True
    )
    return Timed(MasksAlone(env), clock)


MAKE = {"spread": make_spread, "datacenter": make_datacenter}
"""The environments by name."""
