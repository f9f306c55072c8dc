"""Foreign environments as a domain (contract: `fedsched.sim.domains.base.Domain`)."""

import math
from collections.abc import Iterable, Mapping

from fedsched.agents.decisions import AgentError
from fedsched.agents.network import SoftRule
from fedsched.agents.sharing import Union
from fedsched.envs.core import KindSpec, WorldSpec
from fedsched.envs.core.episodes import play
from fedsched.sim.domains.base import FloatArray, Notice, Simulator
from fedsched.sim.domains.pettingzoo.operation import Outcome
from fedsched.sim.domains.pettingzoo.site import ForeignSite, spec_of_world
from fedsched.sim.errors import UserError, WorldSetupError
from fedsched.sim.scenario import PettingZooWorld, Scenario, as_kind
from fedsched.sim.scenario.marks import Finding

TRIAL = 5
"""Steps of random actions that each environment has to pass before a run."""


class ForeignDomain:
    """PettingZoo parallel environments."""

    name = "pettingzoo"

    def site(self, scenario: Scenario, name: str, device: str = "cpu") -> ForeignSite:
        """The worlds of a site; on the CPU, which the scenario has been checked to ask for."""
        del device
        return ForeignSite(scenario, name)

    def check(self, scenario: Scenario) -> list[Notice]:
        """Builds and steps every environment.

        Raises:
            WorldSetupError: Environments that cannot be built or used, or whose agents do not look alike.
        """
        found: list[Finding] = []
        sites: list[ForeignSite] = []
        for name in scenario.sites:
            try:
                site = ForeignSite(scenario, name)
                with site.blame(), site.world(1) as world:
                    play(world, [(0, scenario.seed)], TRIAL)
                sites.append(site)
            except WorldSetupError as error:
                found += error.found
        found += _unlike(sites)
        if sites and scenario.agents.search is not None:
            found += _not_searched(sites[0].spec)
        if sites and scenario.agents.sharing == "all":
            found += _not_shared(sites[0].spec)
        if found:
            raise WorldSetupError(found)
        return []

    def check_simulator(self, scenario: Scenario, simulator: Simulator) -> None:
        """There is none but the environment."""
        raise UserError(f"--simulator {simulator}: {scenario.name} has foreign environments, which simulate themselves")

    def policy_spec(self, scenario: Scenario) -> WorldSpec:
        """The first site's: all have equal kinds and features."""
        return spec_of_world(as_kind(next(iter(scenario.sites.values())).world, PettingZooWorld))

    def soft_rules(self, start: str) -> dict[str, SoftRule]:
        """None: nothing is known of the features."""
        del start
        return {}

    def horizon_s(self, scenario: Scenario) -> float:
        """Episodes run to their end."""
        del scenario
        return math.inf

    def figures(self, outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, FloatArray]]:
        """Each site's own."""
        return {site: dict(outcome.figures) for site, outcome in outcomes.items()}


def _unlike(sites: list[ForeignSite]) -> Iterable[Finding]:
    """Sites share a policy, so their agents must see and do alike; how many there are does not matter."""
    for site in sites[1:]:
        here, first = (_shape(one.spec) for one in (site, sites[0]))
        if here != first:
            message = f"sites share a policy, but this one has {here}, {sites[0].name} has {first}"
            yield Finding(("sites", site.name, "world", "entry_point"), message)


def _shape(spec: WorldSpec) -> str:
    return ", ".join(_kind_shape(kind) for kind in spec.kinds)


def _kind_shape(kind: KindSpec) -> str:
    acts = f"{kind.actions} actions" if kind.bounds is None else f"{len(kind.bounds[0])} real numbers as action"
    return f"{kind.name} ({len(kind.own)} features, {acts})"


def _not_searched(spec: WorldSpec) -> Iterable[Finding]:
    if len(spec.kinds) > 1 or spec.kinds[0].bounds is not None:
        message = "tries linear scores of one kind of agent that chooses among actions; remove it"
        yield Finding(("agents", "search"), message)


def _not_shared(spec: WorldSpec) -> Iterable[Finding]:
    try:
        Union(spec)
    except AgentError as error:
        yield Finding(("agents", "sharing"), str(error))


DOMAIN = ForeignDomain()
