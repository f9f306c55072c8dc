"""Closed lanes and blocked roads: nobody enters them, those who can drive around, the others wait, nobody is lost."""

from types import ModuleType

import pytest

from fedsched.envs.intersections.generate import Arterial, Incident, Traffic, generated_problem
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.reference import Simulation

ROAD = "x0-x1"
"""A piece of the main road, of three lanes."""


def main_road(*incidents: Incident, seconds: int = 300, instances: int = 1) -> Problem:
    traffic = Traffic(vehicles_per_h=2400, seconds=seconds, incidents=incidents)
    return generated_problem(Arterial(crossings=2, spacing_m=200), traffic, 3, instances)


def entries(streets: ModuleType, problem: Problem, lanes: set[int], seconds: int) -> tuple[dict[int, set[int]], list]:
    """Who comes onto these lanes in each second; and the world."""
    city = streets.Streets(problem.tables, [1], slots=512)
    before: set[int] = set()
    found = {}
    for second in range(seconds):
        city.run(1)
        on = {trip for trip, (lane, _, _) in city.on_road().items() if lane in lanes}
        found[second], before = on - before, on
    return found, [city]


@pytest.mark.parametrize("lane", [None, 0, 1])
def test_kernels_equal_the_reference(streets: ModuleType, lane: int | None) -> None:
    problem = main_road(Incident(ROAD, 60, 140, lane), Incident("x1-x0", 100, 200, 2))
    slow, fast = Simulation(problem.tables, 0.0, seed=3), streets.Streets(problem.tables, [3], slots=512)
    for second in range(260):
        slow.step()
        fast.run(1)
        own = fast.on_road()
        assert len(own) == len(slow.running), second
        for vehicle in slow.running:
            on, at, speed = own[vehicle.id]
            assert on == vehicle.lane, second
            assert (at, speed) == pytest.approx((vehicle.position, vehicle.speed), abs=1e-6), second
