"""The problem that a scenario's city stands for: shipped, generated, one of RESCO's maps, or the user's files."""

import math

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
from fedsched.sim.scenario import CityGenerator, CityTraffic, IntersectionsWorld
from fedsched.sim.scenario.intersections import MAPS


def city_problem(settings: IntersectionsWorld) -> Problem:
    """Streets, signals and demands.

    Raises:
        IntersectionsError: Sizes that do not fit, unknown places, files that cannot be used, maps that are not there,
            a demand without vehicles, or several that are all alike.
    """
    if settings.city == "generated":
        found = _generated(settings)
    else:
        found = problem_in_weather(_given(settings), settings.weather)
    _check_demands(found, settings)
    return found


def whole_city(settings: IntersectionsWorld) -> tuple[Problem, Districts]:
    """The city that a site is a district of, and all its districts, `d1` to `d<of>`, with gates to the outside.

    Raises:
        IntersectionsError: As `city_problem`; or fewer signals than districts.
    """
    assert settings.district is not None, "the scenario has been checked"
    problem = city_problem(settings)
    return problem, with_entrances(problem, balanced(problem, settings.district.of, by=settings.district.by))


def _check_demands(found: Problem, settings: IntersectionsWorld) -> None:
    where = f"between {found.begin_s:g} and {found.end_s:g} s"
    for number, demand in enumerate(found.demands):
        if not demand.trips:
            raise IntersectionsError(
                f"no vehicle departs {where} in demand {number}; give more traffic or a longer time"
            )
    if settings.demands > 1 and all(one.trips == found.demands[0].trips for one in found.demands):
        raise IntersectionsError(
            f"'demands: {settings.demands}', but all are alike, since trips and flows at equal intervals draw nothing; "
            "remove 'demands', or give flows a probability or period=\"exp(...)\""
        )


def _given(settings: IntersectionsWorld) -> Problem:
    if settings.city == "grid3x3":
        return grid_problem(settings.demands, settings.controlled)
    if settings.city in MAPS:
        return resco_problem(settings.city)
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
