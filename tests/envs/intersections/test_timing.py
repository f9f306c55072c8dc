"""Named timings say when signals may decide."""

from dataclasses import replace

import pytest
import torch

from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, grid_problem, make_problem
from fedsched.envs.intersections.signals import transition
from fedsched.envs.intersections.timing import TIMINGS, Timing, named_timing
from fedsched.envs.intersections.world import KIND, IntersectionsWorld


@pytest.fixture(scope="module")
def problem() -> Problem:
    return grid_problem(1)


def decisions(problem: Problem, timing: str | Timing, last: int) -> list[list[bool]]:
    """Who must decide in every second, while signal 0 changes whenever it may and the others never do."""
    world = IntersectionsWorld(problem, 1, timing)
    zero = torch.zeros(1, dtype=torch.float64)
    observation = world.reset(torch.tensor([0]), torch.tensor([0]), until_s=zero)
    seen = []
    for now in range(last):
        active = observation.kinds[KIND].active
        seen.append(active[0].tolist())
        other = 1 - world.control["target"][0, 0].long()
        wanted = torch.zeros(1, 9, dtype=torch.int64).index_put((torch.tensor([0]), torch.tensor([0])), other)
        actions = {KIND: torch.where(active, wanted, world.spec.kinds[0].idle)}
        observation = world.step(actions, zero + now + 1).observation
    return seen


def test_published_protocols() -> None:
    assert (named_timing("resco").period_s, named_timing("resco").yellow_s) == (10, 3)
    assert (named_timing("resco", "arterial4x4").period_s, named_timing("resco", "arterial4x4").yellow_s) == (5, 2)
    assert named_timing("sumo_rl", "arterial4x4") == TIMINGS["sumo_rl"]


@pytest.mark.parametrize(
    ("timing", "changing", "still"),
    [
        ("resco", {0, 10, 20, 30}, {0, 10, 20, 30}),
        ("sumo_rl", {0, 10, 20, 30}, set(range(0, 40, 5))),  # 7 s after a change is 10 s on a grid of 5 s
        ("free", {0, 8, 16, 24, 32}, set(range(40))),  # 3 s yellow and 5 s green
        (Timing("long green", 5, 2, 12), {0, 15, 30}, set(range(0, 40, 5))),
        ("program", set(), set()),
    ],
)
def test_a_signal_decides_when_its_timing_says_so(
    problem: Problem, timing: str | Timing, changing: set[int], still: set[int]
) -> None:
    seen = decisions(problem, timing, 40)
    assert {now for now, active in enumerate(seen) if active[0]} == changing
    for other in range(1, 9):
        assert {now for now, active in enumerate(seen) if active[other]} == still


def test_a_decision_is_asked_for_once(problem: Problem) -> None:
    world = IntersectionsWorld(problem, 1, "resco")
    observation = world.reset(torch.tensor([0]), torch.tensor([0]))
    assert bool(observation.kinds[KIND].active.all())
    zero = torch.zeros(1, dtype=torch.float64)
    moved = world.step({KIND: torch.zeros(1, 9, dtype=torch.int64)}, zero)  # even if the phase is kept
    assert float(moved.elapsed_s) == 0.0
    assert not bool(moved.observation.kinds[KIND].active.any())
    moved = world.step({KIND: torch.full((1, 9), 4)})
    assert float(moved.elapsed_s) == 10.0


@pytest.mark.parametrize("loses", [True, False])
def test_a_new_green_begins_once_the_yellow_time_is_over_whether_a_green_is_lost_or_not(
    problem: Problem, loses: bool
) -> None:
    """As RESCO and sumo-rl have it; until then, links show what they had, and yellow where they lose it."""
    signal, others = problem.signals[4], range(len(problem.signals[4].phases))
    states = signal.phases
    old, new = next(
        (a, b) for a in others for b in others if a != b and (transition(states[a], states[b]) != states[a]) == loses
    )
    world = IntersectionsWorld(problem, 1, Timing("slow", 20, 4))
    until = torch.zeros(1, dtype=torch.float64)
    active = world.reset(torch.tensor([0]), torch.tensor([0]), until_s=until).kinds[KIND].active
    shown = []
    for now in range(1, 31):
        phase = torch.where(active, old if now <= 20 else new, world.spec.kinds[0].idle)
        active = world.step({KIND: phase}, until + now).observation.kinds[KIND].active
        shown.append("".join(map(chr, world.traffic["forced"][0, signal.index].tolist())))
    assert shown[19:] == [states[old], *[transition(states[old], states[new])] * 4, *[states[new]] * 6]


def test_wrong_timings_are_refused() -> None:
    with pytest.raises(IntersectionsError, match="no timing 'fast'; there are resco, sumo_rl, free, program, actuated"):
        named_timing("fast")
    with pytest.raises(IntersectionsError, match="below 0"):
        Timing("backwards", 5, -1)
    with pytest.raises(IntersectionsError, match="no longest green"):
        Timing("both", 5, longest_s=50)


def greens(problem: Problem, begin: int, end: int) -> list[tuple[str, int]]:
    """States that signal 4 shows one after another under actuated programs, with their seconds."""
    world = IntersectionsWorld(problem, 1, "actuated")
    world.reset(torch.tensor([0]), torch.tensor([0]))
    runs: list[tuple[str, int]] = []
    keep = {KIND: torch.full((1, 9), 4)}
    for now in range(1, end + 1):
        world.step(keep, torch.tensor([float(now)], dtype=torch.float64))
        state = "".join(map(chr, world.traffic["forced"][0, problem.signals[4].index].tolist()))
        if now > begin:
            if not runs or runs[-1][0] != state:
                runs.append((state, 0))
            runs[-1] = (state, runs[-1][1] + 1)
    return runs[1:-1]


def test_actuated_programs_keep_their_order_and_lengthen_greens_for_who_comes(problem: Problem) -> None:
    file = [phase.state for phase in problem.network.signals[problem.signals[4].index].phases]
    runs = greens(problem, 0, 900)
    assert len(runs) > 40
    first = file.index(runs[0][0])
    for n, (state, seconds) in enumerate(runs):
        assert state == file[(first + n) % len(file)]
        assert seconds == 3 if "y" in state else 5 <= seconds <= 50
    lengths = {seconds for state, seconds in runs if "y" not in state}
    assert 5 in lengths
    assert max(lengths) > 8


def test_actuated_greens_without_traffic_are_shortest(problem: Problem) -> None:
    empty = make_problem(problem.network, [replace(problem.demands[0], trips=())], 0.0, 300.0)
    assert {seconds for state, seconds in greens(empty, 0, 200) if "y" not in state} == {5}
