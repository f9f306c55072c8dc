"""The hour that RESCO judges by: one map, its own demand, RESCO's signals and timing."""

from functools import cache
from pathlib import Path

from fedsched.envs.intersections.maps import resco_maps
from fedsched.sim.domains.intersections.worlds import CityWorlds
from fedsched.sim.scenario import Scenario, load_scenario

FOLDER = Path(__file__).parent
SITE = "city"
"""Name of the one site of each scenario here."""


def scenario_of(name: str, seed: int = 0) -> Scenario:
    """The scenario by which agents train on a map."""
    return Scenario.model_validate(load_scenario(FOLDER / f"{name}.yaml").model_dump(mode="json") | {"seed": seed})


@cache
def hour_of(name: str) -> CityWorlds:
    """The city of that scenario with the demand of RESCO's files alone."""
    data = scenario_of(name).model_dump(mode="json")
    data["sites"][SITE]["world"] |= {"variation": None, "demands": 1}
    return CityWorlds(Scenario.model_validate(data), SITE)


def file_digests(name: str) -> dict[str, str]:
    """SHA-256 of a map's uncompressed files by name; the network is the one that ends in `.net.xml`."""
    return dict(resco_maps()[name].digests)


def network_digest(name: str) -> str:
    """SHA-256 of a map's network file."""
    return hour_of(name).problem.network.digest
