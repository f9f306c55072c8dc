"""Gates between districts: who crosses is counted, limits are kept by the signals, and nothing else changes."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.envs.core import WorldError
from fedsched.envs.core.check import check_world
from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.controllers import Sotl, greedy, max_pressure
from fedsched.envs.intersections.districts import Districts, Gate, split
from fedsched.envs.intersections.inflow import crossed, open_links
from fedsched.envs.intersections.problem import Problem, grid_problem
from fedsched.envs.intersections.reference import Simulation
from fedsched.envs.intersections.reference.following import brake_gap
from fedsched.envs.intersections.reference.gates import Gates
from fedsched.envs.intersections.signals import GREEN
from fedsched.envs.intersections.world import KIND, MOVEMENT_FEATURES, IntersectionsWorld

KEEP = 4
FOREVER = float("inf")


@cache
def problem() -> Problem:
    return grid_problem(3)


@cache
def districts() -> Districts:
    return balanced(problem(), 4)


@cache
def open_border() -> Districts:
    """One leaves the west in the middle of roads, where no signal is."""
    west = ["A0", "A1", "A2", "A0B0", "A1B1", "A2B2"]
    return split(problem(), {"west": west, "rest": ["B0", "B1", "B2", "C0", "C1", "C2"]})


def make(batch: int = 1, timing: str = "resco", own: Districts | None = None, **options: Any) -> IntersectionsWorld:
    return IntersectionsWorld(problem(), batch, timing, districts=own or districts(), **options)


def start(world: IntersectionsWorld) -> Any:
    rows = torch.arange(world.batch)
    return world.reset(rows * 0, rows, until_s=torch.zeros(world.batch, dtype=torch.float64))


def limit(world: IntersectionsWorld, vehicles: int, until_s: float, *rows: int) -> Any:
    wanted = torch.full(world.traffic["gate_limit"].shape, -1)
    wanted[list(rows) or list(range(world.batch))] = vehicles
    return world.limit_inflow(wanted, torch.full((world.batch,), until_s, dtype=torch.float64))


def rotate(world: IntersectionsWorld, observation: Any, step: int) -> dict[str, torch.Tensor]:
    """The next legal phase in every third step."""
    tokens = observation.kinds[KIND]
    current = world.control["target"].long()
    turn = (current[:, :, None] + torch.arange(1, 5) * (step % 3 == 0)) % 4
    legal = tokens.action_mask[:, :, :4].gather(2, turn)
    chosen = turn.gather(2, legal.int().argmax(2, keepdim=True))[:, :, 0]
    return {KIND: torch.where(tokens.active, chosen, KEEP)}


def run(world: IntersectionsWorld, observation: Any, seconds: int) -> Any:
    """Second by second."""
    for _ in range(seconds):
        now = int(observation.time_s[0])
        until = torch.full((world.batch,), now + 1.0, dtype=torch.float64)
        observation = world.step(rotate(world, observation, now // 10), until).observation
    return observation


def states(world: IntersectionsWorld, row: int = 0) -> str:
    return "".join(map(chr, world.traffic["state"][row].tolist()))


def test_gates_without_limits_change_no_bit() -> None:
    plain, gated = IntersectionsWorld(problem(), 2, "resco"), make(2)
    run(plain, start(plain), 200), run(gated, start(gated), 200)
    for name, column in plain.traffic.items():
        if column.numel():
            assert torch.equal(column, gated.traffic[name]), name
    assert torch.equal(plain.counts["total"], gated.counts["total"])
    assert int(gated.traffic["gate_passed"].sum()) > 100


def test_the_contract_is_kept() -> None:
    check_world(make, steps=12)


@pytest.mark.parametrize("border", ["signals", "open"])
def test_everyone_who_crosses_is_counted_at_the_stop_line(border: str) -> None:
    own = districts() if border == "signals" else open_border()
    world = make(own=own)
    run(world, start(world), 240)
    tables, edge, traffic = problem().tables, own.edge, world.traffic
    expected = np.zeros(len(own.gates), dtype=int)
    at = {int(traffic["id"][0, slot]): slot for slot in range(int(traffic["count"][0]))}
    for trip in (traffic["trip_inserted"][0] >= 0).nonzero().flatten().tolist():
        row, passed = tables.vehicles.way[trip], tables.vehicles.edges[trip] - 1
        if trip in at:
            slot = at[trip]
            inside = tables.lanes.internal[int(traffic["lane"][0, slot])]
            passed = int(traffic["place"][0, slot]) + int(inside)
        way = edge[tables.ways.edge[row : row + passed + 1]]
        for one, other in zip(way[:-1].tolist(), way[1:].tolist(), strict=True):
            if one != other:
                expected[own.gate(own.names[one], own.names[other])] += 1
    assert traffic["gate_passed"][0].tolist() == expected.tolist()
    assert expected.sum() > 40


def no_way_back(world: IntersectionsWorld, gate: Gate) -> set[int]:
    """Vehicles that can no longer stop before a gate."""
    lanes, links, traffic = problem().tables.lanes, problem().tables.links, world.traffic
    found = set()
    for slot in range(int(traffic["count"][0])):
        lane, place = int(traffic["lane"][0, slot]), int(traffic["place"][0, slot])
        link = int(problem().tables.ways.link[int(traffic["way"][0, slot]) + place, lanes.index[lane]])
        if not lanes.internal[lane] and place < int(traffic["last"][0, slot]) and link in gate.guards:
            speed = float(traffic["speed"][0, slot])
            decel = float(problem().tables.types.decel[int(traffic["kind"][0, slot])])
            left = float(lanes.length[links.source[link]] - traffic["position"][0, slot])
            if left <= brake_gap(speed, decel, 0.0) and speed >= decel:
                found.add(int(traffic["id"][0, slot]))
    return found


@pytest.mark.parametrize(("vehicles", "timing"), [(0, "resco"), (3, "resco"), (5, "free")])
def test_nobody_crosses_beyond_the_limit_but_who_can_no_longer_stop(vehicles: int, timing: str) -> None:
    world = make(timing=timing)
    observation = run(world, start(world), 90)
    observation = limit(world, vehicles, 250.0)
    most: dict[int, int] = {}
    closed: dict[int, int] = {}
    for now in range(90, 250):
        for g, gate in enumerate(districts().gates):
            already = int(crossed(world)[0, g])
            if g not in closed and already >= vehicles:
                assert already == 0 or already < vehicles + len(gate.guards)  # all in one second
                closed[g], most[g] = now, already + len(no_way_back(world, gate))
        before = crossed(world)[0].tolist()
        observation = run(world, observation, 1)
        for g, second in closed.items():
            assert int(crossed(world)[0, g]) <= most[g]
            assert now < second + 3 or int(crossed(world)[0, g]) == before[g]
            lights = {chr(int(world.traffic["state"][0, link])) for link in districts().gates[g].guards}
            assert lights <= ({"y", "r"} if now < second + 3 else {"r"})
    assert len(closed) == len(districts().gates)
    run(world, observation, 60)
    assert int(crossed(world).sum()) > sum(most.values()) + 40  # once the epoch is over


def test_programs_keep_limits_too_and_only_guards_change() -> None:
    free, held = make(timing="program"), make(timing="program")
    one, other = start(free), start(held)
    other = limit(held, 2, 200.0)
    guards = set(districts().guard_links)
    differ = 0
    for now in range(260):
        one, other = run(free, one, 1), run(held, other, 1)
        for link, (a, b) in enumerate(zip(states(free), states(held), strict=True)):
            assert a == b or (now < 200 and link in guards and b in "yr" and a != "r"), (now, link)
            differ += a != b
    assert differ > 500
    assert states(free) == states(held)


def test_kernels_equal_the_reference() -> None:
    world = make(timing="program")
    gates = Gates([((*gate.guards, *gate.unguarded), gate.guards) for gate in districts().gates], 3)
    slow = Simulation(problem().tables, 0.0, seed=0, gates=gates)
    observation = start(world)
    for now in range(170):
        if now in (30, 110):
            observation = limit(world, 2, now + 60.0)
            for g in range(len(gates.all)):
                gates.limit(g, 2, now + 60)
        slow.step()
        observation = run(world, observation, 1)
        assert states(world) == "".join(slow.street.link_state), now
        assert [gate.passed for gate in gates.all] == world.traffic["gate_passed"][0].tolist(), now
        count = int(world.traffic["count"][0])
        where = {int(world.traffic["id"][0, s]): float(world.traffic["position"][0, s]) for s in range(count)}
        assert where == pytest.approx({v.id: v.position for v in slow.running}, abs=1e-6), now
    assert int(crossed(world).sum()) > 20


def test_rows_do_not_depend_on_each_other_and_snapshots_go_on() -> None:
    alone, among = make(), IntersectionsWorld(problem(), 3, "resco", districts=districts())
    one, many = start(alone), start(among)
    among.reset(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), until_s=torch.zeros(3).double())
    one, many = run(alone, one, 60), run(among, among.observe(), 60)
    one, many = limit(alone, 4, 200.0), limit(among, 4, 200.0, 1)
    one, many = run(alone, one, 70), run(among, many, 70)
    kept = alone.snapshot()
    one, many = run(alone, one, 50), run(among, many, 50)
    for name in ("position", "lane", "state", "gate_passed", "guard_yellow"):
        assert torch.equal(alone.traffic[name][0], among.traffic[name][1]), name
    assert not torch.equal(among.traffic["gate_passed"][0], among.traffic["gate_passed"][1])
    assert torch.equal(among.traffic["gate_passed"][0], among.traffic["gate_passed"][2])
    again = make()
    run(again, again.restore(kept), 50)
    for name, column in alone.traffic.items():
        assert torch.equal(column, again.traffic[name]), name
    with pytest.raises(WorldError, match="another problem"):
        IntersectionsWorld(problem(), 1, "resco").restore(kept)


def test_signals_see_what_is_left_and_leave_out_phases_that_serve_nobody() -> None:
    own = split(problem(), {"one": ["A1"], "rest": ["A0", "A2", "B0", "B1", "B2", "C0", "C1", "C2"]})
    world = make(own=own)
    observation = start(world)
    gate, left = MOVEMENT_FEATURES.index("gate"), MOVEMENT_FEATURES.index("inflow_left")
    tokens = observation.kinds[KIND]
    leads = torch.zeros(tokens.entity_mask.shape, dtype=torch.bool)
    for a, signal in enumerate(problem().signals):
        for e, move in enumerate(signal.movements):
            leads[0, a, e] = bool(own.edge[move.source] != own.edge[move.target])
    assert torch.equal(tokens.entities[..., gate] == 1.0, leads)
    assert bool((tokens.entities[..., left][tokens.entity_mask] == 1.0).all())
    for vehicles in (10, 0):
        observation = limit(world, vehicles, 300.0)
        observation = run(world, observation, 60)
        tokens = observation.kinds[KIND]
        for a, signal in enumerate(problem().signals):
            for e, move in enumerate(signal.movements):
                ends = own.edge[move.source], own.edge[move.target]
                share = 1.0
                if ends[0] != ends[1]:
                    g = own.gate(own.names[ends[0]], own.names[ends[1]])
                    share = max(0, vehicles - int(crossed(world)[0, g])) / max(1, vehicles)
                assert float(tokens.entities[0, a, e, left]) == pytest.approx(share)
    index, void = problem().tables.links.signal_index, 0
    for a, signal in enumerate(problem().signals):
        green = [{k for k in sum(signal.links, ()) if state[index[k]] in GREEN} for state in signal.phases]
        served = [bool(links - set(own.guard_links)) for links in green]
        assert tokens.action_mask[0, a, :4].tolist() == (served if any(served) else [True] * 4)
        void += 4 - sum(served)
    assert void > 0


@pytest.mark.parametrize("controller", [greedy(), max_pressure("all"), Sotl()], ids=lambda one: one.name)
def test_controllers_leave_closed_links_out(controller: Any) -> None:
    own = split(problem(), {"west": ["A0", "A1", "A2"], "east": ["B0", "B1", "B2", "C0", "C1", "C2"]})
    world = make(own=own)
    observation = start(world)
    controller.reset(world)
    observation = limit(world, 0, 400.0)
    index = {int(link): q for q, link in enumerate(problem().signal_links)}
    closed = [q for link, q in index.items() if link in own.guard_links]
    assert (~open_links(world)[0]).nonzero().flatten().tolist() == sorted(closed)
    while float(observation.time_s[0]) < 300:
        observation = world.step(controller.act(observation)).observation
    assert int(crossed(world).sum()) == 0
    assert int(world.counts["halting"][0, closed].sum()) > 20
    assert float(world.metrics()["completed"][0]) > 20


def test_impossible_limits_are_refused() -> None:
    none = torch.full((1, len(districts().gates)), -1)
    until = torch.full((1,), 100.0, dtype=torch.float64)
    with pytest.raises(WorldError, match="without districts"):
        IntersectionsWorld(problem(), 1).limit_inflow(none, until)
    with pytest.raises(WorldError, match=r"whole numbers \[1, 10\], got torch.int64 \[1, 9\]"):
        make().limit_inflow(none[:, :9], until)
    assert [gate.enforceable for gate in open_border().gates] == [False, True]
    with pytest.raises(WorldError, match="no signal guards the gate from west to rest"):
        make(own=open_border()).limit_inflow(torch.tensor([[4, -1]]), until)
    make(own=open_border()).limit_inflow(torch.tensor([[-1, 4]]), until)
    with pytest.raises(WorldError, match="vehicles from 0"):
        make().limit_inflow(none - 1, until)
