"""Generated cities and their traffic: networks, demand, surges, incidents, weather, from a seed.

`generated_problem(Grid(rows=3, columns=3), Traffic(), seed=1, instances=8)` is a problem like one read from files.
"""

from collections.abc import Sequence
from pathlib import Path

from fedsched.envs.intersections.closures import closures_text
from fedsched.envs.intersections.generate.cities import CITIES, Arterial, City, Grid, Irregular, Ring, city_of
from fedsched.envs.intersections.generate.incidents import Incident
from fedsched.envs.intersections.generate.traffic import Surge, Traffic, TrafficDraw
from fedsched.envs.intersections.generate.weather import WEATHERS, Weather, in_weather, problem_in_weather
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, make_problem
from fedsched.envs.intersections.routefile import write_routes

_CONFIG = """<configuration>
    <input>
        <net-file value="city.net.xml"/>
        <route-files value="city.rou.xml"/>
        <additional-files value="city.add.xml"/>
    </input>
    <time><begin value="0"/><end value="{end}"/></time>
    <report><ignore-route-errors value="true"/></report>
</configuration>
"""


def generated_problem(
    city: City, traffic: Traffic, seed: int = 0, instances: int = 8, controlled: Sequence[str] | None = None
) -> Problem:
    """A problem on a generated city.

    Args:
        city: Its shape.
        traffic: Who drives there.
        seed: Of the network and of all draws.
        instances: Number of demands; demand k is the same for every number.
        controlled: Ids of the signals that are agents; by default all.

    Raises:
        IntersectionsError: Parameters that leave no room for junctions, unknown places, or no instance.
    """
    if instances < 1:
        raise IntersectionsError(f"instances={instances}; write 1 or more")
    network = city.network(seed)
    draw = TrafficDraw(traffic, network, seed)
    demands = [draw.demand(k) for k in range(instances)]
    return make_problem(network, demands, 0.0, float(traffic.seconds), controlled, type(city).__name__.lower())


def write_city(city: City, traffic: Traffic, folder: str | Path, seed: int = 0, instance: int = 0) -> Path:
    """Writes a city as SUMO's files: `city.net.xml`, `city.rou.xml`, `city.add.xml` (incidents), `city.sumocfg`.

    Returns:
        The path of the configuration; `read_problem` reads it, and so does SUMO 1.28.

    Raises:
        IntersectionsError: As `generated_problem`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "city.net.xml").write_text(city.text(seed), encoding="utf-8")
    network = city.network(seed)
    demand = TrafficDraw(traffic, network, seed).demand(instance)
    write_routes(demand, network, folder / "city.rou.xml")
    (folder / "city.add.xml").write_text(closures_text(demand.closures, network), encoding="utf-8")
    path = folder / "city.sumocfg"
    path.write_text(_CONFIG.format(end=traffic.seconds), encoding="utf-8")
    return path


__all__ = [
    "CITIES", "WEATHERS", "Arterial", "City", "Grid", "Incident", "Irregular", "Ring", "Surge", "Traffic", "Weather",
    "city_of", "generated_problem", "in_weather", "problem_in_weather", "write_city",
]  # fmt: skip
