"""From a scenario to a city: its problem, its episodes, and what the classical controllers do in them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import torch

from fedsched.agents.collect import play
from fedsched.envs.core import Controller, World, WorldError, stream
from fedsched.envs.intersections import controllers
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.planned import PlannedWorld
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.programs import green_wave, webster
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.envs.intersections.world import IntersectionsWorld
from fedsched.sim.domains.base import Episodes, Simulator, Split
from fedsched.sim.domains.intersections.city import read_city
from fedsched.sim.domains.intersections.splits import demands_of, seed_of
from fedsched.sim.errors import WorldSetupError
from fedsched.sim.scenario import IntersectionsWorld as WorldSettings
from fedsched.sim.scenario import Scenario, as_kind
from fedsched.sim.scenario.marks import Finding

Figures = dict[str, torch.Tensor]
"""A world's metrics, float64 [rows] each."""

_CONTROLLERS: dict[str, Callable[[], Controller]] = {
    "sotl": controllers.Sotl,
    "max-pressure": controllers.max_pressure,
    "max-pressure-all": lambda: controllers.max_pressure("all"),
    "greedy": controllers.greedy,
}
_PROGRAMS: dict[str, Callable[[Problem], Problem]] = {
    "program": lambda problem: problem,
    "actuated": lambda problem: problem,
    "webster": webster,
    "green-wave": green_wave,
}
RULES = (*_PROGRAMS, *_CONTROLLERS)
"""The classical controllers that `best-rule` is chosen from."""


class CityWorlds:
    """The worlds of one city, and what the classical controllers do in them.

    Args:
        scenario: The whole scenario.
        name: The site.
        device: Where its worlds live.

    Raises:
        WorldSetupError: A city that cannot be used.
    """

    def __init__(self, scenario: Scenario, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device
        self.settings = as_kind(scenario.sites[name].world, WorldSettings)
        self._order = list(scenario.sites).index(name)
        self._seed, self._validation = scenario.seed, scenario.evaluation.validation
        with self.blame():
            self.problem, self._apart, self.districts = self.streets()

    def streets(self) -> tuple[Problem, int, Districts | None]:
        """The streets of the worlds, how many demands never train, and the districts whose gates they have."""
        city = read_city(self.settings, self._seed)
        return city.problem, city.apart, None

    @contextmanager
    def blame(self) -> Iterator[None]:
        """Says of an error of the domain that it comes from this site's city."""
        try:
            yield
        except WorldError as error:
            raise WorldSetupError([Finding(("sites", self.name, "world", "city"), str(error))]) from error

    def world(self, batch: int, simulator: Simulator = "own") -> IntersectionsWorld | PlannedWorld:
        """A batch in which signals decide as the scenario says, beside planners if it has some."""
        streets, hierarchy = self.bare(batch, simulator), self.settings.hierarchy
        return streets if hierarchy is None else PlannedWorld(streets, round(hierarchy.period))

    def bare(self, batch: int, simulator: Simulator = "own") -> IntersectionsWorld:
        """The same without planners."""
        return self._in(simulator, self.problem, batch, self.settings.timing)

    def draw(self, split: Split, count: int, *keys: int) -> Episodes:
        """Demands of a split, each with its own random numbers; those of tests do not depend on the seed of the run."""
        first, last = demands_of(split, len(self.problem.demands), self._apart)
        seed = 0 if split == "test" else self._seed
        drawn = stream(seed, f"sim/{split}", self._order, *keys).integers(1 << 31, size=count)
        numbers = torch.as_tensor(drawn, device=self.device)
        places = torch.arange(count, device=self.device) if split == "test" else numbers
        seeds = numbers if self.settings.variation is None else seed_of(split, numbers)
        return Episodes(first + places % (last - first), seeds)

    def controlled(self, rule: str, batch: int, simulator: Simulator = "own") -> tuple[IntersectionsWorld, Controller]:
        """A world and what drives it under a rule; programs have worlds in which nobody decides."""
        if rule in _PROGRAMS:
            problem = _PROGRAMS[rule](self.problem)
            timing = "actuated" if rule == "actuated" else "program"
            return self._in(simulator, problem, batch, timing), controllers.ProgramController()
        return self.bare(batch, simulator), _CONTROLLERS[rule]()

    def _in(self, simulator: Simulator, problem: Problem, batch: int, timing: str) -> IntersectionsWorld:
        if simulator == "sumo":
            return SumoWorld(problem, batch, timing, self.districts)
        return IntersectionsWorld(problem, batch, timing, self.device, districts=self.districts)

    def rule(self, rule: str, episodes: Episodes) -> Figures:
        """What a rule makes of episodes."""
        world, controller = self.controlled(rule, len(episodes))
        return play_rule(world, controller, episodes)

    @cached_property
    def validation(self) -> tuple[Episodes, dict[str, Figures]]:
        """The validation episodes, and what each rule makes of them."""
        episodes = self.draw("validation", self._validation)
        return episodes, {rule: self.rule(rule, episodes) for rule in RULES}

    @cached_property
    def best_rule(self) -> str:
        """The rule with the least mean delay (RESCO's) on the validation episodes."""
        _, found = self.validation
        return min(RULES, key=lambda rule: float(found[rule]["resco_delay_s"].mean()))


def play_rule(world: World, controller: Controller, episodes: Episodes) -> Figures:
    """The metrics of episodes that a controller has driven to their end."""
    controller.reset(world)
    return play(world, episodes.instances, episodes.seeds, controller.act)
