"""Who drives a map's signals: classical controllers, trained policies, linear scores."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.resco.checkpoints import digest, load
from fedsched.agents.population import set_linear_weights
from fedsched.envs.core import Controller
from fedsched.envs.intersections.world import KIND, IntersectionsWorld, world_spec
from fedsched.sim.domains.base import FloatArray, Simulator
from fedsched.sim.domains.intersections.worlds import CityWorlds
from fedsched.sim.scenario import Scenario
from fedsched.sim.trained import TrainedPolicy
from fedsched.sim.training import make_policy


class Actor(Protocol):
    """Something that drives signals; the digest changes with what it does."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256."""
        ...

    def enter(self, city: CityWorlds, rows: int, simulator: Simulator) -> tuple[IntersectionsWorld, Controller]:
        """A batch of worlds and what drives it, reset to that batch."""
        ...


@dataclass(frozen=True)
class Rule:
    """A classical controller by the name that scenarios give it."""

    name: str

    @property
    def digest(self) -> str:
        """Of its name: controllers have no parameters."""
        return hashlib.sha256(f"rule {self.name}".encode()).hexdigest()

    def enter(self, city: CityWorlds, rows: int, simulator: Simulator) -> tuple[IntersectionsWorld, Controller]:
        """The worlds that the rule is for: programs have some in which nobody decides."""
        world, controller = city.controlled(self.name, rows, simulator)
        controller.reset(world)
        return world, controller


@dataclass(frozen=True)
class Learned:
    """The policy of a checkpoint."""

    name: str
    path: Path

    @property
    def digest(self) -> str:
        """Of the file."""
        return digest(self.path)

    def enter(self, city: CityWorlds, rows: int, simulator: Simulator) -> tuple[IntersectionsWorld, Controller]:
        """The likeliest action, always."""
        return _entered(city, rows, simulator, load(self.path).policy())


@dataclass(frozen=True, eq=False)
class Linear:
    """The scenario's untrained policy with linear scores [n] of its own."""

    name: str
    scenario: Scenario = field(repr=False)
    weights: FloatArray = field(repr=False)

    @property
    def digest(self) -> str:
        """Of the scores as the policy holds them."""
        return hashlib.sha256(np.ascontiguousarray(self.weights, dtype="<f4").tobytes()).hexdigest()

    def enter(self, city: CityWorlds, rows: int, simulator: Simulator) -> tuple[IntersectionsWorld, Controller]:
        """The phase of the highest score, always."""
        policy = make_policy(self.scenario, world_spec(city.problem))
        set_linear_weights(policy, KIND, self.weights)
        return _entered(city, rows, simulator, TrainedPolicy(self.name, policy))


def _entered(
    city: CityWorlds, rows: int, simulator: Simulator, controller: TrainedPolicy
) -> tuple[IntersectionsWorld, Controller]:
    world = city.world(rows, simulator)
    controller.reset(world)
    return world, controller
