"""Figures of an episode are those of SUMO's tripinfo, by one definition each."""

import numpy as np
import pytest
import torch

from fedsched.envs.intersections.problem import Problem, grid_problem
from fedsched.envs.intersections.sumo.outputs import Trips, outcome
from fedsched.envs.intersections.timing import Timing
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

HOLD = Timing("hold", 5000)
"""One decision at the start, then never again."""


@pytest.fixture(scope="module")
def problem() -> Problem:
    return grid_problem(2)


def held(problem: Problem, phase: int, last: float, seeds: tuple[int, ...] = (0, 1)) -> IntersectionsWorld:
    """Worlds in which every signal shows one phase throughout."""
    world = IntersectionsWorld(problem, len(seeds), HOLD)
    world.reset(torch.arange(len(seeds)) % 2, torch.tensor(seeds))
    world.step({KIND: torch.full((len(seeds), 9), phase)}, torch.full((len(seeds),), last, dtype=torch.float64))
    return world


def trips_of(world: IntersectionsWorld, row: int) -> tuple[Trips, np.ndarray]:
    """Every inserted vehicle as tripinfo would list it, and when each of the demand wants to depart."""
    traffic = {name: column[row].numpy() for name, column in world.traffic.items()}
    first, count = int(traffic["first_trip"]), int(traffic["trips"])
    departs = world.problem.tables.vehicles.depart_s[first : first + count]
    slot = {int(traffic["id"][s]): s for s in range(int(traffic["count"]))}
    rows = []
    for trip in range(count):
        if traffic["trip_inserted"][trip] >= 0:
            begin, running = float(traffic["trip_inserted"][trip]), trip in slot
            loss = traffic["time_loss"][slot[trip]] if running else traffic["trip_loss"][trip]
            waited = traffic["total_waiting"][slot[trip]] if running else traffic["trip_waiting"][trip]
            end = -1.0 if running else float(traffic["trip_arrived"][trip])
            rows.append((begin, end, end - begin, float(loss), float(waited), begin - departs[trip], 1.0))
    columns = np.array(rows).T
    return Trips(tuple(map(str, range(len(rows)))), *columns), departs


@pytest.mark.parametrize(("phase", "last"), [(0, 400.0), (2, 1200.0)])
def test_figures_are_those_of_a_trip_by_trip_count(problem: Problem, phase: int, last: float) -> None:
    world = held(problem, phase, last)
    found = world.metrics()
    for row in range(2):
        trips, departs = trips_of(world, row)
        expected = outcome(trips, departs, 0.0, last)
        assert expected.completed > 20
        assert expected.running > 20
        for name in ("completed", "running", "never_inserted", "duration_s", "time_loss_s", "waiting_s"):
            assert float(found[name][row]) == pytest.approx(getattr(expected, name), rel=1e-6), name
        assert float(found["depart_delay_s"][row]) == pytest.approx(expected.depart_delay_s)
        assert float(found["resco_delay_s"][row]) == pytest.approx(expected.delay_s, rel=1e-6)
        assert float(found["throughput_per_h"][row]) == pytest.approx(expected.completed * 3600 / last)
    if last > 1000:
        assert bool((found["never_inserted"] > 20).all())


def test_classes_have_figures_of_their_own(problem: Problem) -> None:
    world = held(problem, 0, 600.0)
    found = world.metrics()
    assert set(found) == set(world.spec.metrics)
    for row in range(2):
        traffic = {name: column[row].numpy() for name, column in world.traffic.items()}
        demand = problem.demands[row]
        times = [
            float(traffic["trip_arrived"][n] - traffic["trip_inserted"][n])
            for n, trip in enumerate(demand.trips)
            if demand.types[trip.type].vehicle_class == "emergency" and traffic["trip_arrived"][n] >= 0
        ]
        value = float(found["emergency_duration_s"][row])
        assert value == pytest.approx(np.mean(times)) if times else np.isnan(value)


def test_nothing_driven_is_nan_and_not_zero(problem: Problem) -> None:
    found = held(problem, 0, 5.0).metrics()
    assert bool(found["duration_s"].isnan().all())
    assert bool((found["completed"] == 0).all())


def test_a_standstill_is_reported_and_a_queue_is_not(problem: Problem) -> None:
    assert held(problem, 1, 250.0).metrics()["gridlock"].tolist() == [0.0, 0.0]
    stuck = held(problem, 1, 900.0)  # only left turns have green: everybody else stands for minutes
    assert stuck.metrics()["gridlock"].tolist() == [1.0, 1.0]
    assert int(stuck.counts["jammed"].min()) > 300


def test_queue_is_the_mean_over_seconds_and_signals(problem: Problem) -> None:
    world = IntersectionsWorld(problem, 1, "sumo_rl")
    observation = world.reset(torch.tensor([0]), torch.tensor([0]), until_s=torch.zeros(1, dtype=torch.float64))
    total = 0
    for now in range(1, 101):
        active = observation.kinds[KIND].active
        observation = world.step({KIND: torch.where(active, 0, 4)}, torch.tensor([float(now)]).double()).observation
        total += int(world.counts["halting"].sum())
    assert total > 100
    assert float(world.metrics()["queue"][0]) == pytest.approx(total / 100 / 9)
