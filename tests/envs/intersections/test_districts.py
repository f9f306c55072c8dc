"""Districts: every edge and signal in one, in one piece, of equal size, with gates where roads cross."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.districts import Districts, split
from fedsched.envs.intersections.generate import Irregular, Traffic, generated_problem
from fedsched.envs.intersections.groups import Groups, edge_flows
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, grid_problem, make_problem
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.tables import LinkKind
from fedsched.envs.intersections.world import world_spec

NETWORKS = Path(__file__).parent / "networks"
ROWS = {"west": ["A0", "A1", "A2"], "rest": ["B0", "B1", "B2", "C0", "C1", "C2"]}


@cache
def case(name: str) -> Problem:
    if name == "grid":
        return grid_problem(2)
    if name == "irregular":
        city = Irregular(junctions=20, signal_share=0.5)
        return generated_problem(city, Traffic(vehicles_per_h=2000.0, seconds=600), seed=2, instances=1)
    network = read_network(NETWORKS / f"{name}.net.xml.gz")
    return make_problem(network, [read_demand(NETWORKS / f"{name}.rou.xml.gz", network, 0, 600)], 0, 600)


def crossings(problem: Problem, districts: Districts) -> list[tuple[int, int, int]]:
    """Entry links that lead from one district into another, one by one."""
    lanes, links = problem.tables.lanes, problem.tables.links
    found = []
    for link in np.flatnonzero(links.kind == LinkKind.ENTRY).tolist():
        ends = [int(districts.edge[lanes.edge[lane[link]]]) for lane in (links.source, links.target)]
        if ends[0] != ends[1]:
            found.append((link, ends[0], ends[1]))
    return found


def cases() -> list[tuple[Problem, Districts]]:
    grid, lights, irregular = case("grid"), case("lights"), case("irregular")
    found = [(grid, split(grid, ROWS)), (lights, balanced(lights, 2)), (irregular, balanced(irregular, 4))]
    return found + [(grid, balanced(grid, parts, by=by)) for parts in (2, 3, 4) for by in ("signals", "traffic")]


@pytest.mark.parametrize("number", range(9))
def test_edges_signals_and_crossings_each_have_one_place(number: int) -> None:
    problem, districts = cases()[number]
    lanes, links = problem.tables.lanes, problem.tables.links
    assert len(districts.edge) == sum(not edge.internal for edge in problem.network.edges)
    assert set(districts.edge.tolist()) == set(range(len(districts.names)))
    assert set(districts.site.tolist()) == set(range(len(districts.names)))
    for link in problem.signal_links:
        assert districts.edge[lanes.edge[links.source[link]]] == districts.signal[links.signal[link]]
    assert districts.site.tolist() == [districts.signal[signal.index] for signal in problem.signals]
    seen = []
    for n, gate in enumerate(districts.gates):
        assert districts.gate(districts.names[gate.source], districts.names[gate.target]) == n
        assert all(links.signal[link] >= 0 for link in gate.guards)
        assert all(links.signal[link] < 0 for link in gate.unguarded)
        assert gate.enforceable == (not gate.unguarded)
        assert {int(lanes.edge[links.target[k]]) for k in (*gate.guards, *gate.unguarded)} == set(gate.edges)
        inside = [lane for lane in problem.network.lanes if lane.edge in gate.edges]
        assert (gate.lanes, gate.storage_m) == (len(inside), pytest.approx(sum(lane.length for lane in inside)))
        seen += [(link, gate.source, gate.target) for link in (*gate.guards, *gate.unguarded)]
    assert sorted(seen) == crossings(problem, districts)
    assert [districts.link_gate[link] >= 0 for link in range(len(links.source))] == [
        link in {link for link, _, _ in seen} for link in range(len(links.source))
    ]


@pytest.mark.parametrize("number", range(9))
def test_one_gets_everywhere_in_a_district_without_leaving_it(number: int) -> None:
    problem, districts = cases()[number]
    lanes, links = problem.tables.lanes, problem.tables.links
    for place in range(len(districts.names)):
        own = set(np.flatnonzero(districts.edge == place).tolist())
        roads = [
            {int(lanes.edge[links.source[k]]), int(lanes.edge[links.target[k]])}
            for k in np.flatnonzero(links.kind == LinkKind.ENTRY)
        ]
        roads = [road for road in roads if road <= own and len(road) > 1]
        alone = own - set().union(*roads)
        reached = {min(own - alone)}
        while more := {edge for road in roads if road & reached for edge in road} - reached:
            reached |= more
        assert reached == own - alone
        assert not problem.network.edges[next(iter(alone), 0)].internal


@pytest.mark.parametrize("parts", [2, 3, 4, 9])
def test_balanced_districts_are_of_equal_size_and_the_same_each_time(parts: int) -> None:
    districts = balanced(case("grid"), parts, seed=4)
    sizes = np.bincount(districts.site)
    assert sizes.max() - sizes.min() <= (9 % parts > 0)
    assert districts.digest == balanced(case("grid"), parts, seed=4).digest
    assert districts.names == tuple(f"d{n + 1}" for n in range(parts))


def test_districts_balanced_by_traffic_share_it() -> None:
    grid = case("grid")
    heavy = {"A0", "A1"}  # as if there were far more traffic here
    demand = grid.demands[0]
    ends = [grid.network.junctions[grid.network.edges[demand.routes[trip.route][0]].target].id for trip in demand.trips]
    trips = [trip for trip, end in zip(demand.trips, ends, strict=True) for _ in range(6 if end in heavy else 1)]
    skewed = make_problem(grid.network, [replace(demand, trips=tuple(trips))], 0.0, 1200.0)
    flows = edge_flows(skewed)

    def shares(districts: Districts) -> list[int]:
        before = {signal.id: {move.source for move in signal.movements} for signal in skewed.signals}
        found = [0] * len(districts.names)
        for (edge, _), number in flows.items():
            if any(edge in own for own in before.values()):
                found[districts.edge[edge]] += number
        return found

    by_signals, by_traffic = shares(balanced(skewed, 2)), shares(balanced(skewed, 2, by="traffic"))
    assert max(by_traffic) / min(by_traffic) < 1.25
    assert max(by_traffic) < max(by_signals)


@pytest.mark.parametrize("parts", [2, 4])
def test_no_group_of_signals_would_do_better_elsewhere(parts: int) -> None:
    problem = case("irregular")
    districts, group = balanced(problem, parts), Groups(problem)
    label = [int(districts.signal[group.of_signal.index(n)]) for n in range(group.count)]
    weight = [group.controlled(n) for n in range(group.count)]
    across: dict[tuple[int, int], int] = {}
    for (edge, onto), number in edge_flows(problem).items():
        ends = int(group.edge[edge]), int(group.edge[onto])
        across[ends] = across.get(ends, 0) + number

    def score(label: list[int]) -> tuple[int, int]:
        sizes = [sum(w for w, own in zip(weight, label, strict=True) if own == k) for k in range(parts)]
        return sum(n**2 for n in sizes), sum(n for (a, b), n in across.items() if label[a] != label[b])

    def whole(label: list[int], district: int) -> bool:
        own = {n for n, value in enumerate(label) if value == district}
        reached = {min(own)} if own else set()
        while more := {b for a in reached for b in group.near[a] if b in own} - reached:
            reached |= more
        return reached == own != set()

    moves = 0
    for n, own in enumerate(label):
        for other in {label[m] for m in group.near[n]} - {own}:
            moved = [*label[:n], other, *label[n + 1 :]]
            if whole(moved, own):
                moves += 1
                assert score(moved) >= score(label)
    assert moves > 3


def test_edges_between_signals_go_with_their_traffic() -> None:
    problem = case("irregular")
    group, flows = Groups(problem), edge_flows(problem)
    districts = balanced(problem, 4)
    of_group = {int(group.edge[e]): int(districts.edge[e]) for e in np.flatnonzero(group.before >= 0)}
    nearest = np.array([of_group[int(own)] for own in group.edge])

    def unguarded(edge: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> int:
        return sum(n for (a, b), n in flows.items() if edge[a] != edge[b] and not group.guarded[a, b])

    assert unguarded(districts.edge.astype(np.int64)) < unguarded(nearest)
    for edge in np.flatnonzero(group.before < 0).tolist():
        vehicles = [0] * 4
        for (a, b), n in flows.items():
            if edge in (a, b) and not group.guarded[a, b]:
                vehicles[districts.edge[b if edge == a else a]] += n
        assert vehicles[districts.edge[edge]] == max(vehicles)


def test_names_stand_for_signals_junctions_and_edges() -> None:
    grid = case("grid")
    split_up = {"west": ["B0A0.140.00", "A1", "A2"], "rest": ROWS["rest"]}
    by_edge = split(grid, split_up)
    assert by_edge.digest == split(grid, ROWS).digest
    spec = world_spec(grid, by_edge)
    assert spec.site is not None
    assert [by_edge.names[n] for n in spec.site] == ["west"] * 3 + ["rest"] * 6
    assert world_spec(grid).site is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({**ROWS, "west": ["A0", "A1", "A2", "Z9"]}, "no signal, edge or junction 'Z9'"),
        ({**ROWS, "west": ["A0", "A1", "A2", "B0"]}, "is in districts 'west' and 'rest'; name it once"),
        ({"west": ROWS["west"], "rest": ROWS["rest"][:-1]}, "signals in no district: C2; add each to one"),
        ({**ROWS, "north": []}, "district 'north' has no controlled signal"),
        ({"a": ["A0", "C2"], "b": ["A1", "A2", "B0", "B1", "B2", "C0", "C1"]}, "district 'a' is not connected"),
    ],
)
def test_wrong_districts_are_named(given: dict[str, list[str]], words: str) -> None:
    with pytest.raises(IntersectionsError, match=words):
        split(case("grid"), given)


def test_what_cannot_be_balanced_and_gates_that_are_not_there() -> None:
    with pytest.raises(IntersectionsError, match="10 districts of 9 groups of controlled signals; ask for 1 to 9"):
        balanced(case("grid"), 10)
    columns = split(case("grid"), {k: [f"{k}{n}" for n in range(3)] for k in "ABC"})
    with pytest.raises(IntersectionsError, match="no road leads from district 'A' into 'C'"):
        columns.gate("A", "C")
    with pytest.raises(IntersectionsError, match="no district 'D'; there are A, B, C"):
        columns.gate("A", "D")
