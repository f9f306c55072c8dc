"""A city as a run sees it: judged by delay, against the best of the classical controllers."""

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fedsched.agents.collect import evaluate
from fedsched.agents.policy import Policy
from fedsched.agents.population import play_population
from fedsched.agents.rollout import Reference
from fedsched.envs.core import World, WorldSpec, part_of
from fedsched.envs.intersections.chains import find_chains
from fedsched.envs.intersections.cutout import cut_out
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.entrances import in_cut_out
from fedsched.envs.intersections.planned import PlannedWorld
from fedsched.envs.intersections.planned_view import planned_spec
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.teachers import SeenPressure
from fedsched.envs.intersections.viewer import RecordedWorld, make_picture
from fedsched.envs.intersections.world import world_spec
from fedsched.sim.domains.base import Episodes, FloatArray, Judgement, Scene, Simulator, Split
from fedsched.sim.domains.intersections.city import districts_in, read_city
from fedsched.sim.domains.intersections.operation import CityOperation
from fedsched.sim.domains.intersections.worlds import CityWorlds
from fedsched.sim.scenario import Scenario

if TYPE_CHECKING:
    import torch


class CitySite(CityWorlds):
    """The worlds of a city (contract: `fedsched.sim.domains.base.SiteWorlds`)."""

    def __init__(self, scenario: Scenario, name: str, device: str = "cpu") -> None:
        self._shared_spec: WorldSpec | None = None
        super().__init__(scenario, name, device)
        self._search = scenario.agents.search
        self._kept: dict[str, World] = {}

    def streets(self) -> tuple[Problem, int, Districts | None]:
        """A district's are its cut-out: it sees the gates that it has in the whole."""
        if self.settings.district is None:
            return super().streets()
        number = self.settings.district.number - 1
        city = read_city(self.settings, self._seed)
        whole, districts = city.problem, districts_in(self.settings, city)
        self._shared_spec = part_of(world_spec(whole, districts), number)
        local = cut_out(whole, districts, districts.names[number])
        return local, city.apart, in_cut_out(whole, districts, local)

    @property
    def shared_spec(self) -> WorldSpec:
        """What is static about a district's own signals in the whole city."""
        assert self._shared_spec is not None, "the site is a district"
        return self._shared_spec

    @property
    def spec(self) -> WorldSpec:
        """What is static about its worlds."""
        spec = world_spec(self.problem)
        return spec if self.settings.hierarchy is None else planned_spec(spec, find_chains(self.problem))

    def reference(self, episodes: Episodes) -> Reference | None:
        """Nothing: costs are rates of the same streets in all rows of a group."""
        del episodes
        return None

    def teacher(self, name: str) -> SeenPressure:
        """A signal controller that reads the observation."""
        return SeenPressure(name)

    def judge(self, policy: Policy) -> Judgement:
        """The greedy policy's mean delay on the validation episodes, relative to the best rule's."""
        episodes, found = self.validation
        figures = evaluate(policy, self._world("validation", len(episodes)), episodes.instances, episodes.seeds)
        rule = found[self.best_rule]
        difference = (figures["resco_delay_s"] - rule["resco_delay_s"]) / rule["resco_delay_s"].mean()
        delay = float(1.0 + difference.mean())
        return Judgement(
            score=delay,
            noise=float(difference.std() / len(episodes) ** 0.5),
            ratios={"delay": delay, "queue": float(figures["queue"].mean() / rule["queue"].mean().clamp(min=1e-9))},
            rule=self.best_rule,
        )

    def trial(self, policy: Policy, candidates: FloatArray, generation: int) -> FloatArray:
        """Costs [P] of linear scores [P, n] on fresh training episodes.

        The mean of the logarithm of the delay, over the share of episodes where it is highest.
        """
        assert self._search is not None
        windows = self._search.windows
        episodes = self.draw("train", windows, generation, 1)
        world = self._world("search", len(candidates) * windows)
        figures = play_population(policy, candidates, world, episodes.instances, episodes.seeds)
        delay: torch.Tensor = figures["resco_delay_s"].clamp(min=1e-3).log()
        worst = math.ceil(self._search.worst * windows)
        return np.asarray(delay.topk(worst, dim=1).values.mean(1).cpu().numpy())

    def operate(
        self, split: Split, rows: int, actor: str, policy: Policy | None, simulator: Simulator
    ) -> CityOperation:
        """Starts the first `rows` episodes of a split; the actor is a rule's name or `policy`."""
        return CityOperation(self, self.draw(split, rows), actor, policy, simulator)

    def replay(self, split: Split, policy: Policy, every_s: int) -> list[Scene]:
        """The first episode of a split under a policy: the streets, then what moves on them."""
        episodes, streets, hierarchy = self.draw(split, 1), self.bare(1), self.settings.hierarchy
        recorded = RecordedWorld(streets, every_s)
        world: World = recorded
        if hierarchy is not None:
            world = PlannedWorld(streets, round(hierarchy.period), through=recorded)
        evaluate(policy, world, episodes.instances, episodes.seeds)
        picture = msgspec.msgpack.encode(make_picture(self.problem))
        frames = [Scene(frame.time_s, "frame", frame.encode()) for frame in recorded.frames]
        return [Scene(0.0, "picture", picture), *frames]

    def _world(self, purpose: str, batch: int) -> World:
        if purpose not in self._kept:
            self._kept[purpose] = self.world(batch)
        return self._kept[purpose]
