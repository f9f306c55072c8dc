"""Generated traffic: rates, places, classes and weather are what was asked for, and everybody gets there."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fedsched.envs.intersections.generate import (
    WEATHERS,
    Arterial,
    City,
    Grid,
    Incident,
    Irregular,
    Ring,
    Surge,
    Traffic,
    city_of,
    generated_problem,
    in_weather,
    problem_in_weather,
    write_city,
)
from fedsched.envs.intersections.generate.weather import REFERENCE_SPEED
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, read_problem
from fedsched.envs.intersections.vehicletypes import default_type

CITIES = [Grid(2, 2), Arterial(3), Ring(4), Irregular(6)]
BRIEF = Traffic(vehicles_per_h=1500, seconds=900, profile=((0, 1), (299, 1), (300, 0)))
"""Nobody departs in the last ten minutes, so that all get there."""


@cache
def problem(city: City, instances: int = 1) -> Problem:
    return generated_problem(city, BRIEF, 2, instances)


@pytest.mark.parametrize("city", CITIES, ids=repr)
def test_everybody_departs_and_arrives(streets: ModuleType, city: City) -> None:
    known = problem(city)
    world = streets.Streets(known.tables, [1])
    for _ in range(9):
        world.run(100)
        inserted, arrived = world.trips("inserted") >= 0, world.trips("arrived") >= 0
        assert set(np.flatnonzero(inserted & ~arrived)) == set(world.on_road())
    assert len(arrived) > 80
    assert arrived.all()


@pytest.mark.parametrize("city", CITIES, ids=repr)
def test_the_written_city_is_the_same(city: City, tmp_path: Path) -> None:
    traffic = replace(BRIEF, weather="rain", random_incidents=2)
    own = generated_problem(city, traffic, 2, 2)
    known = read_problem(write_city(city, traffic, tmp_path, 2, 1))
    assert known.network.digest == own.network.digest
    assert replace(known.demands[0], digest="") == replace(own.demands[1], digest="")
    assert len(own.demands[1].closures) >= 2


def test_an_instance_does_not_depend_on_their_number() -> None:
    traffic = replace(BRIEF, random_incidents=1, surges=(Surge("r0c1", 100, 200, 30),))
    few, many = (generated_problem(Grid(2, 2), traffic, 5, n).demands for n in (2, 5))
    assert few == many[:2]
    assert len({demand.digest for demand in many}) == 5
    other = generated_problem(Grid(2, 2), traffic, 6, 1).demands[0]
    assert other.digest not in {demand.digest for demand in many}


def test_rates_follow_the_profile() -> None:
    """4000 an hour at the top of a triangle that begins at 0, over two hours: 500, 1500, 1500 and 500 a quarter."""
    traffic = Traffic(vehicles_per_h=4000, seconds=3600, profile=((0, 0), (1800, 1), (3600, 0)))
    departs = np.concatenate([d.departures_s() for d in generated_problem(Grid(1, 1), traffic, 1, 8).demands])
    counts = np.histogram(departs, 4, (0, 3600))[0] / 8
    assert counts == pytest.approx([250, 750, 750, 250], abs=4 * np.sqrt(750 / 8))
    assert (
        np.diff(departs.reshape(-1)[: len(generated_problem(Grid(1, 1), traffic, 1, 1).demands[0].trips)]) >= 0
    ).all()


def test_classes_have_their_shares() -> None:
    traffic = Traffic(vehicles_per_h=6000, seconds=3600, bus_share=0.2, lorry_share=0.1, emergency_share=0.05)
    demand = generated_problem(Grid(1, 2), traffic, 1, 1).demands[0]
    classes = np.array([demand.types[trip.type].vehicle_class for trip in demand.trips])
    shares = [np.mean(classes == name) for name in ("passenger", "bus", "truck", "emergency")]
    assert shares == pytest.approx([0.65, 0.2, 0.1, 0.05], abs=0.03)


def test_people_drive_less_far_where_reach_is_short() -> None:
    def metres(reach_m: float) -> float:
        known = generated_problem(Arterial(6), replace(BRIEF, reach_m=reach_m), 1, 1)
        lanes, demand = known.network.lanes, known.demands[0]
        edges = [sum(lanes[known.network.edges[e].lanes[0]].length for e in route) for route in demand.routes]
        return float(np.mean([edges[trip.route] for trip in demand.trips]))

    assert metres(300.0) < 0.7 * metres(float("inf"))


@pytest.mark.parametrize("leaving", [False, True])
@pytest.mark.parametrize("place", ["x1", "north0"])
def test_a_surge_comes_to_its_place_in_its_time(place: str, leaving: bool) -> None:
    surge = Surge(place, 300, 420, 400, leaving)
    calm, busy = (
        generated_problem(Arterial(3), Traffic(vehicles_per_h=60, seconds=900, surges=more), 1, 1)
        for more in ((), (surge,))
    )
    edges, demand = busy.network.edges, busy.demands[0]
    node = next(n for n, junction in enumerate(busy.network.junctions) if junction.id == place)
    ends = [edges[route[0]].origin if leaving else edges[route[-1]].target for route in demand.routes]
    there = np.array([ends[trip.route] == node for trip in demand.trips])
    departs = demand.departures_s()
    assert len(demand.trips) - len(calm.demands[0].trips) == pytest.approx(400, abs=4 * 20)
    inside = (departs >= 300) & (departs < 420)
    assert there[inside].sum() >= len(demand.trips) - len(calm.demands[0].trips)


@pytest.mark.parametrize("name", [name for name in WEATHERS if name != "clear"])
def test_weather_slows_and_takes_capacity(name: str) -> None:
    """A dense column passes a line with gaps of tau plus length over speed."""
    car, weather = default_type("car"), WEATHERS[name]
    (wet,) = in_weather([car], name)
    before = car.tau + (car.length + car.min_gap) / REFERENCE_SPEED
    after = wet.tau + (wet.length + wet.min_gap) / (REFERENCE_SPEED * wet.speed_factor)
    assert before / after == pytest.approx(weather.capacity)
    assert wet.speed_factor == pytest.approx(weather.speed)
    assert wet.emergency_decel <= weather.grip
    assert wet.emergency_decel >= wet.decel
    assert in_weather([car], "clear") == (car,)


def test_trips_take_longer_in_snow(streets: ModuleType) -> None:
    known = problem(CITIES[0])
    means = []
    for one in (known, problem_in_weather(known, "snow")):
        world = streets.Streets(one.tables, [1, 2])
        world.run(900)
        took = [world.trips("arrived", row) - world.trips("inserted", row) for row in (0, 1)]
        assert (world.trips("arrived") >= 0).all()
        means.append(float(np.mean(took)))
    assert 1.2 * means[0] < means[1] < 2.5 * means[0]
    assert problem_in_weather(known, "snow").digest != known.digest


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Traffic(vehicles_per_h=-1), "Traffic: vehicles_per_h=-1; write 0 to 200000"),
        (lambda: Traffic(weather="hail"), "Traffic: weather='hail'; write one of clear, rain"),
        (lambda: Traffic(bus_share=0.6, lorry_share=0.6), "write shares that sum to 1"),
        (lambda: Traffic(profile=((10, 1), (5, 1))), "write pairs of ascending s"),
        (lambda: Surge("x0", 10, 10, 5), "Surge: end_s=10; write more than begin_s=10"),
        (lambda: Incident("a", 0, float("nan")), "Incident: end_s=nan; write 0 to 86400"),
        (lambda: generated_problem(Grid(1, 1), Traffic(), instances=0), "instances=0; write 1 or more"),
        (lambda: generated_problem(Grid(1, 1), Traffic(surges=(Surge("x", 0, 9, 1),))), "no node 'x'"),
        (lambda: generated_problem(Grid(1, 1), Traffic(incidents=(Incident("x", 0, 9),))), "no edge 'x'"),
        (
            lambda: generated_problem(Grid(1, 2), Traffic(incidents=(Incident("r0c0-r0c1", 0, 9, 2),))),
            "Incident: lane=2 of edge 'r0c0-r0c1'; write 0 to 1",
        ),
    ],
)
def test_errors_name_the_parameter(made: Any, message: str) -> None:
    with pytest.raises(IntersectionsError, match=re.escape(message)):
        made()


def test_a_city_comes_from_the_name_of_its_shape() -> None:
    assert city_of("ring", {"arms": 5}) == Ring(5)
    for shape, sizes, message in (
        ("star", {}, "no shape 'star'; write one of grid, arterial, ring, irregular"),
        ("grid", {"arms": 3}, "Grid: no size 'arms'; there are rows, columns"),
        ("grid", {"rows": 0}, "Grid: rows=0; write 1 to 40"),
    ):
        with pytest.raises(IntersectionsError, match=re.escape(message)):
            city_of(shape, sizes)
