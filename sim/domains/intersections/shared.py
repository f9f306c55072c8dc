"""A city whose districts are the sites: one world of the whole network, in which each acts for its own signals."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import torch

from fedsched.agents.collect import idle_actions
from fedsched.agents.mailbox import Traffic
from fedsched.envs.core import Delivery, Lot, Observation, put_together, tokens_of
from fedsched.envs.intersections.district_metrics import of_districts
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.exchange import DistrictExchange, Market
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.sim.domains.base import Episodes, FloatArray, Simulator, Split
from fedsched.sim.domains.intersections.city import districts_in, read_city
from fedsched.sim.domains.intersections.figures import FIGURES
from fedsched.sim.domains.intersections.operation import Outcome, city_figures
from fedsched.sim.domains.intersections.worlds import CityWorlds
from fedsched.sim.domains.operation import Drive
from fedsched.sim.domains.sharing import Decide
from fedsched.sim.scenario import Scenario
from fedsched.sim.scenario.city import districts_of
from fedsched.sim.table import ALL_SITES


class SharedCity(CityWorlds):
    """The worlds of a whole city (contract: `fedsched.sim.domains.sharing.SharedWorlds`)."""

    def __init__(self, scenario: Scenario, device: str = "cpu") -> None:
        super().__init__(scenario, next(iter(scenario.sites)), device)
        self._homes = districts_of(scenario.sites)
        market = scenario.plan.market if scenario.plan is not None else None
        self._market = (
            Market() if market is None else Market(market.delay_value, market.pace, market.fill, market.least)
        )

    def streets(self) -> tuple[Problem, int, Districts | None]:
        """The whole network and its districts."""
        city = read_city(self.settings, self._seed)
        return city.problem, city.apart, districts_in(self.settings, city)

    @property
    def horizon_s(self) -> float:
        """The length of an episode."""
        return float(self.problem.seconds)

    def operate(
        self, split: Split, rows: int, actor: str, decide: Decide | None, simulator: Simulator
    ) -> "SharedOperation":
        """Starts the first `rows` episodes of a split."""
        return SharedOperation(self, self._homes, self._market, self.draw(split, rows), actor, decide, simulator)


class SharedOperation:
    """The operated batch of a city, driven by a rule as a whole, or by the policy of each district for its signals.

    Args:
        worlds: Of the city.
        homes: Number of each site's district.
        market: In which they trade.
        episodes: One for each row.
        actor: The rule.
        decide: Asks the sites for actions, instead of the rule.
        simulator: What runs the episodes.
    """

    def __init__(
        self,
        worlds: SharedCity,
        homes: Mapping[str, int],
        market: Market,
        episodes: Episodes,
        actor: str,
        decide: Decide | None,
        simulator: Simulator,
    ) -> None:
        rows, self._homes, self._decide = len(episodes), homes, decide
        if decide is None:
            self.world, controller = worlds.controlled(actor, rows, simulator)
            controller.reset(self.world)
            act = controller.act
        else:
            self.world, act = worlds.bare(rows, simulator), self._ask
        self._idle = idle_actions(self.world.spec, rows, self.world.device)
        districts = self.world.districts
        assert districts is not None, "a shared city has some"
        names = {site: districts.names[number] for site, number in homes.items()}
        self._exchange = {
            site: DistrictExchange(self.world.problem, districts, name, market) for site, name in names.items()
        }
        self._names = names
        self._drive = Drive(self.world, episodes, act)

    def advance(self, until_s: float) -> None:
        """Runs all rows to a moment of the clock, or to their end."""
        self._drive.advance(until_s)

    def lots(self, window: tuple[int, int]) -> dict[str, list[list[Lot]]]:
        """What each row of each site offers and asks for in the coming epoch."""
        rows = range(self.world.batch)
        return {site: [own.lots(self.world, row, window) for row in rows] for site, own in self._exchange.items()}

    def keep(
        self,
        row: int,
        window: tuple[int, int],
        deliveries: Mapping[str, list[Delivery]],
        parties: Collection[str],
    ) -> None:
        """Sets the limits of all districts for the epoch."""
        bound = [self._names[site] for site in parties]
        for site, own in self._exchange.items():
            mine = [replace(one, peer=self._names[one.peer]) for one in deliveries.get(site, [])]
            own.keep(self.world, row, window, mine, bound)

    def outcomes(self) -> dict[str, Outcome]:
        """Figures of every district and of the city until now, [rows]; `figures` says what counts in a district."""
        parts = {name: values.cpu().numpy() for name, values in of_districts(self.world).items()}
        found = {site: Outcome(_figures(parts, number), Traffic()) for site, number in self._homes.items()}
        return {**found, ALL_SITES: Outcome(city_figures(self.world), Traffic())}

    def close(self) -> None:
        """Ends SUMO's processes, where it has been SUMO."""
        if isinstance(self.world, SumoWorld):
            self.world.close()

    def _ask(self, observation: Observation) -> dict[str, torch.Tensor]:
        """The actions of all signals, each from the site that it belongs to."""
        assert self._decide is not None
        spec = self.world.spec
        told = self._decide({site: tokens_of(spec, observation, number) for site, number in self._homes.items()})
        return put_together(spec, {self._homes[site]: dict(actions) for site, actions in told.items()}, self._idle)


def _figures(parts: Mapping[str, FloatArray], number: int) -> dict[str, FloatArray]:
    """A district's figures; not a number where only the city has one."""
    rows = len(parts["lost_s"])
    own = {name: values[:, number] for name, values in parts.items()}
    known = {name: np.full(rows, np.nan) for name in FIGURES.names}
    for name in ("queue", "completed", "inserted", "running", "never_inserted"):
        known[name] = own[name]
    visits = np.maximum(1.0, own["visits"])
    return known | {"trips": own["visits"], "resco_delay_s": own["lost_s"] / visits}
