"""SUMO behind the contract of worlds: the same spec, the same tokens of the same traffic, the same deciders."""

import dataclasses
import gc
import importlib.util
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsched.envs.core import Controller, IllegalActionError, Transition, WorldError
from fedsched.envs.core.check import check_world
from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.controllers import ProgramController, Sotl, greedy, max_pressure
from fedsched.envs.intersections.generate import Arterial, Incident, Traffic, generated_problem
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, grid_problem, make_problem
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.sumo.batch import SumoBatch, SumoWorkerError
from fedsched.envs.intersections.sumo.simulation import SumoError
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.envs.intersections.timing import Timing
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

SCENES = Path(__file__).parent / "scenes"
needs_sumo = pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="the extra `sumo` is not installed")


@cache
def city(seconds: int = 1200) -> Problem:
    """The shipped grid, cut short."""
    grid = grid_problem(2)
    return make_problem(grid.network, grid.demands, 0.0, float(seconds), name=grid.name)


def scene(name: str) -> Problem:
    """A scene in which nobody dawdles and all drive at the limit, so that both sides do the same."""
    network = read_network(SCENES / name / "net.xml.gz")
    demand = read_demand([SCENES / name / "rou.xml"], network, 0, 120)
    flat = [dataclasses.replace(t, sigma=0.0, speed_deviation=0.0, speed_factor=1.0) for t in demand.types]
    return make_problem(network, [dataclasses.replace(demand, types=tuple(flat))], 0.0, 120.0, name=name)


def seconds(world: IntersectionsWorld, last: int, phase: dict[int, int]) -> Iterator[Transition]:
    """One second after another; `phase` is what is chosen from a second on wherever somebody must decide."""
    rows = torch.arange(world.batch)
    observation = world.reset(rows * 0, rows, until_s=torch.zeros(world.batch, dtype=torch.float64))
    chosen = 0
    for now in range(last):
        chosen = phase.get(now, chosen)
        active = observation.kinds[KIND].active
        action = torch.where(active, chosen, world.spec.kinds[0].idle)
        moved = world.step({KIND: action}, torch.full((world.batch,), now + 1.0, dtype=torch.float64))
        observation = moved.observation
        yield moved


def episode(world: IntersectionsWorld, controller: Controller) -> dict[str, torch.Tensor]:
    """What an episode of instance 0 is worth under a controller, seeds in order."""
    rows = torch.arange(world.batch)
    controller.reset(world)
    observation, ended = world.reset(rows * 0, rows), False
    while not ended:
        moved = world.step(controller.act(observation))
        observation, ended = moved.observation, bool(moved.truncated.all())
    return world.metrics()


@needs_sumo
def test_the_contract_is_kept() -> None:
    worlds: list[SumoWorld] = []

    def make(batch: int) -> SumoWorld:
        worlds.append(SumoWorld(city(60), batch, "sumo_rl"))
        return worlds[-1]

    check_world(make, instances=(0, 1), steps=20)
    for world in worlds:
        world.close()


@needs_sumo
@pytest.mark.parametrize("timing", ["resco", "sumo_rl", "free", "program", "actuated"])
def test_the_spec_is_that_of_our_own_traffic_but_for_exact(timing: str) -> None:
    own = IntersectionsWorld(city(), 1, timing).spec
    with SumoWorld(city(), 1, timing) as world:
        spec = world.spec
    assert own.exact
    assert not spec.exact
    assert (spec.name, spec.reward_parts, spec.metrics) == (own.name, own.reward_parts, own.metrics)
    assert np.array_equal(spec.neighbours, own.neighbours)
    ours, theirs = own.kinds[0], spec.kinds[0]
    assert np.array_equal(ours.relation, theirs.relation)
    assert np.array_equal(ours.links, theirs.links)
    plain = [dataclasses.replace(kind, relation="identity", links=None) for kind in (ours, theirs)]
    assert plain[0] == plain[1]


@needs_sumo
@pytest.mark.parametrize("name", ["queue_discharge", "yellow", "permissive_left", "right_on_red", "spillback"])
def test_the_same_traffic_is_seen_and_paid_alike(name: str) -> None:
    """Every second, by programs: tokens, rewards and in the end the figures of both sides."""
    problem = scene(name)
    ours = IntersectionsWorld(problem, 1, "program")
    with SumoWorld(problem, 1, "program") as theirs:
        for now, (a, b) in enumerate(zip(seconds(ours, 120, {}), seconds(theirs, 120, {}), strict=True)):
            for field, mine in vars(a.observation.kinds[KIND]).items():
                other = getattr(b.observation.kinds[KIND], field)
                torch.testing.assert_close(other.float(), mine.float(), atol=2e-3, rtol=0, msg=f"{field} at {now}")
            torch.testing.assert_close(b.reward[KIND], a.reward[KIND], atol=0.05, rtol=0.02)
            assert torch.equal(a.truncated, b.truncated)
        figures = theirs.metrics()
    for key, value in ours.metrics().items():
        torch.testing.assert_close(figures[key], value, atol=0.02, rtol=0.01, equal_nan=True, msg=key)


@needs_sumo
def test_decisions_show_the_same_lights_at_the_same_time() -> None:
    problem, timing = city(60), Timing("slow", 20, 4)
    ours = IntersectionsWorld(problem, 2, timing)
    with SumoWorld(problem, 2, timing) as theirs:
        changes = {0: 1, 20: 3, 40: 2}
        pairs = zip(seconds(ours, 60, changes), seconds(theirs, 60, changes), strict=True)
        lights = problem.tables.links.signal >= 0
        shown = set()
        for a, b in pairs:
            assert torch.equal(ours.traffic["state"][:, lights], theirs.traffic["state"][:, lights])
            shown.add(tuple(ours.traffic["state"][0, lights].tolist()))
            for field in ("own", "actions", "action_mask", "active", "alive"):
                mine, other = (getattr(side.observation.kinds[KIND], field) for side in (a, b))
                assert torch.equal(mine, other), field
    assert len(shown) == 5  # three phases, yellow before the first and the second; from 3 to 2 nothing loses its green


@needs_sumo
def test_figures_are_those_of_tripinfo() -> None:
    """What is counted second by second is what SUMO sums up itself, but for the second in which a trip ends."""
    problem = city(300)
    with SumoWorld(problem, 1, "program") as world:
        for _ in seconds(world, 299, {}):
            pass
        counted = {name: world.traffic[name].clone() for name in ("trip_loss", "trip_waiting")}
        done = world.traffic["trip_arrived"][0] >= 0
        world.step({KIND: torch.full((1, 9), problem.phases)})
        with SumoBatch() as alone:
            alone.start({0: world._setup(0, 0)})
            alone.advance({0: [({}, 300)]})
            trips = alone.finish([0])[0]
        number = {trip.id: n for n, trip in enumerate(problem.demands[0].trips)}
        loss = torch.zeros(len(number), dtype=torch.float64)
        loss[[number[name] for name in trips.id]] = torch.as_tensor(trips.time_loss_s)
        found = world.traffic
        arrived, driving = found["trip_arrived"][0] >= 0, found["id"][0, : int(found["count"][0])].long()
        assert torch.equal(found["trip_loss"][0, arrived], loss[arrived].float())
        assert torch.equal(found["time_loss"][0, : len(driving)].double(), loss[driving])
        missing = (found["trip_loss"] - counted["trip_loss"])[0, done]
        assert int(done.sum()) > 50
        assert -0.02 < float(missing.min()) < float(missing.max()) < 1.0
        assert torch.equal(found["trip_waiting"][0, done], counted["trip_waiting"][0, done])
        assert int(world.metrics()["running"][0]) == len(driving) > 20


@needs_sumo
@pytest.mark.parametrize(
    ("make", "timing"),
    [(ProgramController, "program"), (greedy, "resco"), (max_pressure, "resco"), (Sotl, "sumo_rl")],
)
def test_controllers_run_on_both_and_fare_alike(make: type[Controller], timing: str) -> None:
    """Mean delay of three seeds: within three standard errors of the difference, and a second."""
    problem = city(420)
    own = episode(IntersectionsWorld(problem, 3, timing), make())["resco_delay_s"].numpy()
    with SumoWorld(problem, 3, timing) as world:
        theirs = episode(world, make())["resco_delay_s"].numpy()
    error = np.sqrt((own.var(ddof=1) + theirs.var(ddof=1)) / 3)
    assert own.mean() > 5
    assert abs(own.mean() - theirs.mean()) <= 3 * error + 1.0


@needs_sumo
def test_rows_are_reset_alone_and_a_restored_world_starts_its_episodes_anew() -> None:
    with SumoWorld(city(60), 2, "sumo_rl") as world:
        rows = torch.arange(2)
        first = world.reset(rows, rows + 5)
        keep = {name: value.clone() for name, value in vars(first.kinds[KIND]).items()}
        hold = {KIND: torch.where(first.kinds[KIND].active, 0, world.spec.kinds[0].idle)}
        for _ in range(4):
            moved = world.step(hold)
        played = {name: value[0].clone() for name, value in vars(moved.observation.kinds[KIND]).items()}
        count = int(world.traffic["count"][1])
        again = world.reset(rows, rows + 5, where=torch.tensor([True, False]))
        assert again.time_s.tolist() == [0.0, float(moved.observation.time_s[1])]
        assert int(world.traffic["count"][1]) == count > 3
        for _ in range(4):
            repeated = world.step(hold)
        assert int(world.traffic["count"][0]) > 3
        for name, value in vars(repeated.observation.kinds[KIND]).items():
            assert torch.equal(value[0], played[name]), name
        restored = world.restore(world.snapshot())
        assert restored.time_s.tolist() == [0.0, 0.0]
        for name, value in vars(restored.kinds[KIND]).items():
            assert torch.equal(value, keep[name]), name
        with pytest.raises(WorldError, match="another problem"):
            world.restore(dataclasses.replace(world.snapshot(), extra={"problem": ""}))
        with pytest.raises(WorldError, match="traffic cannot be copied"):
            world.branch(world, torch.tensor([0]))


@needs_sumo
def test_actuated_signals_follow_sumos_own_rule() -> None:
    """Greens as long as the timing allows, by traffic; the programs of the file do otherwise."""
    problem = city(200)
    lights = problem.tables.links.signal >= 0
    shown = {}
    for timing in ("actuated", "program"):
        with SumoWorld(problem, 1, timing) as world:
            shown[timing] = [world.traffic["state"][0, lights].tolist() for _ in seconds(world, 200, {})]
    assert shown["actuated"] != shown["program"]
    link = [chr(states[0]) in "gG" for states in shown["actuated"]]
    greens = [len(list(group)) for green, group in itertools.groupby(link) if green]
    assert len(greens) > 2
    assert all(5 <= length <= 50 for length in greens[:-1])


@needs_sumo
def test_districts_are_sites_whose_gates_count() -> None:
    """Crossings are those of the routes, as far as everybody has come."""
    problem = city(200)
    districts = balanced(problem, 2)
    tables, ways = problem.tables, problem.tables.ways
    expected = np.zeros(len(districts.gates), dtype=int)
    with SumoWorld(problem, 1, "program", districts) as world:
        own = IntersectionsWorld(problem, 1, "program", districts=districts).spec
        assert np.array_equal(world.spec.site, own.site)
        for _ in seconds(world, 199, {}):
            pass
        traffic = world.traffic
        place = {int(traffic["id"][0, s]): s for s in range(int(traffic["count"][0]))}
        for trip in (traffic["trip_inserted"][0] >= 0).nonzero().flatten().tolist():
            first, last = int(tables.vehicles.way[trip]), int(tables.vehicles.edges[trip]) - 1
            passed = last
            if trip in place:
                lane = int(traffic["lane"][0, place[trip]])
                passed = int(traffic["place"][0, place[trip]]) + bool(tables.lanes.internal[lane])
            sides = [int(districts.edge[edge]) for edge in ways.edge[first : first + last + 1]]
            for one, other in itertools.pairwise(sides[: passed + 1]):
                if one != other:
                    expected[districts.gate(districts.names[one], districts.names[other])] += 1
        assert expected.min() > 3
        assert traffic["gate_passed"][0].tolist() == expected.tolist()
        until = torch.full((1,), 300.0, dtype=torch.float64)
        assert world.limit_inflow(torch.full((1, len(expected)), -1), until).time_s.tolist() == [199.0]
        with pytest.raises(WorldError, match="programs keep no limits in SUMO"):
            world.limit_inflow(torch.full((1, len(expected)), 5), until)


@needs_sumo
@pytest.mark.parametrize("lane", [1, None])
def test_lanes_of_generated_cities_close_in_sumo_too(lane: int | None) -> None:
    incident = Incident("x0-x1", 90, 150, lane)
    traffic = Traffic(vehicles_per_h=2600, seconds=220, incidents=(incident,))
    problem = generated_problem(Arterial(2, side_lanes=2, spacing_m=200), traffic, 3, 1)
    own = problem.network.edges[problem.network.edge("x0-x1")].lanes
    closed = set(own if lane is None else own[lane : lane + 1])
    entering, before = [], set[int]()
    with SumoWorld(problem, 1, "program") as world:
        for _ in seconds(world, 220, {}):
            count = int(world.traffic["count"][0])
            places = zip(*(world.traffic[key][0, :count].tolist() for key in ("id", "lane")), strict=True)
            on = {trip for trip, at in places if at in closed}
            entering.append(len(on - before))
            before = on
            rows = (world.traffic["way"] + world.traffic["place"])[0, :count].numpy()
            inside = world.traffic["lane"][0, :count].numpy()
            normal = ~problem.tables.lanes.internal[inside]
            assert np.array_equal(problem.tables.ways.edge[rows[normal]], problem.tables.lanes.edge[inside[normal]])
    assert sum(entering[105:150]) == 0  # who is on the junction when it closes still comes
    assert sum(entering[:90]) > 0
    assert sum(entering[150:]) > 3


def test_a_worker_imports_neither_torch_nor_warp() -> None:
    """It starts in a fraction of the time and of the memory without."""
    code = "import sys, fedsched.envs.intersections.sumo.worker; print(sorted({'torch', 'warp'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_sumo
def test_bad_requests_and_dead_workers_are_named_and_no_process_is_left() -> None:
    world = SumoWorld(city(60), 2, "sumo_rl")
    rows = torch.arange(2)
    with pytest.raises(WorldError, match="instances"):
        world.reset(rows + 7, rows)
    observation = world.reset(rows, rows)
    with pytest.raises(IllegalActionError, match="world 0, signal"):
        world.step({KIND: torch.full((2, 9), 9)})
    workers = [worker.pid for worker in world._batch._workers.values()]
    os.kill(workers[1], signal.SIGKILL)
    hold = {KIND: torch.where(observation.kinds[KIND].active, 0, 4)}
    with pytest.raises(SumoWorkerError, match="worker 1: its process is gone, exit code -9") as caught:
        world.step(hold)
    assert caught.value.row == 1
    with pytest.raises(SumoError, match=r"rows \[0, 1\] have not been started"):
        world.step(hold)
    observation = world.reset(rows, rows)
    workers += [worker.pid for worker in world._batch._workers.values()]
    assert world.step(hold).elapsed_s.tolist() == [5.0, 5.0]
    folder = Path(world._folder.name)
    assert folder.exists()
    del world, observation, caught
    gc.collect()
    assert not folder.exists()
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_sumo_cannot_do_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = city()
    late = make_problem(grid.network, grid.demands, 0.5, 60.5)
    with pytest.raises(IntersectionsError, match=r"begins at 0.5 s; SUMO needs a whole second"):
        SumoWorld(late, 1)
    monkeypatch.setitem(sys.modules, "libsumo", None)
    with pytest.raises(SumoError, match=r"^SUMO is not installed: pip install 'fedsched\[sumo\]'$"):
        SumoWorld(grid, 1)


@needs_sumo
def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "intersections.md").read_text()
    [source] = re.findall(r"^```py\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    exec(compile(source, "example", "exec"), {})
    delays = [float(text) for text in re.findall(r"\d+\.\d+", capsys.readouterr().out)]
    assert len(delays) == 2
    assert all(10 < delay < 30 for delay in delays)
