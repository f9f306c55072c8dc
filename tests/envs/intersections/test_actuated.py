"""Actuated programs: SUMO's detectors and ends of phases, and kernels that do what the reference does."""

import gzip
import json
import math
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.envs.intersections.actuation import Actuation, make_actuation
from fedsched.envs.intersections.kernels.control import LONG_AGO
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import GapRule, IntersectionsError
from fedsched.envs.intersections.netwriter import write_network
from fedsched.envs.intersections.problem import Problem, grid_problem, make_problem
from fedsched.envs.intersections.programs import webster
from fedsched.envs.intersections.reference import Simulation
from fedsched.envs.intersections.reference.actuated import ActuatedSignals
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.timing import named_timing
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

SCENE = Path(__file__).parent / "actuated"
ROUTES = Path(__file__).parent / "networks" / "lights.rou.xml.gz"


@cache
def problem() -> Problem:
    network = read_network(SCENE / "net.xml.gz")
    demand = read_demand([ROUTES], network, 0.0, 300.0)
    return make_problem(network, [demand], 0.0, 300.0, ["A0", "B1"], "lights")


@cache
def truth() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress((SCENE / "truth.json.gz").read_bytes()))
    return found


def actuation(timing: str = "program") -> Actuation:
    return make_actuation(problem(), named_timing(timing))


def ids(found: Actuation) -> list[str]:
    return [problem().network.signals[n].id for n in found.signal]


def test_detectors_lie_where_sumo_puts_them() -> None:
    """Those that lengthen a phase; SUMO has others, which count vehicles for nobody."""
    lanes, found = problem().network.lanes, actuation()
    theirs = {(lane, round(at, 2)) for lane, at in truth()["loops"]}
    own = {(lanes[lane].id, round(at, 2)) for lane, at in zip(found.loop_lane, found.loop_at.tolist(), strict=True)}
    assert own <= theirs
    assert len(own) > 20
    before = {lanes[connection.source].id for connection in problem().network.connections if connection.signal >= 0}
    assert any(lane not in before for lane, _ in own)  # further up than the lane before the signal


def test_phases_end_when_those_of_sumo_do() -> None:
    """With what SUMO's detectors say in every second."""
    found, network = actuation(), problem().network
    lanes = {lane.id: n for n, lane in enumerate(network.lanes)}
    number = {(lane, round(at, 2)): i for i, (lane, at) in enumerate(zip(found.loop_lane, found.loop_at, strict=True))}
    loops = [number.get((lanes[lane], round(at, 2))) for lane, at in truth()["loops"]]
    column = [truth()["signals"].index(name) for name in ids(found)]
    signals = ActuatedSignals(found, problem().tables.signals)
    changes = 0
    for now, phases in enumerate(truth()["phases"]):
        for loop, free_s in zip(loops, truth()["free_s"][now], strict=True):
            if loop is not None and free_s is not None:
                signals.detected[loop] = now - free_s
        own = signals.states(now)
        for n, k in zip(found.signal.tolist(), column, strict=True):
            assert own[n] == network.signals[n].phases[phases[k]].state, (now, network.signals[n].id)
            changes += phases[k] != truth()["phases"][max(0, now - 1)][k]
    assert changes > 100


def twins(case: Problem, timing: str, seconds: int, seed: int = 5) -> Counter[str]:
    """Runs kernels and reference side by side; how often a change of states came after how many seconds."""
    world = IntersectionsWorld(case, 1, timing)
    agents = len(case.signals)
    world.reset(torch.tensor([0]), torch.tensor([seed]), until_s=torch.zeros(1, dtype=torch.float64))
    found = make_actuation(case, named_timing(timing))
    signals = ActuatedSignals(found, case.tables.signals)
    slow = Simulation(case.tables, case.begin_s, seed, actuated=signals)
    keep = {KIND: torch.full((1, agents), case.phases)}
    shown: Counter[str] = Counter()
    for now in range(seconds):
        world.step(keep, torch.tensor([now + 1.0], dtype=torch.float64))
        slow.step()
        states = slow.states()
        for n in found.signal.tolist():
            own = "".join(map(chr, world.traffic["forced"][0, n, : len(states[n])].tolist()))
            assert own == states[n], (now, n)
            shown[own] += 1
        seen = np.maximum(signals.detected, LONG_AGO)
        np.testing.assert_allclose(world._greens["detected"][0].numpy(), seen, rtol=0, atol=1e-6)
        count = int(world.traffic["count"][0])
        own_at = dict(zip(world.traffic["id"][0, :count].tolist(), world.traffic["position"][0, :count], strict=True))
        assert own_at.keys() == {vehicle.id for vehicle in slow.running}
        assert all(abs(float(own_at[v.id]) - v.position) < 1e-6 for v in slow.running)
    return shown


def test_kernels_equal_the_reference() -> None:
    assert len(twins(problem(), "program", 120)) == 10
    assert len(twins(grid_problem(1), "actuated", 100)) == 8


def test_who_is_actuated_depends_on_file_timing_and_agents() -> None:
    assert ids(actuation("program")) == ["A0", "A1", "B0", "B1"]
    assert ids(actuation("resco")) == ["A1", "B0"]  # the others are agents
    forced = actuation("actuated")
    assert ids(forced) == ["A0", "A1", "B0", "B1"]
    first = int(problem().tables.signals.phase_begin[forced.signal[0]])
    assert (forced.shortest[first], forced.longest[first]) == (5, 50)
    assert not len(make_actuation(grid_problem(1), named_timing("program")).signal)
    assert ids(make_actuation(webster(problem()), named_timing("program"))) == ["A1", "B0"]


def test_greens_keep_their_limits_and_yellows_their_length() -> None:
    world = IntersectionsWorld(problem(), 1, "resco")
    observation = world.reset(torch.tensor([0]), torch.tensor([1]))
    agents = torch.zeros((1, 2), dtype=torch.int64)
    runs: list[tuple[str, int]] = []
    place = next(n for n, signal in enumerate(problem().network.signals) if signal.id == "A1")
    for now in range(1, 250):
        chosen = torch.where(observation.kinds[KIND].active, agents, problem().phases)
        observation = world.step({KIND: chosen}, torch.tensor([float(now)], dtype=torch.float64)).observation
        state = "".join(map(chr, world.traffic["forced"][0, place].tolist()))
        if not runs or runs[-1][0] != state:
            runs.append((state, 0))
        runs[-1] = (state, runs[-1][1] + 1)
    limits = {phase.state: (phase.minimum_s, phase.maximum_s) for phase in problem().network.signals[place].phases}
    assert len(runs) > 20
    for state, seconds in runs[1:-1]:
        low, high = limits[state]
        assert low <= seconds <= high
    assert {seconds for state, seconds in runs[1:-1] if "y" in state} == {3}
    assert len({seconds for state, seconds in runs[1:-1] if "y" not in state}) > 3


def test_a_phase_starts_anew_where_the_cycle_is() -> None:
    found = actuation()
    starts = dict(zip(ids(found), found.start.tolist(), strict=True))
    first = {name: truth()["phases"][0][truth()["signals"].index(name)] for name in starts}
    assert starts == first
    assert len(set(first.values())) > 1
    signals = ActuatedSignals(found, problem().tables.signals)
    before = signals.states(0)
    assert all(math.isinf(at) for at in signals.detected)
    assert before == signals.states(1)


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = gzip.decompress((SCENE / "net.xml.gz").read_bytes()).decode()
    assert old in text
    path = tmp_path / "net.xml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('type="actuated"', 'type="delay_based"', "signal 'A0': programs of type 'delay_based' are not modelled"),
        ('type="actuated"', 'type="NEMA"', "of type 'NEMA' are not modelled; make it 'static' or 'actuated'"),
        ('minDur="5"', 'next="2 4" minDur="5"', "signal 'A0': a phase with 'next' is not modelled"),
        ('minDur="5"', 'earliestEnd="2" minDur="5"', "a phase with 'earliestEnd' is not modelled"),
        ('minDur="5" maxDur="50"', 'minDur="5" maxDur="4"', "a phase of 5 to 4 s; give maxDur of at least minDur"),
        ('key="max-gap"', 'key="jam-threshold"', "signal 'A1': the parameter 'jam-threshold' of an actuated program"),
        ('key="max-gap" value="2"', 'key="max-gap" value="0"', "max-gap is 0 s; give it a value above 0"),
    ],
)
def test_what_is_not_modelled_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(IntersectionsError, match=message) as caught:
        read_network(changed(tmp_path, old, new))
    assert caught.value.line


def test_snapshots_hold_what_detectors_saw() -> None:
    world, other = IntersectionsWorld(problem(), 1, "program"), IntersectionsWorld(problem(), 1, "program")
    keep = {KIND: torch.full((1, 2), problem().phases)}

    def until(seconds: float) -> torch.Tensor:
        return torch.tensor([seconds], dtype=torch.float64)

    world.reset(torch.tensor([0]), torch.tensor([2]))
    world.step(keep, until(100.0))
    other.restore(world.snapshot())
    for one in (world, other):
        one.step(keep, until(200.0))
    assert all(torch.equal(column, other.traffic[name]) for name, column in world.traffic.items())
    empty = replace(problem().demands[0], trips=())
    alone = IntersectionsWorld(make_problem(problem().network, [empty], 0.0, 300.0), 1, "program")
    alone.reset(torch.tensor([0]), torch.tensor([2]))
    alone.step({KIND: torch.full((1, len(alone.problem.signals)), alone.problem.phases)}, until(100.0))
    assert not np.array_equal(alone.traffic["forced"][0], world.traffic["forced"][0])


def test_what_is_written_for_sumo_has_rules_and_limits(tmp_path: Path) -> None:
    write_network(problem().network, tmp_path / "net.xml")
    assert read_network(tmp_path / "net.xml").signals == problem().network.signals
    rules = {signal.rule for signal in problem().network.signals}
    assert GapRule(max_gap_s=2.0, detector_gap_s=1.4) in rules
    assert any(math.isinf(phase.maximum_s) for signal in problem().network.signals for phase in signal.phases)
