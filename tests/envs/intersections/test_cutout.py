"""A district alone has its part of every trip and the right of way that it has in the whole network."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.cutout import cut_out, limit_times, visits
from fedsched.envs.intersections.demand import Demand, Trip
from fedsched.envs.intersections.districts import Districts, split
from fedsched.envs.intersections.edge_times import edge_times
from fedsched.envs.intersections.generate import Irregular, Traffic, generated_problem
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, grid_problem, make_problem
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

NETWORKS = Path(__file__).parent / "networks"


@cache
def case(name: str) -> tuple[Problem, Districts]:
    if name == "grid":
        problem = grid_problem(2)
        return problem, balanced(problem, 3)
    if name == "irregular":
        traffic = Traffic(vehicles_per_h=2000.0, seconds=600, random_incidents=2)
        problem = generated_problem(Irregular(junctions=20, signal_share=0.5), traffic, seed=2, instances=2)
        return problem, balanced(problem, 3)
    network = read_network(NETWORKS / f"{name}.net.xml.gz")
    problem = make_problem(network, [read_demand(NETWORKS / f"{name}.rou.xml.gz", network, 0, 600)], 0, 600)
    return problem, balanced(problem, min(3, len(problem.signals)))


@cache
def parts(name: str) -> tuple[Problem, ...]:
    problem, districts = case(name)
    return tuple(cut_out(problem, districts, district) for district in districts.names)


def names_of(problem: Problem, route: tuple[int, ...]) -> list[str]:
    return [problem.network.edges[edge].id for edge in route]


@pytest.mark.parametrize("name", ["grid", "lights", "irregular"])
def test_parts_of_routes_make_the_whole_again(name: str) -> None:
    whole, districts = case(name)
    own = [
        {whole.network.edges[e].id for e in np.flatnonzero(districts.edge == d)} for d in range(len(districts.names))
    ]
    times = limit_times(whole)
    metres = {edge.id: whole.network.lanes[edge.lanes[0]].length for edge in whole.network.edges}
    for number, demand in enumerate(whole.demands):
        found: dict[str, list[tuple[float, list[str], list[str]]]] = {}
        driven = 0.0
        for inside, part in zip(own, parts(name), strict=True):
            assert [trip.depart_s for trip in part.demands[number].trips] == sorted(part.demands[number].departures_s())
            for trip in part.demands[number].trips:
                way = names_of(part, part.demands[number].routes[trip.route])
                visit = [edge for edge in way if edge in inside]
                driven += sum(metres[edge] for edge in visit)
                found.setdefault(trip.id.split("#")[0], []).append((trip.depart_s, visit, way))
        assert len(found) == len(demand.trips)
        for trip in demand.trips:
            route = demand.routes[trip.route]
            pieces = sorted(found[trip.id], key=lambda piece: piece[0])
            assert [edge for _, visit, _ in pieces for edge in visit] == names_of(whole, route)
            place = 0
            for depart_s, visit, way in pieces:
                assert depart_s == pytest.approx(trip.depart_s + sum(times[edge] for edge in route[:place]))
                assert way == names_of(whole, route[place : place + len(visit) + 1])  # and the edge it leaves by
                place += len(visit)
        expected = sum(metres[edge] for trip in demand.trips for edge in names_of(whole, demand.routes[trip.route]))
        assert driven == pytest.approx(expected)


def links_by_name(problem: Problem) -> dict[int, tuple[str, str]]:
    lanes, links = problem.network.lanes, problem.tables.links
    return {k: (lanes[links.source[k]].id, lanes[links.next[k]].id) for k in range(len(links.source))}


@pytest.mark.parametrize("name", ["grid", "lights", "irregular"])
def test_right_of_way_inside_is_unchanged(name: str) -> None:
    whole, _ = case(name)
    tables, named = whole.tables, links_by_name(whole)
    link_of = {value: key for key, value in named.items()}
    lane_of = {lane.id: n for n, lane in enumerate(whole.network.lanes)}
    compared = 0
    for part in parts(name):
        own, mine = part.tables, links_by_name(part)
        kept = set(mine.values())
        lanes = {lane.id for lane in part.network.lanes}
        for link, key in mine.items():
            old = link_of[key]
            for rows in ("response", "foe"):
                begin, value = f"{rows}_begin", rows
                new = getattr(own.links, value)[slice(*getattr(own.links, begin)[link : link + 2])]
                was = getattr(tables.links, value)[slice(*getattr(tables.links, begin)[old : old + 2])]
                assert [mine[k] for k in new] == [named[k] for k in was if named[k] in kept]
                compared += len(new)
            for column in ("kind", "turn", "signal_index", "state", "cont", "keep_clear", "via_length"):
                assert getattr(own.links, column)[link] == getattr(tables.links, column)[old], column
        for n, lane in enumerate(part.network.lanes):
            old = lane_of[lane.id]
            for column in ("length", "speed", "index", "waiting", "radius"):
                assert getattr(own.lanes, column)[n] == getattr(tables.lanes, column)[old], column
            new, was = (slice(*t.conflicts.begin[i : i + 2]) for t, i in ((own, n), (tables, old)))
            met = [part.network.lanes[k].id for k in own.conflicts.lane[new]]
            other = [whole.network.lanes[k].id for k in tables.conflicts.lane[was]]
            both = [k for k, lane_id in enumerate(other) if lane_id in lanes]
            assert met == [other[k] for k in both]
            for column in ("kind", "own_begin", "own_end", "other_begin", "other_end", "must_yield", "other_yields"):
                ours = getattr(own.conflicts, column)[new]
                assert ours.tolist() == getattr(tables.conflicts, column)[was][both].tolist(), column
            compared += len(met)
    assert compared > 200


@pytest.mark.parametrize("name", ["grid", "lights", "irregular"])
def test_signals_are_whole_and_each_in_one_part(name: str) -> None:
    whole, _ = case(name)
    ids = [signal.id for part in parts(name) for signal in part.signals]
    assert sorted(ids) == sorted(signal.id for signal in whole.signals)
    old = {signal.id: signal for signal in whole.signals}
    for part in parts(name):
        for signal in part.signals:
            was = old[signal.id]
            assert signal.phases == was.phases
            assert [len(links) for links in signal.links] == [len(links) for links in was.links]
            for mine, theirs in zip(signal.movements, was.movements, strict=True):
                assert replace(mine, source=0, target=0, lanes=()) == replace(theirs, source=0, target=0, lanes=())


def test_a_part_is_a_problem_that_runs() -> None:
    for part in parts("grid"):
        world = IntersectionsWorld(part, 2, "program")
        rows = torch.arange(2)
        world.reset(rows, rows)
        keep = {KIND: torch.full((2, len(part.signals)), part.phases)}
        world.step(keep)
        metrics = world.metrics()
        trips = torch.tensor([len(demand.trips) for demand in part.demands], dtype=torch.float64)
        late = torch.tensor([sum(t.depart_s >= part.end_s for t in d.trips) for d in part.demands])
        assert torch.equal(metrics["completed"] + metrics["running"] + metrics["never_inserted"], trips - late)
        assert float(metrics["completed"].min()) > 0.8 * float(trips.min())


def test_one_district_is_the_whole() -> None:
    whole, _ = case("grid")
    part = cut_out(whole, split(whole, {"all": [signal.id for signal in whole.signals]}), "all")
    worlds = [IntersectionsWorld(one, 1, "program") for one in (whole, part)]
    for world in worlds:
        world.reset(torch.tensor([1]), torch.tensor([5]))
        world.step({KIND: torch.full((1, 9), 4)}, torch.full((1,), 400.0, dtype=torch.float64))
    for column in ("position", "speed", "id", "trip_inserted", "trip_arrived"):
        assert torch.equal(worlds[0].traffic[column], worlds[1].traffic[column]), column


def test_several_visits_are_several_trips() -> None:
    own = np.array([True, False, True, True, False, False, True])
    assert list(visits([0, 1, 2, 3, 4, 6], own)) == [(0, 1), (2, 4), (5, 6)]
    whole = grid_problem(1)
    districts = split(whole, {"column": ["A0", "A1", "A2"], "rest": ["B0", "B1", "B2", "C0", "C1", "C2"]})
    network, demand = whole.network, whole.demands[0]
    roads = ("B0A0", "A0A1", "A1B1", "B1B0", "B0A0")
    way = tuple(network.edge(name) for road in roads for name in (road, f"{road}.140.00"))
    loop = Demand(demand.types, (way,), (Trip("t", 0, 0, 10.0),), "")
    problem = make_problem(network, [loop], 0.0, 1200.0)
    trips = cut_out(problem, districts, "column").demands[0].trips
    assert [trip.id for trip in trips] == ["t", "t#1"]
    assert trips[0].depart_s == 10.0
    assert trips[1].depart_s > 40.0


def test_measured_times_are_the_limits_and_the_delay() -> None:
    whole, _ = case("grid")
    alone = make_problem(whole.network, [replace(whole.demands[0], trips=whole.demands[0].trips[:1])], 0.0, 300.0)
    limits, measured = limit_times(whole), edge_times(alone)
    route = alone.demands[0].routes[alone.demands[0].trips[0].route]
    for edge in range(len(limits)):
        if edge not in route:
            assert measured[edge] == limits[edge]
    world = IntersectionsWorld(alone, 1, "program")
    world.reset(torch.tensor([0]), torch.tensor([0]))
    world.step({KIND: torch.full((1, 9), 4)})
    duration = float(world.metrics()["duration_s"][0])
    assert measured[list(route)].sum() == pytest.approx(duration, abs=1.0)
    busy = edge_times(make_problem(whole.network, whole.demands, 0.0, 400.0))
    used = sorted({edge for pair in pairwise(whole.demands[0].routes[0]) for edge in pair})
    assert busy[used].mean() > 1.2 * limits[used].mean()


def test_a_roundabout_goes_with_the_district_that_has_all_of_it() -> None:
    whole, districts = case("grid")
    owned = [np.flatnonzero(districts.edge == d)[:2].tolist() for d in range(2)]
    known = {edge.id for edge in parts("grid")[0].network.edges}
    far = next(n for n in np.flatnonzero(districts.edge == 1).tolist() if whole.network.edges[n].id not in known)
    around = tuple(tuple(edges) for edges in (*owned, [owned[0][0], far]))
    problem = make_problem(replace(whole.network, roundabouts=around), whole.demands, 0.0, 1200.0)
    found = [cut_out(problem, districts, name).network for name in districts.names[:2]]
    ids = [[[part.edges[n].id for n in own] for own in part.roundabouts] for part in found]
    assert ids == [[names_of(whole, tuple(edges))] for edges in owned]


def test_an_unknown_district_is_named() -> None:
    whole, districts = case("grid")
    with pytest.raises(IntersectionsError, match="no district 'north'; there are d1, d2, d3"):
        cut_out(whole, districts, "north")
