"""Data centres as a domain (contract: `fedsched.sim.domains.base.Domain`)."""

import math
from collections.abc import Mapping

from fedsched.agents.network import SoftRule
from fedsched.envs.core import WorldSpec
from fedsched.envs.datacenter.model import Cluster, SiteModel
from fedsched.envs.datacenter.world import site_spec
from fedsched.sim.domains.base import FloatArray, Notice, Simulator, check_sites
from fedsched.sim.domains.datacenter.operation import Outcome, figures_at_home
from fedsched.sim.domains.datacenter.site import DatacenterSite
from fedsched.sim.domains.datacenter.worlds import DatacenterWorlds, plays_windows, soft_rule
from fedsched.sim.errors import UserError
from fedsched.sim.scenario import Scenario

DRAIN = 1.0
"""Periods of drain after the period of arrivals, so that all work of the period is done and paid for."""


class DatacenterDomain:
    """Queues of jobs before clusters."""

    name = "datacenter"

    def site(self, scenario: Scenario, name: str, device: str = "cpu") -> DatacenterSite:
        """The worlds of a site."""
        return DatacenterSite(scenario, name, device)

    def check(self, scenario: Scenario) -> list[Notice]:
        """Tries every log and window that the run will need.

        Returns:
            What was done with jobs that are too wide, for the sites that have some.

        Raises:
            WorldSetupError: All sites whose worlds cannot be built or have an empty or unfit window.
        """
        return check_sites(scenario, lambda name: _check_site(scenario, DatacenterWorlds(scenario, name)))

    def check_simulator(self, scenario: Scenario, simulator: Simulator) -> None:
        """There is none but ours."""
        raise UserError(
            f"--simulator {simulator}: {scenario.name} has data centres, which only fedsched itself simulates"
        )

    def policy_spec(self, scenario: Scenario) -> WorldSpec:
        """Of a site with one cluster: features are the same at all."""
        del scenario
        return site_spec(SiteModel((Cluster(1),)))

    def soft_rules(self, start: str) -> dict[str, SoftRule]:
        """The soft rule that ranks jobs as `start` does."""
        return soft_rule(start)

    def horizon_s(self, scenario: Scenario) -> float:
        """The period and its drain; windows of a published protocol run until their jobs have ended."""
        return math.inf if plays_windows(scenario) else scenario.evaluation.period * (1.0 + DRAIN)

    def figures(self, outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, FloatArray]]:
        """Figures by site, waits and slowdowns of handed-over jobs counted at their home site."""
        return figures_at_home(outcomes)


def _check_site(scenario: Scenario, worlds: DatacenterWorlds) -> list[Notice]:
    drawn = [
        *worlds.draw("train", 1, 0).instances.tolist(),
        *worlds.draw("validation", scenario.evaluation.validation).instances.tolist(),
    ]
    with worlds.blame_log():
        for instance in drawn:
            worlds.training.window(instance)
        periods = [worlds.periods.window(worlds.period("test", k)) for k in range(scenario.evaluation.windows)]
    wide, jobs = worlds.too_wide
    if not wide:
        return []
    test, trace, rule = sum(period.dropped for period in periods), worlds.training.name, worlds.settings.too_wide
    line = (
        f"{worlds.name}: {wide} of {jobs} jobs of {trace} are wider than every cluster, too_wide: {rule}; "
        f"{test} dropped from the test periods"
    )
    facts = {"site": worlds.name, "trace": trace, "rule": rule, "jobs": wide, "of": jobs, "test": test}
    return [Notice("too_wide", line, facts)]


DOMAIN = DatacenterDomain()
