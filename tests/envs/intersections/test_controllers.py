"""The classical controllers choose what their definitions say."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.envs.core import Controller, WorldError
from fedsched.envs.intersections.controllers import (
    PhaseTables,
    ProgramController,
    Sotl,
    choose,
    greedy,
    max_pressure,
)
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.problem import Problem, grid_problem, make_problem
from fedsched.envs.intersections.programs import green_wave, movement_flows, program, webster
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

NETWORKS = Path(__file__).parent / "networks"


@cache
def problem() -> Problem:
    return grid_problem(3)


def play(problem: Problem, controller: Controller, timing: str, last: float = 1200.0) -> IntersectionsWorld:
    """Three episodes to that second."""
    world = IntersectionsWorld(problem, 3, timing)
    controller.reset(world)
    observation = world.reset(torch.arange(3), torch.arange(3))
    until = torch.full((3,), last, dtype=torch.float64)
    while float(observation.time_s.min()) < last:
        observation = world.step(controller.act(observation), until).observation
    return world


def delays(*args: Any) -> list[float]:
    return play(*args).metrics()["resco_delay_s"].tolist()


def test_the_best_legal_phase_and_ties_keep_the_current_one_else_the_lowest() -> None:
    target = torch.tensor([[2, 2, 0, 1, 1]])
    world: Any = SimpleNamespace(control={"target": target}, problem=SimpleNamespace(phases=3))
    active = torch.tensor([[True, True, True, False, True]])
    mask = torch.tensor([[[True] * 3 + [False]] * 3 + [[False] * 3 + [True], [True, False, True, False]]])
    observation: Any = SimpleNamespace(kinds={KIND: SimpleNamespace(active=active, action_mask=mask)})
    demand = torch.tensor([[[5, 1, 5], [4, 4, 1], [-3, -2, 9], [0, 0, 9], [0, 7, 2]]])
    exists = torch.tensor([[True, True, True]] * 2 + [[True, True, False]] * 2 + [[True, True, True]])
    assert choose(demand, exists, world, observation).tolist() == [[2, 0, 1, 3, 2]]


def test_phase_demand_is_a_sum_over_green_links_and_each_lane_behind_once() -> None:
    network = read_network(NETWORKS / "lights.net.xml.gz")  # some of its streams join on one lane
    problem = make_problem(network, [read_demand(NETWORKS / "lights.rou.xml.gz", network, 0, 60)], 0, 60)
    tables, links = PhaseTables(problem, "cpu"), problem.tables.links
    rng = np.random.default_rng(0)
    before = torch.tensor(rng.integers(0, 9, (2, len(problem.signal_links))), dtype=torch.int32)
    behind = torch.tensor(rng.integers(0, 9, (2, len(problem.out_lanes))), dtype=torch.int32)
    number = problem.signal_links.tolist()
    place = problem.out_lanes.tolist()
    shared = 0
    for a, signal in enumerate(problem.signals):
        own = np.flatnonzero(links.signal == signal.index)
        for n, state in enumerate(signal.phases):
            green = [k for k in own if state[links.signal_index[k]] in "gG"]
            lanes = {int(links.target[k]) for k in green}
            shared += len(green) - len(lanes)
            for row in range(2):
                assert tables.before(before)[row, a, n] == sum(int(before[row, number.index(k)]) for k in green)
                assert tables.behind(behind)[row, a, n] == sum(int(behind[row, place.index(k)]) for k in lanes)
    assert shared > 0


@pytest.mark.parametrize(
    ("controller", "before", "behind"),
    [(max_pressure(), "halting", "out_halting"), (max_pressure("all"), "seen", "out_seen"), (greedy(), "near", None)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_chosen_phase_has_the_greatest_demand(controller: Any, before: str, behind: str | None) -> None:
    world = play(problem(), controller, "resco", 300.0)
    observation = world.observe()
    assert bool(observation.kinds[KIND].active.all())
    tables = PhaseTables(problem(), "cpu")
    demand = tables.before(world.counts[before])
    if behind:
        demand = demand - tables.behind(world.counts[behind])
    chosen = controller.act(observation)[KIND]
    assert torch.equal(demand.gather(2, chosen[:, :, None])[:, :, 0], demand.amax(2))
    assert len(chosen.unique()) > 1


def test_who_looks_at_the_traffic_beats_the_program() -> None:
    fixed = delays(problem(), ProgramController(), "program")
    for controller in (greedy(), max_pressure(), max_pressure("all"), Sotl()):
        assert all(a < 0.65 * b for a, b in zip(delays(problem(), controller, "resco"), fixed, strict=True)), controller


def test_programs_need_the_timing_program() -> None:
    with pytest.raises(WorldError, match="timing `program`"):
        ProgramController().reset(IntersectionsWorld(problem(), 1, "resco"))


def test_sotl_starts_afresh_with_an_episode() -> None:
    controller, world = Sotl(), IntersectionsWorld(problem(), 1, "sumo_rl")
    controller.reset(world)
    totals = []
    for _ in range(2):
        observation = world.reset(torch.tensor([0]), torch.tensor([0]))
        for _ in range(30):
            observation = world.step(controller.act(observation)).observation
        totals.append(world.counts["total"].clone())
    assert torch.equal(*totals)


def test_flows_count_every_trip_once_per_signal() -> None:
    flows = movement_flows(problem(), 0)
    demand, links, lanes = problem().demands[0], problem().tables.links, problem().tables.lanes
    signalled = {(int(lanes.edge[links.source[k]]), int(lanes.edge[links.target[k]])) for k in problem().signal_links}
    crossed = sum(
        pair in signalled
        for trip in demand.trips
        for pair in zip(demand.routes[trip.route], demand.routes[trip.route][1:], strict=False)
    )
    assert sum(map(sum, flows)) / 3.0 == pytest.approx(crossed)


def test_a_program_has_yellow_only_where_somebody_loses_green() -> None:
    phases = program(("Gr", "GG", "rG"), (10, 5, 20), 3)
    assert [(phase.state, phase.duration_s) for phase in phases] == [
        ("Gr", 10), ("GG", 5), ("yG", 3), ("rG", 20), ("ry", 3),
    ]  # fmt: skip


def test_webster_follows_the_flows_and_helps() -> None:
    planned = webster(problem())
    own = planned.network.signals[planned.signals[4].index]
    greens = {phase.state: phase.duration_s for phase in own.phases if "y" not in phase.state}
    assert list(greens) == list(problem().signals[4].phases)
    served = problem().served[4] > 0
    flows = np.array(movement_flows(problem(), 0)[4])
    lanes = np.array([len(move.lanes) for move in problem().signals[4].movements])
    ratio = flows / 1800 / lanes / served.sum(0)
    critical = [ratio[served[n]].max() for n in range(4)]
    cycle = max((1.5 * 16 + 5) / (1 - sum(critical)), 16 + 4 * 5)  # no green below 5 s
    for state, share in zip(greens, np.array(critical) / sum(critical), strict=True):
        assert greens[state] == max(5, round((cycle - 16) * share))
    assert np.mean(delays(planned, ProgramController(), "program")) < np.mean(
        delays(problem(), ProgramController(), "program")
    )


def test_a_green_wave_shares_one_cycle_and_meets_the_platoon() -> None:
    waved = green_wave(webster(problem()))
    signals = [waved.network.signals[signal.index] for signal in waved.signals]
    assert len({signal.cycle_s for signal in signals}) == 1
    cycle = signals[0].cycle_s
    names = {signal.id: n for n, signal in enumerate(waved.signals)}
    stretch = max(
        (way for way in waved.between if (way.source, way.target) == (names["A0"], names["A1"])), key=lambda w: w.time_s
    )
    lag = (signals[names["A1"]].offset_s - signals[names["A0"]].offset_s) % cycle
    starts = [0.0]
    for phase in signals[0].phases[:-1]:
        starts.append(starts[-1] + phase.duration_s)
    # some green of the one follows some green of the other by the travel time
    gaps = [(lag + b - a - stretch.time_s) % cycle for a in starts for b in starts]
    assert min(min(gap, cycle - gap) for gap in gaps) <= 1.0
