"""The time on edges that the agreement benchmark reads from a running world."""

import numpy as np
import pytest
import torch

from benchmarks.agreement_measures import edge_error, pooled
from benchmarks.edge_clock import EdgeClock
from fedsched.envs.intersections.problem import grid_problem
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

SECONDS = 200


def test_an_edge_is_left_when_the_front_leaves_it() -> None:
    problem = grid_problem(1)
    tables, edges = problem.tables, problem.network.edges
    world = IntersectionsWorld(problem, 2, "program")
    keep = {KIND: torch.full((2, 9), problem.phases)}
    until_s = torch.zeros(2, dtype=torch.float64)
    world.reset(torch.zeros(2, dtype=torch.int64), torch.arange(2), until_s=until_s)
    clock = EdgeClock(world)
    on: dict[int, tuple[int, int]] = {}  # trip of row 1: its edge, -1 inside a junction; when it left the one before
    spent: dict[str, list[int]] = {}
    for now in range(SECONDS):
        world.step(keep, until_s + now + 1)
        clock.second()
        t = world.traffic
        there = {int(t["id"][1, s]): int(t["lane"][1, s]) for s in range(int(t["count"][1]))}
        for trip in {*on, *there}:
            lane = there.get(trip)
            edge = -1 if lane is None or tables.lanes.internal[lane] else int(tables.lanes.edge[lane])
            before, since = on.get(trip, (edge, now))
            if before not in (edge, -1):
                spent.setdefault(edges[before].id, []).append(now - since)
                since = now
            on[trip] = edge, since
    assert clock.times(1) == {name: (len(times), pytest.approx(np.mean(times))) for name, times in spent.items()}
    assert sum(map(len, spent.values())) > 300
    assert clock.times(0) != clock.times(1)


def test_all_of_a_trip_is_spent_on_its_edges() -> None:
    problem = grid_problem(1)
    world = IntersectionsWorld(problem, 1, "program")
    until_s = torch.zeros(1, dtype=torch.float64)
    world.reset(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), until_s=until_s)
    clock = EdgeClock(world)
    for now in range(SECONDS):
        world.step({KIND: torch.full((1, 9), problem.phases)}, until_s + now + 1)
        clock.second()
    inserted, arrived = world.traffic["trip_inserted"][0].numpy(), world.traffic["trip_arrived"][0].numpy()
    done = arrived >= 0
    assert int((clock._passed[0, done] == problem.tables.vehicles.edges[done]).sum()) == int(done.sum()) > 20
    running = (inserted >= 0) & ~done
    spent = (arrived - inserted)[done].sum() + (clock._since[0] - inserted)[running].sum()
    assert sum(count * mean for count, mean in clock.times(0).values()) == pytest.approx(spent)


def test_errors_of_edges_are_weighted_by_their_vehicles() -> None:
    theirs = pooled([{"a": (3, 10.0), "b": (1, 40.0)}, {"a": (1, 14.0), "c": (9, 1.0)}])
    assert theirs == {"a": (4, 11.0), "b": (1, 40.0), "c": (9, 1.0)}
    assert edge_error({"a": (1, 12.0), "b": (1, 35.0)}, theirs) == pytest.approx((16.8, 16.6, 1.8))
