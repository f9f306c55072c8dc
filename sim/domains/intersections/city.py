"""The problem that a scenario's city stands for: shipped, generated, one of RESCO's maps, or the user's files."""

import math
from dataclasses import dataclass

from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.entrances import with_entrances
from fedsched.envs.intersections.generate import (
    Incident,
    Surge,
    Traffic,
    city_of,
    generated_problem,
    problem_in_weather,
)
from fedsched.envs.intersections.maps import resco_problem
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, grid_problem, read_problem
from fedsched.envs.intersections.variation import with_demands
from fedsched.sim.domains.intersections.splits import with_variation
from fedsched.sim.scenario import CityGenerator, CityTraffic, IntersectionsWorld
from fedsched.sim.scenario.intersections import MAPS


@dataclass(frozen=True)
class City:
    """What a scenario's city stands for.

    Attributes:
        problem: Streets, signals and demands.
        apart: How many of the demands, the first ones, never train (`splits.demands_of`).
    """

    problem: Problem
    apart: int = 0


def read_city(settings: IntersectionsWorld, seed: int = 0) -> City:
    """Streets, signals and demands, varied where that is asked for.

    Args:
        settings: What the scenario says of it.
        seed: Of the run: varied demands are its own.

    Raises:
        IntersectionsError: Sizes that do not fit, unknown places, files that cannot be used, maps that are not there,
            a demand without vehicles, or several that are all alike.
    """
    if settings.city == "generated":
        found = City(_generated(settings))
    else:
        found = City(problem_in_weather(_given(settings), settings.weather))
    _require_trips(found.problem)
    if settings.variation is not None:
        found = City(*with_variation(found.problem, settings.variation, settings.demands, seed))
        _require_trips(found.problem)
    elif settings.demands > 1 and _alike(found.problem):
        raise IntersectionsError(
            f"'demands: {settings.demands}', but all are alike, since trips and flows at equal intervals draw nothing; "
            "remove 'demands', give flows a probability or period=\"exp(...)\", or add 'variation: {}'"
        )
    return found


def districts_in(settings: IntersectionsWorld, city: City) -> Districts:
    """All districts of the city that a site is a part of, `d1` to `d<of>`, with gates to the outside.

    Raises:
        IntersectionsError: Fewer signals than districts.
    """
    assert settings.district is not None, "the scenario has been checked"
    divided = balanced(city.problem, settings.district.of, by=settings.district.by)
    return with_entrances(city.problem, divided)


def _require_trips(found: Problem) -> None:
    where = f"between {found.begin_s:g} and {found.end_s:g} s"
    for number, demand in enumerate(found.demands):
        if not demand.trips:
            raise IntersectionsError(
                f"no vehicle departs {where} in demand {number}; give more traffic or a longer time"
            )


def _alike(found: Problem) -> bool:
    return all(one.trips == found.demands[0].trips for one in found.demands)


def _given(settings: IntersectionsWorld) -> Problem:
    if settings.city == "grid3x3":
        return grid_problem(settings.demands, settings.controlled)
    if settings.city in MAPS:
        return resco_problem(settings.city)
    if settings.variation is None:
        return read_problem(settings.city, settings.controlled, settings.demands)
    pair = read_problem(settings.city, settings.controlled, 2)
    if _alike(pair):  # files that draw nothing need not be read once for every demand
        return with_demands(pair, pair.demands[:1])
    return read_problem(settings.city, settings.controlled, settings.demands)


def _generated(settings: IntersectionsWorld) -> Problem:
    generator = settings.generator or CityGenerator()
    traffic = traffic_of(settings.traffic or CityTraffic(), settings.weather)
    city = city_of(generator.shape, generator.sizes)
    return generated_problem(city, traffic, generator.seed, settings.demands, settings.controlled)


def traffic_of(settings: CityTraffic, weather: str) -> Traffic:
    """Who drives in a generated city, in the terms of its generator."""
    return Traffic(
        vehicles_per_h=settings.vehicles_per_h,
        seconds=round(settings.duration),
        profile=settings.profile,
        reach_m=math.inf if settings.reach_km is None else 1000.0 * settings.reach_km,
        detours=settings.detours,
        bus_share=settings.bus_share,
        lorry_share=settings.lorry_share,
        emergency_share=settings.emergency_share,
        surges=tuple(Surge(one.place, one.begin, one.end, one.vehicles, one.leaving) for one in settings.surges),
        incidents=tuple(Incident(one.edge, one.begin, one.end, one.lane) for one in settings.incidents),
        random_incidents=settings.random_incidents,
        weather=weather,
    )
