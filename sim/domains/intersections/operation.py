"""A city operated: episodes driven by a controller or a policy, in our world or in SUMO."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedsched.agents.collect import GreedyActor
from fedsched.agents.mailbox import Traffic
from fedsched.agents.policy import Policy
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.envs.intersections.world import IntersectionsWorld
from fedsched.sim.domains.base import Episodes, FloatArray, Simulator
from fedsched.sim.domains.intersections.figures import FIGURES
from fedsched.sim.domains.intersections.worlds import CityWorlds
from fedsched.sim.domains.operation import Drive


@dataclass(frozen=True)
class Outcome:
    """What became of the operated rows of a city.

    Attributes:
        figures: Those of the domain, [rows] each.
        sent: Messages between the signals, over all rows.
    """

    figures: Mapping[str, FloatArray]
    sent: Traffic


class CityOperation:
    """The operated batch of a city: row b is the b-th episode, driven by a rule or by a policy."""

    def __init__(
        self, worlds: CityWorlds, episodes: Episodes, actor: str, policy: Policy | None, simulator: Simulator
    ) -> None:
        rows = len(episodes)
        self._actor: GreedyActor | None = None
        if policy is None:
            self.world, controller = worlds.controlled(actor, rows, simulator)
            controller.reset(self.world)
            act = controller.act
        else:
            self.world = worlds.world(rows, simulator)
            act = self._actor = GreedyActor(policy, self.world.spec, rows, self.world.device)
        self._drive = Drive(self.world, episodes, act)

    def advance(self, until_s: float) -> None:
        """Runs all rows to a moment of the clock, or to their end."""
        self._drive.advance(until_s)

    def outcome(self) -> Outcome:
        """Figures of every row until now."""
        sent = self._actor.traffic if self._actor is not None else Traffic()
        return Outcome(city_figures(self.world), sent)

    def close(self) -> None:
        """Ends SUMO's processes, where it has been SUMO."""
        if isinstance(self.world, SumoWorld):
            self.world.close()


def city_figures(world: IntersectionsWorld) -> dict[str, FloatArray]:
    """The domain's figures of a world until now, [rows] each."""
    found = {name: values.cpu().numpy().astype(np.float64) for name, values in world.metrics().items()}
    found["inserted"] = found["completed"] + found["running"]
    found["trips"] = found["inserted"] + found["never_inserted"]
    return {name: found[name] for name in FIGURES.names}
