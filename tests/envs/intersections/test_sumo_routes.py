"""Trips without a route: SUMO finds it as traffic is, and the world follows the vehicle wherever that leads."""

import dataclasses
import importlib.util
import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsched.envs.intersections.ahead import next_signals
from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.compile import way_keys
from fedsched.envs.intersections.controllers import greedy
from fedsched.envs.intersections.cutout import cut_out
from fedsched.envs.intersections.demand import Demand
from fedsched.envs.intersections.generate import Grid, Traffic, generated_problem, write_city
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.problem import Problem, make_problem, merge, read_problem
from fedsched.envs.intersections.routefile import routes_text
from fedsched.envs.intersections.signal_arrays import see_ways, sight_columns, signal_numbers
from fedsched.envs.intersections.sumo import world as sumo_world
from fedsched.envs.intersections.sumo.batch import SumoBatch
from fedsched.envs.intersections.sumo.film import Film, cut
from fedsched.envs.intersections.sumo.routes import FoundRoutes
from fedsched.envs.intersections.sumo.simulation import Names, names_of
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.envs.intersections.tables import I32
from fedsched.envs.intersections.world import KIND

needs_sumo = pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="the extra `sumo` is not installed")
SECONDS = 300
CITY = Grid(2, 3, lanes=1, spacing_m=150.0)
ROUTE = re.compile(r'<vehicle (.*?)><route edges="(\S+)(?: \S+)*? (\S+)"/></vehicle>')


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """A crowded city whose files say where from and where to, and no more; a road is closed for a while."""
    folder = tmp_path_factory.mktemp("city")
    config = write_city(CITY, Traffic(vehicles_per_h=2600, seconds=SECONDS, random_incidents=2), folder, seed=4)
    path = folder / "city.rou.xml"
    path.write_text(ROUTE.sub(r'<trip \1 from="\2" to="\3"/>', path.read_text()))
    return read_problem(config)


def given(problem: Problem) -> Problem:
    """The same with the routes that we have found."""
    [demand] = problem.demands
    fixed = dataclasses.replace(demand, trips=tuple(dataclasses.replace(trip, places=()) for trip in demand.trips))
    return make_problem(problem.network, [fixed], problem.begin_s, problem.end_s, name=problem.name)


def other_route(problem: Problem) -> tuple[int, tuple[int, ...]]:
    """A trip, and a route of others with its class that it does not take itself."""
    keys = list(dict.fromkeys(way_keys(merge(problem.demands))))
    routes = {route for route, *_ in keys}
    return next((n, route) for n, (_, *who) in enumerate(keys) for route in sorted(routes) if (route, *who) not in keys)


def film_of(route: tuple[int, ...]) -> Film:
    """Nothing but one vehicle that enters with this route."""
    lists = {"entered": [0], "route": route, "route_on": [0, len(route)]}
    return dataclasses.replace(cut([]), **{name: np.array(values, dtype=np.int32) for name, values in lists.items()})


def test_places_are_kept_where_no_route_is_given_and_parts_of_the_city_give_them_all(city: Problem) -> None:
    [demand] = city.demands
    assert all(trip.places == demand.routes[trip.route][:: len(demand.routes[trip.route]) - 1] for trip in demand.trips)
    text = routes_text(demand, city.network)
    assert text.count("<trip ") == len(demand.trips) > 100
    assert "<route " not in text
    assert "<trip " not in routes_text(given(city).demands[0], city.network)
    districts = balanced(city, 2)
    part = cut_out(city, districts, districts.names[0])
    assert not any(trip.places for trip in part.demands[0].trips)


def test_a_new_way_stands_behind_those_that_there_are_as_if_it_had_been_known(city: Problem) -> None:
    """Against the tables of the same city with that route among its trips, closed lanes included."""
    problem = city
    [demand] = problem.demands
    n, route = other_route(problem)
    found = FoundRoutes(problem)
    sight = sight_columns(problem, "cpu")
    key, last, new = found.meet(np.array([n], dtype=np.int32), film_of(route))
    assert new is not None
    see_ways(sight, problem, new)
    before = problem.tables.ways
    assert key.tolist() == [before.begin.shape[1]]
    assert last.tolist() == [len(route) - 1]
    extra = dataclasses.replace(demand.trips[n], id="extra", route=len(demand.routes), places=())
    more = dataclasses.replace(demand, routes=(*demand.routes, route), trips=(*demand.trips, extra))
    known = make_problem(problem.network, [more], problem.begin_s, problem.end_s).tables
    assert found.ways.begin.shape == known.ways.begin.shape
    assert known.ways.begin.shape[0] > 1
    ahead, distance = next_signals(known, signal_numbers(problem))
    for column in range(found.ways.begin.shape[1]):
        for ours, theirs in zip(found.ways.begin[:, column], known.ways.begin[:, column], strict=True):
            length = 1 + int(np.argmax(known.ways.last[theirs:]))
            own, same = slice(ours, ours + length), slice(theirs, theirs + length)
            for name in ("edge", "last", "length", "offset", "link"):
                assert np.array_equal(getattr(found.ways, name)[own], getattr(known.ways, name)[same]), name
            assert np.array_equal(sight["ahead"][own], ahead[same])
            assert np.array_equal(sight["distance"][own], distance[same])
    assert np.array_equal(found.ways.edge[: len(before.edge)], before.edge)
    again = found.meet(np.array([n], dtype=np.int32), film_of(route))
    assert (again[0].tolist(), again[2]) == (key.tolist(), None)


def sumos_routes(world: SumoWorld, path: Path) -> dict[str, tuple[list[str], int]]:
    """Of a run of its own: the edges of every vehicle, and how many of them it has left."""
    options = ("--vehroute-output", str(path), "--vehroute-output.exit-times", "true")
    setup = world._setup(0, 0)
    more = (*setup.options, *options, "--vehroute-output.write-unfinished", "true")
    with SumoBatch() as alone:
        alone.start({0: dataclasses.replace(setup, options=more)})
        alone.advance({0: [({}, SECONDS)]})
        alone.finish([0])
    found = {}
    for vehicle in ET.parse(path).getroot().iter("vehicle"):
        route = vehicle.findall(".//route")[-1].attrib
        left = sum(float(at) >= 0 for at in route["exitTimes"].split())
        found[vehicle.attrib["id"]] = route["edges"].split(), left
    return found


def route_of(world: SumoWorld, trip: int) -> I32:
    """Indices of the edges that a vehicle of row 0 drives."""
    ways, row = world.ways, int(world.ways.begin[0, int(world._keys[0, trip])])
    return ways.edge[row : row + 1 + int(np.argmax(ways.last[row:]))]


@needs_sumo
def test_everybody_is_followed_on_the_route_that_sumo_has_found(city: Problem, tmp_path: Path) -> None:
    """Every second on an edge of it; in the end the routes and the crossings of gates are SUMO's."""
    districts, edges = balanced(city, 2), city.network.edges
    lanes = city.tables.lanes
    with SumoWorld(city, 1, "program", districts) as world:
        zero = torch.zeros(1, dtype=torch.int64)
        world.reset(zero, zero, until_s=torch.zeros(1, dtype=torch.float64))
        keep = torch.full((1, len(city.signals)), world.spec.kinds[0].idle)
        for now in range(1, SECONDS + 1):
            world.step({KIND: keep}, torch.full((1,), float(now), dtype=torch.float64))
            count = int(world.traffic["count"][0])
            way, place, on = (world.traffic[name][0, :count].numpy() for name in ("way", "place", "lane"))
            normal = ~lanes.internal[on]
            assert np.array_equal(world.ways.edge[(way + place)[normal]], lanes.edge[on[normal]])
        told = sumos_routes(world, tmp_path / "routes.xml")
        number = {trip.id: n for n, trip in enumerate(city.demands[0].trips)}
        assert len(told) > 100
        crossed = np.zeros(len(districts.gates), dtype=int)
        for name, (route, left) in told.items():
            assert [edges[edge].id for edge in route_of(world, number[name])] == route
            sides = [districts.edge[city.network.edge(edge)] for edge in route]
            for one, other in itertools.pairwise(sides[: left + 1]):
                if one != other:
                    crossed[districts.gate(districts.names[one], districts.names[other])] += 1
        assert world.traffic["gate_passed"][0].tolist() == crossed.tolist()
        assert world.ways.begin.shape[1] > city.tables.ways.begin.shape[1] + 3


@needs_sumo
def test_given_routes_are_kept_and_following_them_as_found_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit: told with the problem's routes, and by reading every one of them back from SUMO."""
    problem = generated_problem(CITY, Traffic(vehicles_per_h=1500, seconds=120), 4, 1)
    everybody = frozenset(range(len(problem.demands[0].trips)))
    seen = []
    for routed in (frozenset[int](), everybody):

        def names(network: Network, demand: Demand, routed: frozenset[int] = routed) -> Names:
            return dataclasses.replace(names_of(network, demand), routed=routed)

        monkeypatch.setattr(sumo_world, "names_of", names)
        with SumoWorld(problem, 1, "resco") as world:
            actor, zero = greedy(), torch.zeros(1, dtype=torch.int64)
            actor.reset(world)
            observation, ended, shown = world.reset(zero, zero), False, []
            while not ended:
                moved = world.step(actor.act(observation))
                observation, ended = moved.observation, bool(moved.truncated.all())
                tokens = observation.kinds[KIND]
                shown.append([x.clone() for x in (tokens.own, tokens.entities, tokens.actions, moved.reward[KIND])])
            assert world.ways is problem.tables.ways
            seen.append([torch.stack(column) for column in zip(*shown, strict=True)])
            seen[-1] += world.metrics().values()
    for one, other in zip(*seen, strict=True):
        assert torch.equal(one.nan_to_num(-1.0), other.nan_to_num(-1.0))
