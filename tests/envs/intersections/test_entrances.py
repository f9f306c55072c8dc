"""Entrances: the first signals that traffic meets, in the whole city and in a district's cut-out."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from fedsched.envs.core import WorldError
from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.controllers import greedy
from fedsched.envs.intersections.cutout import cut_out
from fedsched.envs.intersections.district_metrics import of_districts
from fedsched.envs.intersections.districts import OUTSIDE, Districts
from fedsched.envs.intersections.entrances import in_cut_out, with_entrances
from fedsched.envs.intersections.generate import Irregular, Traffic, generated_problem
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.world import IntersectionsWorld


@cache
def city() -> tuple[Problem, Districts]:
    """Irregular: some junctions have no signal."""
    problem = generated_problem(Irregular(junctions=12), Traffic(vehicles_per_h=2500, seconds=300), 2, 2)
    return problem, with_entrances(problem, balanced(problem, 3))


def first_signals(problem: Problem) -> tuple[set[int], set[int]]:
    """Edges on which nobody has met a signal, and those on which somebody has, route by route."""
    network, before, behind = problem.network, set[int](), set[int]()
    signal = {}
    for one in network.connections:
        pair = network.lanes[one.source].edge, network.lanes[one.target].edge
        signal[pair] = signal.get(pair, False) or one.signal >= 0
    for demand in problem.demands:
        for trip in demand.trips:
            met, route = False, demand.routes[trip.route]
            before.add(route[0])
            for one, other in pairwise(route):
                met = met or signal[one, other]
                (behind if met else before).add(other)
    return before - behind, behind


def test_whoever_comes_from_outside_is_counted_at_an_entrance_or_at_a_gate_between_districts() -> None:
    problem, districts = city()
    assert districts.approach is not None
    outside, _ = first_signals(problem)
    assert set(np.flatnonzero(districts.approach).tolist()) == outside
    lanes, links = problem.tables.lanes, problem.tables.links
    for number, gate in enumerate(districts.gates):
        for link in gate.guards if gate.source == OUTSIDE else ():
            edge = int(lanes.edge[links.source[link]])
            assert edge in outside
            assert districts.edge[edge] == gate.target
            assert links.signal[link] >= 0
            assert districts.link_gate[link] == number
    free = [n for n in np.flatnonzero(links.signal >= 0).tolist() if districts.link_gate[n] < 0 and links.kind[n] == 0]
    assert not outside & {int(lanes.edge[links.source[link]]) for link in free}
    assert sum(gate.source == OUTSIDE for gate in districts.gates) == 3


def test_a_cut_out_has_the_gates_of_the_whole() -> None:
    problem, districts = city()
    for number, name in enumerate(districts.names):
        local = cut_out(problem, districts, name)
        own = in_cut_out(problem, districts, local)
        assert set(own.site.tolist()) == {number}
        world, whole = IntersectionsWorld(local, 1, districts=own), IntersectionsWorld(problem, 1, districts=districts)
        rows = torch.zeros(1, dtype=torch.int64)
        seen, all_seen = world.reset(rows, rows), whole.reset(rows, rows)
        place = world.spec.kinds[0].entity.index("gate")
        ids = [signal.id for signal in problem.signals]
        for a, signal in enumerate(local.signals):
            mine = seen.kinds["signal"].entities[0, a, :, place]
            theirs = all_seen.kinds["signal"].entities[0, ids.index(signal.id), : len(mine), place]
            assert mine.tolist() == theirs.tolist(), signal.id
        guards = [len(gate.guards) for gate in own.gates]
        known = [len(gate.guards) if number in (gate.source, gate.target) else 0 for gate in districts.gates]
        entering = [gate.source not in (OUTSIDE, number) for gate in districts.gates]
        assert guards == [0 if out else n for n, out in zip(known, entering, strict=True)]


def test_districts_add_up_to_the_city() -> None:
    problem, districts = city()
    world, controller, rows = IntersectionsWorld(problem, 2, "resco", districts=districts), greedy(), torch.arange(2)
    controller.reset(world)
    seen = world.reset(rows, rows)
    for _ in range(20):
        seen = world.step(controller.act(seen)).observation
    parts, whole = of_districts(world), world.metrics()
    for name in ("completed", "running", "never_inserted"):
        assert parts[name].sum(1).tolist() == whole[name].tolist()
    assert (parts["running"] > 0).all()
    delay = parts["lost_s"].sum(1) / parts["trips"].sum(1)
    torch.testing.assert_close(delay, whole["resco_delay_s"], rtol=1e-6, atol=1e-6)
    assert (parts["inserted"] + parts["never_inserted"]).tolist() == parts["trips"].tolist()
    assert (parts["visits"] >= parts["trips"]).all()
    site = torch.tensor(districts.site)
    signals = torch.bincount(site)
    torch.testing.assert_close((parts["queue"] * signals).sum(1) / len(site), whole["queue"])
    with pytest.raises(WorldError, match="no districts"):
        of_districts(IntersectionsWorld(problem, 1))


def test_time_is_lost_where_the_vehicle_is() -> None:
    """From second to second, what each district has lost grows by what the vehicles on its lanes have lost."""
    problem, districts = city()
    world, controller = IntersectionsWorld(problem, 1, "free", districts=districts), greedy()
    controller.reset(world)
    rows = torch.zeros(1, dtype=torch.int64)
    seen = world.reset(rows, rows, until_s=torch.tensor([60.0], dtype=torch.float64))
    lost: dict[int, float] = {}
    left = 0
    for second in range(61, 90):
        before, known = world.traffic["district_loss"].clone(), dict(lost)
        seen = world.step(controller.act(seen), torch.tensor([float(second)], dtype=torch.float64)).observation
        grown = torch.zeros(3, dtype=torch.float64)
        traffic = world.traffic
        gone = int(traffic["arrived"][0])
        for slot in range(int(traffic["count"][0])):
            trip, value = int(traffic["id"][0, slot]), float(traffic["time_loss"][0, slot])
            lane = int(traffic["lane"][0, slot])
            links, lanes = problem.tables.links, problem.tables.lanes
            edge = lanes.edge[links.source[lanes.entry[lane]]] if lanes.internal[lane] else lanes.edge[lane]
            grown[districts.edge[edge]] += value - known.get(trip, 0.0)
            lost[trip] = value
        if second > 61 and gone == left:
            assert torch.allclose(world.traffic["district_loss"][0] - before[0], grown, atol=1e-9)
        left = gone
    assert len(lost) > 10
