"""The hour that RESCO judges by: one map, its own demand, RESCO's signals and timing."""

from functools import cache
from pathlib import Path

from fedsched.envs.intersections.maps import resco_maps
from fedsched.sim.domains.intersections.worlds import CityWorlds
from fedsched.sim.scenario import IntersectionsWorld, Scenario, as_kind, load_scenario

FOLDER = Path(__file__).parent
SITE = "city"
"""Name of the one site of each scenario here."""


RULES = 2
"""Raise it whenever signals, observations or our traffic change what they do: kept episodes and policies are of one.

2: a new green begins after the yellow time also where no link loses its green.
"""
UNIVERSAL = "universal"
"""The scenario whose policy is for all maps, and trained on some of them."""


def scenario_of(name: str, seed: int = 0) -> Scenario:
    """The scenario by which agents train on a map, or on several."""
    return Scenario.model_validate(load_scenario(FOLDER / f"{name}.yaml").model_dump(mode="json") | {"seed": seed})


@cache
def hour_of(name: str) -> CityWorlds:
    """The city of that scenario with the demand of RESCO's files alone."""
    data = scenario_of(name).model_dump(mode="json")
    data["sites"][SITE]["world"] |= {"variation": None, "demands": 1}
    return CityWorlds(Scenario.model_validate(data), SITE)


def trained_on(scenario: Scenario) -> tuple[str, ...]:
    """The maps of a scenario."""
    return tuple(as_kind(site.world, IntersectionsWorld).city for site in scenario.sites.values())


def file_digests(scenario: Scenario) -> dict[str, str]:
    """SHA-256 of the maps' uncompressed files by name; networks are those that end in `.net.xml`."""
    maps = resco_maps()
    return {file: digest for name in trained_on(scenario) for file, digest in maps[name].digests.items()}


def network_digest(name: str) -> str:
    """SHA-256 of a map's network file."""
    return hour_of(name).problem.network.digest
