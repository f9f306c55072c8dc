"""Corridors: what follows from an event, what districts ask and offer for it, and what the signals then keep."""

import dataclasses
import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from fedsched.consensus import Council, Link, SiteKey
from fedsched.envs.core import Delivery, Lot
from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.controllers import greedy
from fedsched.envs.intersections.corridors import CorridorExchange, CorridorRules, held_links
from fedsched.envs.intersections.cutout import limit_times
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.events import Event, closure_event, corridor, surge_event, vehicle_event
from fedsched.envs.intersections.generate import Grid, Surge, Traffic, generated_problem
from fedsched.envs.intersections.network import IntersectionsError, Turn
from fedsched.envs.intersections.priorities import EVERYBODY
from fedsched.envs.intersections.problem import Problem, make_problem
from fedsched.envs.intersections.world import IntersectionsWorld
from fedsched.sim.market import bid_of

WINDOW = 120, 600
SHAPE = Grid(rows=3, columns=3)


@cache
def city() -> tuple[Problem, Districts]:
    surge = Surge("north1", 200.0, 300.0, vehicles=40, leaving=True)
    traffic = Traffic(vehicles_per_h=2500.0, seconds=600, surges=(surge,))
    problem = generated_problem(SHAPE, traffic, seed=3, instances=1)
    return problem, balanced(problem, 4)


@cache
def traveller() -> int:
    """A trip that departs after second 120 and passes four signals or more."""
    demand = city()[0].demands[0]
    late = [n for n, trip in enumerate(demand.trips) if trip.depart_s > WINDOW[0]]
    return next(n for n in late if len(demand.routes[demand.trips[n].route]) > 8)


def ambulance(weight: float = 30.0) -> Event:
    problem = city()[0]
    return vehicle_event(problem, 0, problem.demands[0].trips[traveller()].id, weight)


def exchange(event: Event, **rules: float) -> CorridorExchange:
    return CorridorExchange(*city(), 0, event, dataclasses.replace(CorridorRules(), **rules))


@cache
def busy() -> IntersectionsWorld:
    """Second 120."""
    return driven(WINDOW[0])


def driven(seconds: int) -> IntersectionsWorld:
    problem, districts = city()
    world, controller = IntersectionsWorld(problem, 1, districts=districts, priorities=64), greedy()
    controller.reset(world)
    until = torch.full((1,), float(seconds), dtype=torch.float64)
    observation = world.reset(torch.tensor([0]), torch.tensor([0]), until_s=until * 0.0)
    while float(observation.time_s.min()) < seconds:
        observation = world.step(controller.act(observation), until).observation
    return world


def sides(lots: dict[str, list[Lot]], side: str) -> dict[str, tuple[str, Lot]]:
    found = [(name, lot) for name, own in lots.items() for lot in own if lot.side == side]
    assert len({lot.resource for _, lot in found}) == len(found)
    return {lot.resource: (name, lot) for name, lot in found}


def all_of(asked: dict[str, tuple[str, Lot]]) -> list[Delivery]:
    return [Delivery("give", name, lot.quantity, lot.window, "") for name, (_, lot) in asked.items()]


def test_the_corridor_of_a_vehicle_is_its_route_at_the_speed_limits() -> None:
    problem = city()[0]
    trip = problem.demands[0].trips[traveller()]
    route, edge_s = problem.demands[0].routes[trip.route], limit_times(problem)
    passages = corridor(problem, 0, ambulance())
    ends = {(m.source, m.target) for signal in problem.signals for m in signal.movements}
    assert [one.place for one in passages] == [n for n, pair in enumerate(pairwise(route)) if pair in ends]
    for one in passages:
        move = problem.signals[one.signal].movements[one.movement]
        assert (move.source, move.target) == route[one.place : one.place + 2]
        expected = trip.depart_s + sum(edge_s[edge] for edge in route[: one.place + 1])
        assert one.first_s == one.last_s == pytest.approx(expected)


def test_the_home_asks_for_each_stop_line_elsewhere_and_its_district_offers_it() -> None:
    problem, districts = city()
    own = exchange(ambulance())
    lots = own.lots(busy(), 0, WINDOW)
    asks, offers = sides(lots, "ask"), sides(lots, "offer")
    where = [districts.names[int(districts.site[one.signal])] for one in own.passages]
    elsewhere = [n for n, name in enumerate(where) if name != own.home]
    assert list(asks) == [own.resource(n) for n in elsewhere]
    assert len(elsewhere) >= 2
    for n in elsewhere:
        name, offer = offers[own.resource(n)]
        asker, ask = asks[own.resource(n)]
        assert (asker, name) == (own.home, where[n])
        assert ask.quantity == offer.quantity == 1
        assert ask.window == offer.window
        first = own.passages[n].first_s
        assert ask.window[0] <= first <= ask.window[1]
        one = own.passages[n]
        held = [
            link
            for e, links in enumerate(problem.signals[one.signal].links)
            for link in links
            if not together(problem, one.signal, one.movement, e)
        ]
        seen = sum(int(busy().counts["seen"][0, list(problem.signal_links).index(link)]) for link in held)
        assert offer.unit_value == round(1000 * 10.0 * seen * CorridorRules().lead_s / 2 / 3600)


def together(problem: Problem, signal: int, movement: int, other: int) -> bool:
    """Whether a phase that serves the first movement as well as any also serves the other."""
    served = problem.served[signal]
    phases = range(len(problem.signals[signal].phases))
    best = max(served[k, movement] for k in phases)
    return any(served[k, movement] == best and served[k, other] > 0 for k in phases)


def test_held_links_are_those_of_other_movements_alone() -> None:
    problem = city()[0]
    for one in corridor(problem, 0, ambulance()):
        held = problem.signal_links[held_links(problem, one)]
        own = problem.signals[one.signal].links[one.movement]
        assert len(held)
        assert not set(held.tolist()) & set(own)


def test_only_what_is_settled_is_kept_and_the_signals_take_it() -> None:
    own, world = exchange(ambulance(weight=1e4)), busy()
    settled = all_of(sides(own.lots(world, 0, WINDOW), "ask"))
    every = own.priorities(world, 0, WINDOW, settled)
    assert [(one.signal, one.movement) for one in every] == [(p.signal, p.movement) for p in own.passages]
    fewer = own.priorities(world, 0, WINDOW, settled[1:])
    gone = next(n for n in range(len(own.passages)) if own.resource(n) == settled[0].resource)
    assert fewer == [*every[:gone], *every[gone + 1 :]]
    world.prioritise({0: every})
    assert world.priorities["signal"][0, : len(every)].tolist() == [one.signal for one in every]
    world.prioritise({0: []})


def test_who_weighs_little_gets_no_busy_stop_line_not_even_at_home() -> None:
    world = busy()
    light, heavy = exchange(ambulance(weight=0.001)), exchange(ambulance(weight=1e4))
    assert light.priorities(world, 0, WINDOW, []) == []
    at_home = heavy.priorities(world, 0, WINDOW, [])
    assert len(at_home) == sum(name == heavy.home for name in heavy._district) > 0


def test_four_districts_settle_a_corridor_with_a_certificate() -> None:
    names = city()[1].names
    own = exchange(ambulance(weight=1e4))
    lots = own.lots(busy(), 0, WINDOW)
    links = tuple(Link(one, other, 0) for one in names for other in names if one != other)
    council = Council("city", {name: SiteKey.from_seed(name.encode().ljust(32)) for name in names}, links=links)
    settled = council.settle(0, {name: bid_of(name, 0, lot) for name, lot in lots.items()})
    assert len(settled.certificate.signatures) >= 3
    granted = {one.resource: one for one in settled.plan.transfers}
    offers = sides(lots, "offer")
    assert list(granted) == list(sides(lots, "ask"))
    assert all(one.giver == own.home and one.taker == offers[name][0] for name, one in granted.items())


def test_a_surge_asks_for_green_by_the_slot_at_one_movement_of_each_signal() -> None:
    event = surge_event(city()[0], 0, "north1", 200.0, 300.0, weight=1e4)
    own, world = exchange(event), busy()
    assert len({one.signal for one in own.passages}) == len(own.passages)
    assert own.passages[0].vehicles == max(one.vehicles for one in own.passages)
    asks = sides(own.lots(world, 0, WINDOW), "ask")
    kept = own.priorities(world, 0, WINDOW, all_of(asks))
    assert len(kept) == len(own.passages)
    for one in kept:
        assert one.trip == EVERYBODY
        assert one.lasts == CorridorRules().slot_s
        assert one.every >= 2 * one.lasts
    for n, passage in enumerate(own.passages):
        move = city()[0].signals[passage.signal].movements[passage.movement]
        needed = passage.vehicles / (0.5 * len(move.lanes) * CorridorRules().slot_s)
        asked = own._quantity(n, WINDOW)
        assert needed <= asked < needed + 1


def test_who_leaves_a_place_and_who_drives_around_a_closed_road() -> None:
    problem = city()[0]
    demand, names = problem.demands[0], [edge.id for edge in problem.network.edges]
    event = surge_event(problem, 0, "north1", 200.0, 300.0)
    starts = [names[demand.routes[demand.trips[n].route][0]] for n in event.trips]
    assert {name.split("-")[0] for name in starts} == {"north1"}
    assert len(starts) > 25
    around = closure_event(problem, 0, "r1c1-r1c2", 0.0, 600.0)
    closed = problem.network.edge("r1c1-r1c2")
    assert all(closed not in demand.routes[demand.trips[n].route] for n in around.trips)
    with pytest.raises(IntersectionsError, match="no vehicle"):
        surge_event(problem, 0, "north1", 500.0, 500.5)
    with pytest.raises(IntersectionsError, match="weight"):
        dataclasses.replace(event, weight=0.0)


def shared_lanes() -> Problem:
    """One lane for all turns, and a phase beside every other for its left turns alone."""
    plain = generated_problem(Grid(2, 2, lanes=1, pocket_m=0.0), Traffic(1500.0, 900), seed=1, instances=1)
    connections, signals = plain.network.connections, []
    for signal in plain.network.signals:
        left = [any(connections[n].turn == Turn.LEFT for n in own) for own in signal.connections]
        phases = [
            dataclasses.replace(
                phase,
                state="".join("G" if turns and c in "gG" else "r" for turns, c in zip(left, phase.state, strict=True)),
            )
            for phase in signal.phases
            if "y" not in phase.state
        ]
        signals.append(dataclasses.replace(signal, phases=(*signal.phases, *phases)))
    network = dataclasses.replace(plain.network, signals=tuple(signals))
    return make_problem(network, plain.demands, 0.0, 900.0)


def test_nobody_bars_the_way_of_an_ambulance_on_a_shared_lane() -> None:
    """Who stands before one that turns left, and goes straight on, must get his green, too."""
    problem = shared_lanes()
    demand, districts = problem.demands[0], balanced(problem, 1)
    trips = [n for n, trip in enumerate(demand.trips) if 100 < trip.depart_s < 400][::4]
    rows = torch.zeros(len(trips), dtype=torch.int64)
    world, controller = IntersectionsWorld(problem, len(trips), "resco", priorities=16), greedy()
    controller.reset(world)
    world.reset(rows, rows)
    wanted = {}
    for row, trip in enumerate(trips):
        event = vehicle_event(problem, 0, demand.trips[trip].id, weight=1e6)
        own = CorridorExchange(problem, districts, 0, event, CorridorRules(late_s=900))
        wanted[row] = own.priorities(world, row, (0, 900), [])
    observation, ended = world.prioritise(wanted), False
    while not ended:
        moved = world.step(controller.act(observation))
        observation, ended = moved.observation, bool(moved.truncated.all())
    took = (world.traffic["trip_arrived"] - world.traffic["trip_inserted"])[np.arange(len(trips)), trips]
    assert bool((took > 0).all())
    assert int(took.max()) < 250


def test_a_window_that_ends_within_the_lead_asks_for_the_passage_too() -> None:
    """Else what is expected soon after the end of an epoch would lose its lead."""
    own = exchange(ambulance())
    lead = own.rules.lead_s
    home = [own.home == own._district[n] for n in range(len(own.passages))]
    n = home.index(False)
    due = math.floor(own.passages[n].first_s)
    for end, asked in ((due - lead, False), (due - lead + 1, True), (due, True)):
        asks = sides(own.lots(busy(), 0, (0, end)), "ask")
        assert (own.resource(n) in asks) == asked, end
        if asked:
            assert asks[own.resource(n)][1].window == (due - lead, end)
