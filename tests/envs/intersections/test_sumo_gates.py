"""Limits of inflow in SUMO: the workers keep them second by second, as the kernels do in our own traffic."""

import importlib.util

import pytest
import torch

from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.controllers import greedy
from fedsched.envs.intersections.entrances import with_entrances
from fedsched.envs.intersections.inflow import crossed
from fedsched.envs.intersections.problem import grid_problem, make_problem
from fedsched.envs.intersections.sumo.world import SumoWorld

needs_sumo = pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="the extra `sumo` is not installed")


@needs_sumo
def test_limits_are_kept_by_the_same_law_as_in_our_world() -> None:
    """Signals show the same at gates second by second, given who has crossed; no more cross than lanes at the gate."""
    grid = grid_problem(1)
    problem = make_problem(grid.network, grid.demands, 0.0, 200.0, name=grid.name)
    districts = with_entrances(problem, balanced(problem, 2))
    guards = [torch.tensor(gate.guards) for gate in districts.gates]
    with SumoWorld(problem, 1, "sumo_rl", districts) as world:
        controller = greedy()
        controller.reset(world)
        rows = torch.zeros(1, dtype=torch.int64)
        until = torch.full((1,), 60.0, dtype=torch.float64)
        seen = world.reset(rows, rows, until_s=torch.zeros(1, dtype=torch.float64))
        while float(seen.time_s) < 60.0:
            seen = world.step(controller.act(seen), until).observation
        natural = world.traffic["gate_passed"][0].clone()
        seen = world.limit_inflow(torch.full((1, len(guards)), 3), torch.full((1,), 150.0, dtype=torch.float64))
        used: dict[int, int] = {}
        for now in range(60, 190):
            closed = {n for n, number in enumerate(crossed(world)[0].tolist()) if number >= 3 and now < 150}
            for gate in closed:
                used.setdefault(gate, now)
            seen = world.step(controller.act(seen), torch.full((1,), now + 1.0, dtype=torch.float64)).observation
            for gate in closed:
                shown = {chr(int(code)) for code in world.traffic["state"][0, guards[gate]]}
                assert shown <= ({"y", "r"} if now < used[gate] + 2 else {"r"}), (now, gate)
            if now == 149:
                held = crossed(world)[0].tolist()
        lanes = [len({int(problem.tables.links.source[link]) for link in own.tolist()}) for own in guards]
        assert len(used) > 3
        assert all(number <= 3 + 2 * own for number, own in zip(held, lanes, strict=True))
        assert sum(held) < int(natural.sum())
        after = crossed(world)[0].tolist()
        assert sum(after) > sum(held) + 10  # once the epoch is over
