"""Districts trade inflow: lots are what is on the streets, plans are what the signals then keep."""

from functools import cache

import numpy as np
import pytest
import torch

from fedsched.consensus import Bid, Link, clear
from fedsched.consensus import Lot as BidLot
from fedsched.envs.core import Delivery, Lot, WorldError
from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.controllers import greedy
from fedsched.envs.intersections.cutout import limit_times
from fedsched.envs.intersections.districts import Districts, split
from fedsched.envs.intersections.exchange import DistrictExchange, Market, inflow_of, standing_room
from fedsched.envs.intersections.generate import Irregular, Traffic, generated_problem
from fedsched.envs.intersections.inflow import crossed
from fedsched.envs.intersections.problem import Problem, grid_problem
from fedsched.envs.intersections.world import IntersectionsWorld

COLUMNS = {"west": ["A0", "A1", "A2"], "middle": ["B0", "B1", "B2"], "east": ["C0", "C1", "C2"]}


@cache
def city() -> tuple[Problem, Districts]:
    problem = grid_problem(2)
    return problem, split(problem, COLUMNS)


def exchange(home: str, **market: float) -> DistrictExchange:
    return DistrictExchange(*city(), home, Market(**market))


def run(world: IntersectionsWorld, until_s: float) -> None:
    controller = greedy()
    controller.reset(world)
    observation = world.observe()
    if float(observation.time_s.max()) == 0.0:
        rows = torch.arange(world.batch)
        observation = world.reset(rows % 2, rows, until_s=torch.zeros(world.batch, dtype=torch.float64))
    until = torch.full((world.batch,), until_s, dtype=torch.float64)
    while float(observation.time_s.min()) < until_s:
        observation = world.step(controller.act(observation), until).observation


def driven(seconds: float, batch: int = 1) -> IntersectionsWorld:
    world = IntersectionsWorld(city()[0], batch, "resco", districts=city()[1])
    if seconds:
        run(world, seconds)
    return world


def held_back() -> IntersectionsWorld:
    """Second 300, gates all but closed since 200."""
    world = driven(200.0)
    limits = torch.full((1, len(city()[1].gates)), 3)
    world.limit_inflow(limits, torch.full((1,), 300.0, dtype=torch.float64))
    run(world, 300.0)
    return world


def asks(lots: list[Lot]) -> dict[str, Lot]:
    return {lot.resource: lot for lot in lots if lot.side == "ask"}


def offer(lots: list[Lot]) -> Lot:
    """What is wanted for all but the least that is always offered."""
    *least, found = [lot for lot in lots if lot.side == "offer"]
    assert len(least) < 2
    assert all(lot.unit_value == 0 for lot in least)
    return found


def test_an_empty_city_offers_its_room_for_nothing_and_asks_for_none() -> None:
    world = driven(0.0)
    problem, districts = city()
    normal = ~problem.tables.lanes.internal
    own = districts.edge[problem.tables.lanes.edge[normal]] == 0
    types = problem.tables.types
    space = np.mean([types.length[kind] + types.min_gap[kind] for kind in problem.tables.vehicles.type])
    places = problem.tables.lanes.length[normal][own].sum() / space
    assert standing_room(problem, districts)[0] == pytest.approx(places)
    assert exchange("west").lots(world, 0, (0, 300)) == [Lot("offer", "inflow west", int(0.6 * places), 0, (0, 300))]


def test_asks_are_those_who_get_there_in_time_and_those_who_follow() -> None:
    world = held_back()
    problem, districts = city()
    lanes, ways, traffic, times = problem.tables.lanes, problem.tables.ways, world.traffic, limit_times(problem)
    window, halted = (300, 360), 0
    for home, source in (("west", 0), ("middle", 1), ("east", 2)):
        left: dict[str, list[float]] = {}
        standing: dict[str, int] = {}
        for slot in range(int(traffic["count"][0])):
            lane, place = int(traffic["lane"][0, slot]), int(traffic["place"][0, slot])
            row, last = int(traffic["way"][0, slot]) + place, int(traffic["last"][0, slot])
            seconds = -float(traffic["position"][0, slot] / lanes.speed[lane])
            if lanes.internal[lane]:
                row, place, seconds = row + 1, place + 1, 0.0
            if districts.edge[ways.edge[row]] != source:
                continue
            while place < last:
                seconds += times[ways.edge[row]]
                if districts.edge[ways.edge[row + 1]] != source:
                    peer = inflow_of(districts.names[districts.edge[ways.edge[row + 1]]])
                    if max(0.0, seconds) < 60.0:
                        left.setdefault(peer, []).append(60.0 - max(0.0, seconds))
                        standing[peer] = standing.get(peer, 0) + int(traffic["speed"][0, slot] < 0.1)
                    break
                row, place = row + 1, place + 1
        found = asks(exchange(home).lots(world, 0, window))
        for resource, lot in found.items():
            gate = districts.gate(home, resource.removeprefix("inflow "))
            followers = round(int(crossed(world)[0, gate]) / 100 * 60) + standing.get(resource, 0)
            present = left.get(resource, [])
            assert lot.quantity == max(len(present), followers)
            saved_s = sum(present) + (lot.quantity - len(present)) * 30.0
            assert lot.unit_value == pytest.approx(1000 * 10.0 / 3600 * saved_s / lot.quantity, abs=0.51)
            assert lot.window == window
            halted += standing.get(resource, 0)
        assert set(left) <= set(found)
    assert halted > 20


def test_a_full_district_offers_less_and_wants_more() -> None:
    world = driven(300.0)
    lots = {fill: exchange("middle", fill=fill).lots(world, 0, (300, 600)) for fill in (0.1, 0.08)}
    loose, dear = offer(lots[0.1]), offer(lots[0.08])
    assert dear.quantity < loose.quantity
    assert dear.unit_value > loose.unit_value > 0
    twice = offer(exchange("middle", delay_value=20.0, fill=0.1).lots(world, 0, (300, 600)))
    assert twice.unit_value == pytest.approx(2 * loose.unit_value, abs=1)
    gates = [gate for gate in city()[1].gates if gate.target == 1]
    least = int(0.03 * 0.5 * sum(gate.lanes for gate in gates) * 300)
    assert next((lot.quantity, lot.unit_value) for lot in lots[0.1] if lot.side == "offer") == (least, 0)


def test_who_stands_before_a_used_gate_does_not_make_room_dear() -> None:
    world = driven(300.0)
    before = offer(exchange("middle", fill=0.1).lots(world, 0, (300, 600))).unit_value
    world.traffic["gate_closed"][:] = True
    assert offer(exchange("middle", fill=0.1).lots(world, 0, (300, 600))).unit_value < before


def test_vehicles_balance_over_an_epoch() -> None:
    """What is inside changes by who comes and departs, less who leaves and arrives; the rates of the offer say so."""
    world = driven(240.0)
    problem, districts = city()
    limits = torch.full((1, len(districts.gates)), -1)
    world.limit_inflow(limits, torch.full((1,), 480.0, dtype=torch.float64))  # an epoch without limits
    homes = [exchange(name) for name in districts.names]

    def inside(home: int) -> int:
        at, _, _ = homes[home]._driving(world, 0)
        return int((districts.edge[problem.tables.ways.edge[at]] == home).sum())

    before = [inside(home) for home in range(3)]
    run(world, 420.0)
    for home, one in enumerate(homes):
        rates = one._rates(world, 0)
        arrived, departed = one._ended(world, 0)
        through = sum(rates[n] for n in one._in) - sum(rates[n] for n in one._out)
        assert inside(home) - before[home] == pytest.approx(180 * (through + departed - arrived), abs=1.0)
    assert sum(before) > 40


def settled(world: IntersectionsWorld, row: int, window: tuple[int, int], market: Market) -> dict[tuple[str, str], int]:
    """One epoch's plan, carried out."""
    districts = city()[1]
    homes = {name: DistrictExchange(*city(), name, market) for name in districts.names}
    bids = []
    for name, one in homes.items():
        sides: dict[str, list[BidLot]] = {"offer": [], "ask": []}
        for lot in one.lots(world, row, window):
            sides[lot.side].append(BidLot(lot.resource, lot.quantity, lot.unit_value, lot.window, lot.limits))
        bids.append(Bid(name, 0, tuple(sides["offer"]), tuple(sides["ask"])))
    links = [Link(districts.names[gate.source], districts.names[gate.target], 0) for gate in districts.gates]
    plan: dict[tuple[str, str], int] = {}
    transfers = clear(bids, links)
    for name, one in homes.items():
        one.begin(world, row, window)
        own = [t for t in transfers if t.giver == name]
        assert one.give(world, row, [Delivery("give", t.resource, t.quantity, t.window, t.taker) for t in own]) == {}
        for transfer in own:
            plan[name, transfer.taker] = plan.get((name, transfer.taker), 0) + transfer.quantity
    return plan


def test_signals_keep_what_was_settled_in_its_row_and_window() -> None:
    world = driven(240.0, batch=2)
    districts = city()[1]
    plan = settled(world, 1, (240, 330), Market(fill=0.05))
    assert plan
    for number, gate in enumerate(districts.gates):
        ends = districts.names[gate.source], districts.names[gate.target]
        assert int(world.traffic["gate_limit"][1, number]) == plan.get(ends, 0)
        assert int(world.traffic["gate_limit"][0, number]) == -1
        assert int(world.traffic["gate_end"][1, number]) == 330
    run(world, 330.0)
    for number, gate in enumerate(districts.gates):
        ends = districts.names[gate.source], districts.names[gate.target]
        assert int(crossed(world)[1, number]) <= plan.get(ends, 0) + len(gate.guards)
    assert 0 < int(crossed(world)[1].sum()) < int(world.traffic["gate_passed"][0].sum())


def test_an_epoch_begins_at_gates_without_a_signal_too() -> None:
    problem = generated_problem(Irregular(junctions=10, signal_share=0.2), Traffic(seconds=300), 2, 1)
    districts = balanced(problem, 3)
    guarded = [bool(gate.guards) for gate in districts.gates]
    assert not all(guarded)
    world = IntersectionsWorld(problem, 1, "resco", districts=districts)
    run(world, 60.0)
    for name in districts.names:
        DistrictExchange(problem, districts, name).begin(world, 0, (60, 120))
    assert world.traffic["gate_begin"].tolist() == [[60] * len(guarded)]
    assert world.traffic["gate_limit"].tolist() == [[0 if one else -1 for one in guarded]]


def test_deliveries_of_another_resource_and_cargo_are_refused() -> None:
    world = driven(0.0)
    with pytest.raises(WorldError, match="east does not offer 'processor-hours'"):
        exchange("middle").give(world, 0, [Delivery("give", "processor-hours", 3, (0, 60), "east")])
    with pytest.raises(ValueError, match="no road leads from district 'west' into 'east'"):
        exchange("west").give(world, 0, [Delivery("give", "inflow east", 3, (0, 60), "east")])
