"""Priorities: the signals serve a movement first, for one vehicle or for all, and nothing else changes."""

import dataclasses
import importlib.util
from functools import cache
from typing import Any

import pytest
import torch

from fedsched.envs.core import Controller, WorldError
from fedsched.envs.core.check import check_world
from fedsched.envs.intersections.controllers import Sotl, greedy, max_pressure
from fedsched.envs.intersections.cutout import limit_times
from fedsched.envs.intersections.events import corridor, vehicle_event
from fedsched.envs.intersections.priorities import EVERYBODY, Priority, along_s, link_movements
from fedsched.envs.intersections.problem import Problem, grid_problem, make_problem
from fedsched.envs.intersections.reference.priorities import Driver, legal_phases
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

ROOM = 16
needs_sumo = pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="the extra `sumo` is not installed")


@cache
def problem() -> Problem:
    return grid_problem(3)


def make(batch: int = 1, timing: str = "resco", **options: Any) -> IntersectionsWorld:
    return IntersectionsWorld(problem(), batch, timing, **{"priorities": ROOM, **options})


def start(world: IntersectionsWorld) -> Any:
    rows = torch.arange(world.batch)
    return world.reset(rows % 2, rows, until_s=torch.zeros(world.batch, dtype=torch.float64))


def travellers(instance: int, number: int, least: int = 3) -> list[int]:
    """Trips over several stop lines, early ones."""
    demand = problem().demands[instance]
    return [n for n, trip in enumerate(demand.trips) if len(demand.routes[trip.route]) > least][:number]


def asked(instance: int, trip: int, lead: int = 20) -> list[Priority]:
    """One for each stop line on a trip's way."""
    event = vehicle_event(problem(), instance, problem().demands[instance].trips[trip].id, weight=10.0)
    passages = corridor(problem(), instance, event)
    return [Priority(one.signal, one.movement, 0, 1200, one.trip, one.place, lead) for one in passages]


def play(world: IntersectionsWorld, controller: Controller, observation: Any, seconds: int) -> Any:
    controller.reset(world)
    until = torch.full((world.batch,), float(seconds), dtype=torch.float64)
    while float(observation.time_s.min()) < seconds:
        observation = world.step(controller.act(observation), until).observation
    return observation


def drivers(world: IntersectionsWorld, row: int) -> list[Driver]:
    traffic, lanes, demand = world.traffic, problem().tables.lanes, problem().demands[row % 2]
    found = []
    for slot in range(int(traffic["count"][row])):
        trip, place, lane = (int(traffic[name][row, slot]) for name in ("id", "place", "lane"))
        route = demand.routes[demand.trips[trip].route]
        position, link = float(traffic["position"][row, slot]), int(traffic["signal"][row, slot])
        movement = int(link_movements(problem())[link]) if link >= 0 else -1
        stands = int(traffic["waiting"][row, slot]) > 0
        driven_s, inside = position / float(lanes.speed[lane]), bool(lanes.internal[lane])
        found.append(Driver(trip, route, place, inside, driven_s, lane, position, stands, movement))
    return found


def seen(world: IntersectionsWorld, row: int, signal: int) -> set[int]:
    place = {int(link): q for q, link in enumerate(problem().signal_links)}
    counts = world.counts["seen"][row].tolist()
    links = problem().signals[signal].links
    return {e for e, own in enumerate(links) if any(counts[place[link]] for link in own)}


@pytest.mark.parametrize("timing", ["resco", "free"])
def test_masks_are_those_of_the_slow_twin(timing: str) -> None:
    world, edge_s, narrowed = make(2, timing), limit_times(problem()).tolist(), 0
    observation = start(world)
    wanted = {
        row: [
            Priority(4, 1, 30, 150, every=40, lasts=20),
            *[one for trip in travellers(row, 3) for one in asked(row, trip)][: ROOM - 2],
            Priority(4, 2, 20, 140, every=25, lasts=10),
        ]
        for row in range(2)
    }
    observation = world.prioritise(wanted)
    controller = greedy()
    controller.reset(world)
    for _ in range(16 if timing == "resco" else 120):
        observation = world.step(controller.act(observation)).observation
        tokens = observation.kinds[KIND]
        for row, a in (tokens.active & tokens.alive).nonzero().tolist():
            now, signal = int(observation.time_s[row]), problem().signals[a]
            own = legal_phases(signal, a, wanted[row], now, drivers(world, row), seen(world, row, a), edge_s)
            assert set(tokens.action_mask[row, a].nonzero().flatten().tolist()) == own
            narrowed += len(own) < len(signal.phases)
    assert narrowed > 30


def test_seconds_along_a_way_are_sums_over_its_edges() -> None:
    along, ways, edge_s = along_s(problem()), problem().tables.ways, limit_times(problem())
    total = 0.0
    for row in range(len(ways.edge)):
        assert along[row] == pytest.approx(total)
        total = 0.0 if ways.last[row] else total + float(edge_s[ways.edge[row]])


def test_room_for_priorities_changes_no_bit() -> None:
    plain, roomy = make(2, priorities=0), make(2)
    for world in (plain, roomy):
        play(world, greedy(), start(world), 300)
    for name, column in plain.traffic.items():
        assert torch.equal(column, roomy.traffic[name]), name
    assert torch.equal(plain.counts["total"], roomy.counts["total"])


def test_the_contract_is_kept() -> None:
    check_world(make, steps=12)


@pytest.mark.parametrize("make_controller", [greedy, max_pressure, Sotl])
def test_a_vehicle_with_priorities_is_faster_under_every_controller(make_controller: Any) -> None:
    trips = travellers(0, 16, least=4)
    took = []
    for on in (False, True):
        world = make(len(trips), timing="free")
        rows = torch.zeros(len(trips), dtype=torch.int64)
        observation = world.reset(rows, rows, until_s=rows.double())
        if on:
            observation = world.prioritise({row: asked(0, trip) for row, trip in enumerate(trips)})
        play(world, make_controller(), observation, 400)
        own = torch.tensor(trips)[:, None]
        arrived, inserted = (world.traffic[name].gather(1, own)[:, 0] for name in ("trip_arrived", "trip_inserted"))
        assert bool((arrived > 0).all())
        took.append((arrived - inserted).double())
    assert float((took[0] - took[1]).mean()) > 5.0


def test_rows_without_priorities_do_not_notice_those_of_others() -> None:
    trip = travellers(1, 1)[0]
    alone, beside = make(2), make(2)
    play(alone, greedy(), start(alone), 300)
    start(beside)
    play(beside, greedy(), beside.prioritise({1: asked(1, trip)}), 300)
    assert torch.equal(alone.traffic["vehicle"][0], beside.traffic["vehicle"][0])
    assert not torch.equal(alone.traffic["vehicle"][1], beside.traffic["vehicle"][1])


def test_a_snapshot_keeps_priorities_and_a_reset_ends_them() -> None:
    trip = travellers(0, 1)[0]
    world = make()
    start(world)
    observation = play(world, greedy(), world.prioritise({0: asked(0, trip)}), 20)
    saved = world.snapshot()
    play(world, greedy(), observation, 200)
    expected = world.traffic["vehicle"].clone()
    play(world, greedy(), world.restore(saved), 200)
    assert torch.equal(world.traffic["vehicle"], expected)
    start(world)
    assert bool((world.priorities["signal"] == -1).all())


def test_what_cannot_be_kept_is_refused_and_nothing_of_it_is_set() -> None:
    world, first = make(2), asked(0, travellers(0, 1)[0])[0]
    start(world)
    wrong = {
        "there are 2": {2: [first]},
        "priorities=17": {0: [first] * (ROOM + 1)},
        "no signal 9": {0: [dataclasses.replace(first, signal=9)]},
        "no movement": {0: [dataclasses.replace(first, movement=99)]},
        "never in force": {0: [dataclasses.replace(first, end=0)]},
        "no trip": {0: [dataclasses.replace(first, trip=10**6)]},
        "does not pass": {0: [first], 1: [dataclasses.replace(first, place=first.place + 1)]},
    }
    for message, wanted in wrong.items():
        with pytest.raises(WorldError, match=message):
            world.prioritise(wanted)
    assert bool((world.priorities["signal"] == -1).all())
    programmed = make(timing="program")
    start(programmed)
    with pytest.raises(WorldError, match="decide nothing"):
        programmed.prioritise({0: [dataclasses.replace(first, trip=EVERYBODY)]})


@needs_sumo
def test_signals_of_sumo_keep_them_too() -> None:
    grid = problem()
    short = make_problem(grid.network, grid.demands, 0.0, 240.0, name=grid.name)
    trip = travellers(0, 1)[0]
    wanted = asked(0, trip)
    edge_s, narrowed = limit_times(short).tolist(), 0
    with SumoWorld(short, 1, "resco", priorities=ROOM) as world:
        controller = greedy()
        controller.reset(world)
        start(world)
        observation, ended = world.prioritise({0: wanted}), False
        while not ended:
            moved = world.step(controller.act(observation))
            observation, ended = moved.observation, bool(moved.truncated.all())
            tokens = observation.kinds[KIND]
            for row, a in tokens.active.nonzero().tolist():
                signal, now = short.signals[a], int(observation.time_s[row])
                own = legal_phases(signal, a, wanted, now, drivers(world, row), set(), edge_s)
                assert set(tokens.action_mask[row, a].nonzero().flatten().tolist()) == own
                narrowed += len(own) < len(signal.phases)
        assert int(world.traffic["trip_arrived"][0, trip]) > 0
    assert narrowed > 2
