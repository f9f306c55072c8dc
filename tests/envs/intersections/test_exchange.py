"""Districts trade inflow: lots are what is on the streets, plans are what the signals then keep."""

from functools import cache

import numpy as np
import pytest
import torch

from fedsched.consensus import Bid, Link, clear
from fedsched.consensus import Lot as BidLot
from fedsched.envs.core import Delivery, Lot, WorldError
from fedsched.envs.intersections.controllers import greedy
from fedsched.envs.intersections.cutout import limit_times
from fedsched.envs.intersections.districts import Districts, split
from fedsched.envs.intersections.entrances import with_entrances
from fedsched.envs.intersections.exchange import DistrictExchange, Market, inflow_of, standing_room
from fedsched.envs.intersections.inflow import crossed
from fedsched.envs.intersections.problem import Problem, grid_problem
from fedsched.envs.intersections.world import IntersectionsWorld

COLUMNS = {"west": ["A0", "A1", "A2"], "middle": ["B0", "B1", "B2"], "east": ["C0", "C1", "C2"]}


@cache
def city() -> tuple[Problem, Districts]:
    problem = grid_problem(2)
    return problem, with_entrances(problem, split(problem, COLUMNS))


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


def offer(lots: list[Lot]) -> int:
    found = [lot for lot in lots if lot.side == "offer"]
    assert all(lot.unit_value == 0 for lot in found)
    return sum(lot.quantity for lot in found)


def inner(home: int) -> tuple[float, np.ndarray]:
    """Places behind the approaches of a district, and which edges these are."""
    problem, districts = city()
    lanes, types = problem.tables.lanes, problem.tables.types
    own = (districts.edge == home) & ~districts.approach
    normal = ~lanes.internal
    space = np.mean([types.length[kind] + types.min_gap[kind] for kind in problem.tables.vehicles.type])
    return float(lanes.length[normal][own[lanes.edge[normal]]].sum() / space), own


def test_an_empty_city_offers_its_room_for_nothing_and_asks_for_none() -> None:
    world = driven(0.0)
    places, own = inner(0)
    assert standing_room(*city(), own)[0] == pytest.approx(places)
    assert exchange("west").lots(world, 0, (0, 300)) == [Lot("offer", "inflow west", int(0.1 * places), 0, (0, 300))]


def test_asks_are_those_who_get_there_in_time_but_not_many_more_than_before() -> None:
    world = held_back()
    problem, districts = city()
    lanes, ways, traffic, times = problem.tables.lanes, problem.tables.ways, world.traffic, limit_times(problem)
    window, fewer = (300, 360), 0
    for home, source in (("west", 0), ("middle", 1), ("east", 2)):
        left: dict[str, list[float]] = {}
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
                    break
                row, place = row + 1, place + 1
        found = asks(exchange(home).lots(world, 0, window))
        for resource, lot in found.items():
            gate = districts.gate(home, resource.removeprefix("inflow "))
            usual = round(1.25 * int(crossed(world)[0, gate]) / 100 * 60) + 1
            present = left.get(resource, [])
            assert lot.quantity == min(len(present), usual)
            assert lot.unit_value == pytest.approx(1000 * 10.0 / 3600 * np.mean(present), abs=0.51)
            assert lot.window == window
            fewer += lot.quantity < len(present)
        assert set(left) == set(found)
    assert fewer > 1


@pytest.mark.parametrize("fill", [0.0, 0.3])
def test_room_follows_from_pace_and_from_those_who_leave(fill: float) -> None:
    """Vehicles are counted one by one, and those who left as those who came and are there no more."""
    world, (problem, _) = driven(240.0), city()
    one, (places, own) = exchange("middle", fill=fill), inner(1)

    def count() -> tuple[set[int], list[float]]:
        traffic, paces, ids = world.traffic, [], set()
        for slot in range(int(traffic["count"][0])):
            lane = int(traffic["lane"][0, slot])
            row = int(traffic["way"][0, slot] + traffic["place"][0, slot]) + bool(problem.tables.lanes.internal[lane])
            edge = problem.tables.ways.edge[row]
            if own[edge]:
                first = problem.network.edges[edge].lanes[0]
                paces.append(float(traffic["speed"][0, slot]) / problem.tables.lanes.speed[first])
                ids.add(int(traffic["id"][0, slot]))
        return ids, paces

    one.lots(world, 0, (240, 300))
    ids, _ = count()
    seen, now = set(ids), 240.0
    while now < 300.0:
        now += 1.0
        run(world, now)
        seen |= count()[0]
    ids, paces = count()
    left = len(seen) - len(ids)
    assert left > 20
    by_pace = sum(paces) / 0.15
    assert 0.0 < by_pace < 0.3 * places
    room = int(np.floor(max(fill * places, by_pace) - len(ids) + left))
    assert offer(one.lots(world, 0, (300, 360))) == pytest.approx(max(room, 1), abs=1)


def settled(
    world: IntersectionsWorld, row: int, window: tuple[int, int], market: Market, parties: list[str]
) -> dict[str, dict[str, int]]:
    """One epoch's plan, carried out; what each district offers, takes, asks for and gives."""
    districts = city()[1]
    homes = {name: DistrictExchange(*city(), name, market) for name in districts.names}
    lots = {name: one.lots(world, row, window) for name, one in homes.items()}
    bids = []
    for name in parties:
        sides: dict[str, list[BidLot]] = {"offer": [], "ask": []}
        for lot in lots[name]:
            sides[lot.side].append(BidLot(lot.resource, lot.quantity, lot.unit_value, lot.window, lot.limits))
        bids.append(Bid(name, 0, tuple(sides["offer"]), tuple(sides["ask"])))
    transfers = clear(bids, [Link(one, other, 0) for one in parties for other in parties if one != other])
    found = {}
    for name, one in homes.items():
        given = [Delivery("give", t.resource, t.quantity, t.window, t.taker) for t in transfers if t.giver == name]
        taken = [Delivery("take", t.resource, t.quantity, t.window, t.giver) for t in transfers if t.taker == name]
        one.keep(world, row, window, [*given, *taken], parties)
        reached = [lot for lot in asks(lots[name]).values() if lot.resource.removeprefix("inflow ") in parties]
        found[name] = {
            "room": offer(lots[name]),
            "taken": sum(one.quantity for one in taken),
            "asked": sum(lot.quantity for lot in reached),
            "given": sum(one.quantity for one in given),
        }
    return found


def entrance(name: str) -> int:
    districts = city()[1]
    return next(n for n in range(len(districts.gates)) if districts.ends(n) == f"outside to {name}")


def test_entrances_keep_what_the_plan_leaves_in_its_row_and_window() -> None:
    world, (_, districts) = driven(240.0, batch=2), city()
    market = Market(fill=0.0, pace=2.0, least=0.0)
    plan = settled(world, 1, (240, 260), market, list(districts.names))
    held = 0
    for name, own in plan.items():
        gate, room = entrance(name), own["room"] - own["taken"] - (own["asked"] - own["given"])
        assert int(world.traffic["gate_limit"][1, gate]) == max(room, 0)
        assert int(world.traffic["gate_limit"][0, gate]) == -1
        assert int(world.traffic["gate_end"][1, gate]) == 260
        held += own["asked"] - own["given"]
    between = [n for n, gate in enumerate(districts.gates) if gate.source >= 0]
    assert (world.traffic["gate_limit"][:, between] == -1).all()
    assert held > 0
    before = world.traffic["gate_passed"].clone()
    run(world, 260.0)
    for name in districts.names:
        gate = entrance(name)
        own = districts.gates[gate]
        assert int(crossed(world)[1, gate]) <= int(world.traffic["gate_limit"][1, gate]) + len(own.guards)
    entrances = [entrance(name) for name in districts.names]
    entered = (world.traffic["gate_passed"] - before)[:, entrances].sum(1).tolist()
    assert entered[1] < entered[0] / 3


def test_nobody_is_bound_or_held_back_for_a_district_whose_bid_is_missing() -> None:
    world = driven(240.0)
    market = Market(fill=0.0, pace=2.0, least=0.0)
    plan = settled(world, 0, (240, 260), market, ["west", "middle"])
    assert int(world.traffic["gate_limit"][0, entrance("east")]) == -1
    middle = plan["middle"]
    room = middle["room"] - middle["taken"] - (middle["asked"] - middle["given"])
    assert int(world.traffic["gate_limit"][0, entrance("middle")]) == max(room, 0)


def test_the_least_may_always_enter() -> None:
    world, (problem, districts) = driven(240.0), city()
    settled(world, 0, (240, 260), Market(fill=0.0, pace=2.0, least=0.2), list(districts.names))
    gate = entrance("middle")
    lanes = {int(problem.tables.links.source[link]) for link in districts.gates[gate].guards}
    assert int(world.traffic["gate_limit"][0, gate]) == int(0.2 * 0.5 * len(lanes) * 20)


def test_deliveries_of_another_resource_are_refused() -> None:
    world = driven(0.0)
    one = exchange("middle")
    one.lots(world, 0, (0, 60))
    with pytest.raises(WorldError, match="east does not offer 'processor-hours'"):
        one.keep(world, 0, (0, 60), [Delivery("give", "processor-hours", 3, (0, 60), "east")], ["middle", "east"])
    with pytest.raises(WorldError, match="middle does not offer 'inflow east'"):
        one.keep(world, 0, (0, 60), [Delivery("take", "inflow east", 3, (0, 60), "east")], ["middle", "east"])
