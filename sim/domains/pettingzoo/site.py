"""A foreign environment as a run sees it: judged by its mean return, against the better of two rules."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch

from fedsched.agents.collect import evaluate, play
from fedsched.agents.policy import Policy
from fedsched.agents.population import play_population
from fedsched.agents.rollout import Reference
from fedsched.envs.core import Controller, WorldError, WorldSpec, stream
from fedsched.envs.core.entry_point import ArgumentsError
from fedsched.envs.core.foreign import ForeignWorld, foreign_world
from fedsched.envs.core.foreign_layout import NeighbourError
from fedsched.sim.domains.base import Episodes, FloatArray, Judgement, Simulator, Split
from fedsched.sim.domains.pettingzoo.operation import ForeignOperation
from fedsched.sim.domains.pettingzoo.rules import RULES, controller
from fedsched.sim.errors import WorldSetupError
from fedsched.sim.scenario import PettingZooWorld, Scenario, as_kind
from fedsched.sim.scenario.marks import Finding


class ForeignSite:
    """The worlds of one site (contract: `fedsched.sim.domains.base.SiteWorlds`).

    Args:
        scenario: The whole scenario.
        name: The site.

    Raises:
        WorldSetupError: An environment that cannot be built or used.
    """

    def __init__(self, scenario: Scenario, name: str) -> None:
        self.name, self.device = name, "cpu"
        self._settings = as_kind(scenario.sites[name].world, PettingZooWorld)
        self._order = list(scenario.sites).index(name)
        self._seed, self._validation = scenario.seed, scenario.evaluation.validation
        self._search = scenario.agents.search
        self._kept: dict[str, ForeignWorld] = {}
        with self.blame():
            self.spec = spec_of_world(self._settings)

    @contextmanager
    def blame(self) -> Iterator[None]:
        """Says of an error of the environment which key of the world it comes from."""
        try:
            yield
        except WorldError as error:
            keys = {ArgumentsError: "arguments", NeighbourError: "neighbours"}
            place = ("sites", self.name, "world", keys.get(type(error), "entry_point"))
            raise WorldSetupError([Finding(place, str(error))]) from error

    def world(self, batch: int) -> ForeignWorld:
        """A batch of copies, in worker processes where the scenario says so."""
        return _world(self._settings, batch)

    def draw(self, split: Split, count: int, *keys: int) -> Episodes:
        """Seeds of a split; those of tests do not depend on the seed of the run."""
        seed = 0 if split == "test" else self._seed
        drawn = stream(seed, f"sim/{split}", self._order, *keys).integers(1 << 31, size=count)
        return Episodes(torch.zeros(count, dtype=torch.int64), torch.from_numpy(drawn))

    def reference(self, episodes: Episodes) -> Reference | None:
        """Nothing: rewards have one part, and no bound."""
        del episodes
        return None

    def teacher(self, name: str) -> Controller:
        """Never asked for: the scenario has been checked to name none."""
        return controller(name)

    def judge(self, policy: Policy) -> Judgement:
        """The greedy policy's mean return on the validation episodes, against the best rule's.

        A return may have either sign, so the score is 1 less the gain over the rule in units of the rule's mean return,
        or of its spread between episodes where that is larger. Where both returns are negative costs larger than their
        spread, that is their ratio.
        """
        episodes, found = self.validation
        gained = evaluate(policy, self._world("validation", len(episodes)), episodes.instances, episodes.seeds)
        rule = found[self.best_rule]
        size = max(abs(float(rule.mean())), float(rule.std()), 1e-9)
        cost = 1.0 - (gained["return"] - rule) / size
        noise = float(cost.std() / len(episodes) ** 0.5)
        return Judgement(float(cost.mean()), noise, {"cost": float(cost.mean())}, self.best_rule)

    @cached_property
    def validation(self) -> tuple[Episodes, dict[str, torch.Tensor]]:
        """The validation episodes, and the return, float64 [n], of each rule in them."""
        episodes = self.draw("validation", self._validation)
        return episodes, {rule: self._returns(rule, episodes) for rule in RULES}

    @cached_property
    def best_rule(self) -> str:
        """The rule with the highest mean return on the validation episodes."""
        _, found = self.validation
        return max(RULES, key=lambda rule: float(found[rule].mean()))

    def trial(self, policy: Policy, candidates: FloatArray, generation: int) -> FloatArray:
        """Costs [P] of linear scores [P, n] on fresh training episodes: less the return, where that is lowest."""
        assert self._search is not None
        windows = self._search.windows
        episodes = self.draw("train", windows, generation, 1)
        world = self._world("search", len(candidates) * windows)
        found = play_population(policy, candidates, world, episodes.instances, episodes.seeds)
        lowest = (-found["return"]).topk(math.ceil(self._search.worst * windows), dim=1)
        return np.asarray(lowest.values.mean(1).numpy())

    def operate(
        self, split: Split, rows: int, actor: str, policy: Policy | None, simulator: Simulator
    ) -> ForeignOperation:
        """Starts the first `rows` episodes of a split; the actor is a rule's name or `policy`."""
        del simulator  # the environment is its own: `fedsched.sim.evaluate` refuses others
        return ForeignOperation(self.world(rows), self.draw(split, rows), actor, policy)

    def _returns(self, rule: str, episodes: Episodes) -> torch.Tensor:
        world, acting = self._world("validation", len(episodes)), controller(rule)
        acting.reset(world)
        return play(world, episodes.instances, episodes.seeds, acting.act)["return"]

    def _world(self, purpose: str, batch: int) -> ForeignWorld:
        if purpose not in self._kept:
            self._kept[purpose] = self.world(batch)
        return self._kept[purpose]


def spec_of_world(settings: PettingZooWorld) -> WorldSpec:
    """The spec of the world that settings stand for; what one of them costs to build is paid once.

    Raises:
        WorldError: An environment that cannot be built or used.
    """
    key = settings.model_dump_json()
    if key not in _SPECS:
        with _world(settings, 1) as world:
            _SPECS[key] = world.spec
    return _SPECS[key]


_SPECS: dict[str, WorldSpec] = {}


def _world(settings: PettingZooWorld, batch: int) -> ForeignWorld:
    workers = 0 if batch == 1 else min(settings.workers, batch)
    return foreign_world(
        settings.entry_point, settings.arguments, batch, workers, settings.neighbours, settings.numbered, settings.limit
    )
