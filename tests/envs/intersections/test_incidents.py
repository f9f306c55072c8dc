"""Closed lanes and blocked roads: nobody enters them, those who can leave them, the others wait, nobody is lost."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.controllers import ProgramController
from fedsched.envs.intersections.cutout import cut_out
from fedsched.envs.intersections.generate import Arterial, Grid, Incident, Traffic, generated_problem
from fedsched.envs.intersections.generate.incidents import draw_incidents
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.reference import Simulation
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

ROAD = "x0-x1"
"""A piece of the main road, of three lanes; all of its links lead there straight or from side streets."""


def main_road(*incidents: Incident, vehicles_per_h: float = 2600) -> Problem:
    profile = ((0, 1), (300, 1), (301, 0))
    traffic = Traffic(vehicles_per_h, seconds=600, profile=profile, incidents=incidents)
    return generated_problem(Arterial(2, side_lanes=2, spacing_m=200), traffic, 3, 1)


def lanes_of(problem: Problem, edge: str) -> list[int]:
    return list(problem.network.edges[problem.network.edge(edge)].lanes)


def second_by_second(streets: ModuleType, problem: Problem, last: int) -> list[dict[int, tuple[int, float, float]]]:
    """Who is where after each second; checks that nobody is lost."""
    city, found = streets.Streets(problem.tables, [1], slots=512), []
    for _ in range(last):
        city.run(1)
        found.append(city.on_road())
        inserted, arrived = city.trips("inserted") >= 0, city.trips("arrived") >= 0
        assert set(np.flatnonzero(inserted & ~arrived)) == set(found[-1])
    return found


def entering(steps: list[dict[int, tuple[int, float, float]]], lanes: set[int]) -> list[int]:
    """How many come onto these lanes from elsewhere, in each second."""
    on = [{trip for trip, place in step.items() if place[0] in lanes} for step in steps]
    return [len(now - before) for before, now in zip([set(), *on], on, strict=False)]


@pytest.mark.parametrize("lane", [None, 0, 1])
def test_kernels_equal_the_reference(streets: ModuleType, lane: int | None) -> None:
    problem = main_road(Incident(ROAD, 60, 140, lane), Incident("x1-x0", 100, 150, 2))
    slow, fast = Simulation(problem.tables, 0.0, seed=3), streets.Streets(problem.tables, [3], slots=512)
    for second in range(180):
        slow.step()
        fast.run(1)
        own = fast.on_road()
        assert len(own) == len(slow.running), second
        for vehicle in slow.running:
            on, at, speed = own[vehicle.id]
            assert on == vehicle.lane, second
            assert (at, speed) == pytest.approx((vehicle.position, vehicle.speed), abs=1e-6), second


@pytest.mark.parametrize("lane", [0, 1, 2])
def test_nobody_drives_onto_a_closed_lane(streets: ModuleType, lane: int) -> None:
    problem = main_road(Incident(ROAD, 100, 220, lane))
    own = lanes_of(problem, ROAD)
    steps = second_by_second(streets, problem, 320)
    count = entering(steps, {own[lane]})
    assert sum(count[115:220]) == 0  # who is on the junction when it closes still comes
    assert sum(count) > 0
    assert not [place for step in steps[130:220] for place in step.values() if place[0] == own[lane]]
    assert sum(entering(steps, set(own) - {own[lane]})[115:220]) > 10


def test_a_blocked_road_holds_them_until_it_opens(streets: ModuleType) -> None:
    problem = main_road(Incident(ROAD, 100, 220))
    own = set(lanes_of(problem, ROAD))
    steps = second_by_second(streets, problem, 599)
    count = entering(steps, own)
    assert sum(count[115:220]) == 0
    assert sum(count[220:260]) > 10
    assert not any(place[0] in own for step in steps[130:220] for place in step.values())
    assert not steps[-1]  # all have arrived


def test_departures_wait_for_their_road(streets: ModuleType) -> None:
    """The way in from the west is blocked: nobody departs there."""
    problem = main_road(Incident("west-x0", 50, 150))
    own = set(lanes_of(problem, "west-x0"))
    count = entering(second_by_second(streets, problem, 200), own)
    assert sum(count[:50]) > 0
    assert sum(count[50:150]) == 0
    assert sum(count[150:]) > sum(count[:50])


def test_who_waits_for_a_closed_lane_stands_where_it_turns() -> None:
    """From the north onto lane 2 alone: as long as it is closed, no link, and the lane to turn from as ever."""
    problem = main_road(Incident(ROAD, 100, 220, 2))
    ways, edges = problem.tables.ways, [problem.network.edge(name) for name in ("north0-x0", ROAD)]
    assert ways.begin.shape[0] == 2
    rows = [(a, b - a) for a, b in ways.begin.T.tolist() if ways.edge[a : a + 2].tolist() == edges]
    assert rows
    for row, shift in rows:
        assert ways.link[row].tolist()[0] == -1 < ways.link[row, 1]
        assert (ways.link[row + shift] == -1).all()
        assert ways.offset[row, :2].tolist() == ways.offset[row + shift, :2].tolist() == [1, 0]
        assert ways.offset[row + shift + 1, 2] < 0


def test_rows_have_incidents_of_their_own() -> None:
    """A row runs the incidents of its instance, wherever it stands in the batch."""
    traffic = Traffic(vehicles_per_h=2000, seconds=300, random_incidents=3)
    problem = generated_problem(Grid(2, 2), traffic, 4, 3)
    assert len({demand.closures for demand in problem.demands}) == 3

    def run(instances: list[int]) -> dict[str, Any]:
        world = IntersectionsWorld(problem, len(instances), "sumo_rl")
        observation = world.reset(torch.tensor(instances), torch.full((len(instances),), 7))
        ended = False
        while not ended:
            mask = observation.kinds[KIND].action_mask
            moved = world.step({KIND: mask.long().argmax(2)})
            observation, ended = moved.observation, bool(moved.truncated.all())
        return {name: values.tolist() for name, values in world.metrics().items()}

    together, alone = run([2, 0, 1, 0]), run([0])
    for name, values in together.items():
        assert repr(values[1]) == repr(values[3]) == repr(alone[name][0]), name
    assert len(set(together["duration_s"])) == 3


def test_drawn_incidents_fit_into_a_whole_day() -> None:
    drawn = draw_incidents(main_road().network, 400, 86_400, 1, 0)
    assert max(one.end_s for one in drawn) == 86_400


def test_a_closure_goes_with_its_district() -> None:
    problem = main_road(Incident(ROAD, 100, 220, 1), Incident("x0-west", 100, 220, 0))
    districts = balanced(problem, 2)
    kept = [cut_out(problem, districts, name) for name in districts.names]
    names = [{part.network.lanes[c.lane].id for c in part.demands[0].closures} for part in kept]
    assert set.union(*names) == {f"{ROAD}_1", "x0-west_0"}


@pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="the extra `sumo` is not installed")
def test_a_blocked_road_costs_as_much_in_sumo() -> None:
    def duration(world: IntersectionsWorld) -> float:
        controller = ProgramController()
        controller.reset(world)
        rows = torch.arange(world.batch)
        observation, ended = world.reset(rows * 0, rows), False
        while not ended:
            moved = world.step(controller.act(observation))
            observation, ended = moved.observation, bool(moved.truncated.all())
        return float(world.metrics()["duration_s"].mean())

    blocked = main_road(Incident(ROAD, 100, 220), vehicles_per_h=1200)
    calm = duration(IntersectionsWorld(main_road(vehicles_per_h=1200), 3, "program"))
    ours = duration(IntersectionsWorld(blocked, 3, "program"))
    with SumoWorld(blocked, 3, "program") as world:
        theirs = duration(world)
    assert ours > calm + 7
    assert theirs > calm + 7
    assert ours == pytest.approx(theirs, rel=0.1)


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ('<interval begin="5" end="9"><closingLaneReroute id="x_0" disallow="all"/></interval>', "no lane 'x_0'"),
        ('<interval begin="9" end="9"><closingLaneReroute id="x0-x1_0" disallow="all"/></interval>', "ends at 9 s"),
    ],
)
def test_closures_of_files_are_checked(interval: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "more.add.xml"
    path.write_text(f'<additional><rerouter id="r" edges="x0-x1">{interval}</rerouter></additional>')
    with pytest.raises(IntersectionsError, match=message):
        read_demand(path, main_road().network, 0.0, 600.0)


def test_other_rerouters_are_named(tmp_path: Path) -> None:
    path = tmp_path / "more.add.xml"
    inner = '<interval begin="0" end="9"><closingReroute id="x0-x1"/></interval>'
    path.write_text(f'<additional><rerouter id="r" edges="x0-x1">{inner}</rerouter></additional>')
    found = read_demand(path, main_road().network, 0.0, 600.0)
    assert found.ignored == (("closingReroute", 1),)
    assert not found.closures
