"""Varied demands: what may differ from the given one, by how much, and what may not."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedsched.agents.collect import play
from fedsched.envs.intersections.controllers import greedy
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, grid_problem, make_problem
from fedsched.envs.intersections.variation import OPINIONS, Variation, varied_demand, varied_problem
from fedsched.envs.intersections.world import IntersectionsWorld

BEGIN_S = 3600.0
MANY = 64


@pytest.fixture(scope="module")
def later() -> Problem:
    """The shipped grid with one demand; its hour begins at 3600 s on the clock of the files."""
    grid = grid_problem(1)
    [demand] = grid.demands
    trips = tuple(replace(trip, depart_s=trip.depart_s + BEGIN_S) for trip in demand.trips)
    return make_problem(grid.network, [replace(demand, trips=trips)], BEGIN_S, BEGIN_S + grid.seconds)


def origin(name: str) -> str:
    """The given trip that a varied one comes from."""
    return name.partition("#")[0]


def test_volumes_keep_to_their_bounds_and_are_right_in_the_mean(later: Problem) -> None:
    given = len(later.demands[0].trips)
    problem = varied_problem(later, Variation(volume=0.3), MANY)
    shares = torch.tensor([len(demand.trips) / given for demand in problem.demands], dtype=torch.float64)
    chance = 4 * (0.25 / given) ** 0.5  # four deviations of a sum of coins
    assert float(shares.min()) > 0.7 - chance
    assert float(shares.max()) < 1.3 + chance
    assert float(shares.max() - shares.min()) > 0.4
    assert float(shares.mean()) == pytest.approx(1.0, abs=4 * 0.3 / 3**0.5 / MANY**0.5)


def test_each_trip_is_there_as_often_as_any_other(later: Problem) -> None:
    problem = varied_problem(later, Variation(volume=0.3), MANY)
    times = Counter(origin(trip.id) for demand in problem.demands for trip in demand.trips)
    assert set(times) == {trip.id for trip in later.demands[0].trips}
    total = sum(times.values()) / len(times)
    assert all(abs(count - total) < 5 * (0.25 * MANY) ** 0.5 for count in times.values())


def test_departures_stay_sorted_near_their_time_and_inside_the_hour(later: Problem) -> None:
    due = {trip.id: trip.depart_s for trip in later.demands[0].trips}
    for demand in varied_problem(later, Variation(jitter_s=60.0), 8).demands:
        times = [trip.depart_s for trip in demand.trips]
        assert times == sorted(times)
        assert later.begin_s <= times[0] < times[-1] <= later.end_s - 1
        moved = [trip.depart_s - due[origin(trip.id)] for trip in demand.trips]
        assert -60 <= min(moved) < -50
        assert 50 < max(moved) <= 60
    still = varied_demand(later, Variation(jitter_s=0.0), 0)
    assert all(trip.depart_s == due[origin(trip.id)] for trip in still.trips)


def test_vehicles_drive_where_and_in_what_they_did_and_each_has_a_name(later: Problem) -> None:
    given = {trip.id: trip for trip in later.demands[0].trips}
    for demand in varied_problem(later, Variation(), 8).demands:
        names = [trip.id for trip in demand.trips]
        assert len(set(names)) == len(names)
        assert (demand.types, demand.routes) == (later.demands[0].types, later.demands[0].routes)
        for trip in demand.trips:
            assert trip == replace(given[origin(trip.id)], id=trip.id, depart_s=trip.depart_s)


def test_a_demand_depends_on_its_number_and_the_seed_alone(later: Problem) -> None:
    few, many = (varied_problem(later, Variation(incidents=1), count).demands for count in (2, 5))
    assert few == many[:2]
    assert len({demand.digest for demand in many}) == len({demand.trips for demand in many}) == 5
    assert varied_demand(later, Variation(), 0, seed=1).trips != varied_demand(later, Variation(), 0, seed=0).trips
    assert varied_problem(later, Variation(), 2, seed=1).digest != varied_problem(later, Variation(), 2).digest


def test_several_given_demands_are_varied_in_turn() -> None:
    given = grid_problem(2)
    found = varied_problem(given, Variation(volume=0.0, jitter_s=0.0, scale=2.0), 4).demands
    for number, demand in enumerate(found):
        assert {origin(trip.id) for trip in demand.trips} == {trip.id for trip in given.demands[number % 2].trips}


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
def test_a_scale_multiplies_the_trips(later: Problem, scale: float) -> None:
    given = len(later.demands[0].trips)
    demand = varied_demand(later, Variation(volume=0.0, jitter_s=0.0, scale=scale), 0)
    times = Counter(origin(trip.id) for trip in demand.trips)
    assert {times[trip.id] for trip in later.demands[0].trips} <= {int(scale), int(-(-scale // 1))}
    assert len(demand.trips) == pytest.approx(scale * given, abs=4 * (0.25 * given) ** 0.5)
    assert scale != 2.0 or len(demand.trips) == 2 * given


def test_a_variation_of_nothing_is_the_given_demand(later: Problem) -> None:
    assert varied_demand(later, Variation(volume=0.0, jitter_s=0.0), 7) is later.demands[0]


def test_incidents_lie_in_the_hour_and_hold_traffic_up(later: Problem) -> None:
    still = Variation(volume=0.0, jitter_s=0.0)
    closed = varied_problem(later, replace(still, incidents=4), 8)
    for demand in closed.demands:
        assert len(demand.closures) >= 4
        for closure in demand.closures:
            assert later.begin_s <= closure.begin_s < closure.end_s <= later.begin_s + 1.1 * later.seconds
        assert demand.trips == later.demands[0].trips
    delays = []
    for problem in (varied_problem(later, still, 8), closed):
        world, controller = IntersectionsWorld(problem, 8, "sumo_rl"), greedy()
        controller.reset(world)
        found = play(world, torch.arange(8), torch.zeros(8, dtype=torch.int64), controller.act)
        delays.append(float(found["resco_delay_s"].mean()))
    assert delays[1] > 1.05 * delays[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"volume": 1.0}, "volume=1; write 0 or more and less than 1"),
        ({"volume": -0.1}, "volume=-0.1; write 0 or more and less than 1"),
        ({"scale": 0.0}, "scale=0; write more than 0 and at most 10"),
        ({"jitter_s": -1.0}, "jitter_s=-1; write 0 to 86400"),
        ({"incidents": -1}, "incidents=-1; write 0 or more"),
        ({"detours": -0.1}, "detours=-0.1; write 0 to 10"),
    ],
)
def test_values_out_of_their_bounds_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(IntersectionsError, match=message):
        Variation(**values)


def test_no_demand_at_all_is_refused(later: Problem) -> None:
    with pytest.raises(IntersectionsError, match="a problem needs at least one demand"):
        varied_problem(later, Variation(), 0)


def test_detours_change_the_ways_of_those_whose_file_gives_no_route(later: Problem) -> None:
    [given] = later.demands
    plain, detoured = (Variation(volume=0.0, jitter_s=0.0, scale=1.2, detours=share) for share in (0.0, 2.0))
    assert Variation(volume=0.0, jitter_s=0.0, detours=0.3).changes
    of = {trip.id: given.routes[trip.route] for trip in given.trips}
    changed = []
    for number in range(8):
        same, other = (varied_demand(later, variation, number) for variation in (plain, detoured))
        assert [replace(trip, route=0) for trip in same.trips] == [replace(trip, route=0) for trip in other.trips]
        ways = [(of[origin(trip.id)], other.routes[trip.route], trip.places) for trip in other.trips]
        assert all((way[0], way[-1]) == (places[0], places[-1]) for _, way, places in ways)
        changed.append(sum(way != usual for usual, way, _ in ways) / len(ways))
        assert len({(places, way) for _, way, places in ways}) <= OPINIONS * len({places for *_, places in ways})
    assert 0.0 < sum(changed) / 8 < 1.0
    assert len(set(changed)) > 1
    fixed = replace(given, trips=tuple(replace(trip, places=()) for trip in given.trips))
    held = varied_demand(make_problem(later.network, [fixed], later.begin_s, later.end_s), detoured, 0)
    assert all(held.routes[trip.route] == of[origin(trip.id)] for trip in held.trips)
