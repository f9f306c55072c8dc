"""What a problem derives from its streets."""

import numpy as np
import pytest

from fedsched.envs.intersections.ahead import next_signals
from fedsched.envs.intersections.problem import Problem, grid_problem
from fedsched.envs.intersections.world import world_spec


def test_neighbours_are_the_signals_along_the_roads() -> None:
    problem = grid_problem(3)
    found = problem.neighbours
    names = [signal.id for signal in problem.signals]
    near = {names[a]: {names[b] for b in row if b >= 0} for a, row in enumerate(found.agent)}
    assert near["A0"] == {"A1", "B0"}
    assert near["B1"] == {"A1", "B0", "B2", "C1"}
    middle = found.agent[names.index("B1")]
    between = found.time_s[names.index("B1"), : int((middle >= 0).sum())]
    assert np.all((between > 160 / 13.89) & (between < 200 / 13.89))
    assert np.all(found.lanes[names.index("B1"), :4] == 3)


def test_lanes_that_do_not_lead_on_count_as_the_first_that_does() -> None:
    tables = grid_problem(3).tables
    number = np.where(tables.links.signal >= 0, np.arange(len(tables.links.signal)), -1).astype(np.int32)
    ahead, _ = next_signals(tables, number)
    off = np.argwhere((tables.ways.link < 0) & (ahead >= 0))
    assert len(off) > 10
    for row, _ in off[:: max(1, len(off) // 20)]:
        edge, onto = tables.ways.edge[row], tables.ways.edge[row + 1]
        entries = [
            k
            for k in range(len(number))
            if tables.lanes.edge[tables.links.source[k]] == edge and tables.lanes.edge[tables.links.target[k]] == onto
        ]
        if tables.links.signal[entries[0]] >= 0:
            assert ahead[row][tables.ways.link[row] < 0].max() == entries[0]


def test_relations_are_the_lights_of_the_phases() -> None:
    problem = grid_problem(3)
    kind = world_spec(problem).kinds[0]
    assert isinstance(kind.relation, np.ndarray)
    assert kind.relation.shape == (9, kind.actions, kind.entities)
    links = problem.tables.links
    for a, signal in enumerate(problem.signals):
        assert not kind.relation[a, kind.idle].any()
        for n, state in enumerate(signal.phases):
            for e, move in enumerate(signal.movements):
                green = any(state[links.signal_index[k]] in "gG" for k in signal.links[e])
                assert kind.relation[a, n, e] == green
                assert {problem.tables.lanes.edge[links.source[k]] for k in signal.links[e]} == {move.source}


def test_movements_compete_if_no_phase_serves_both() -> None:
    problem = grid_problem(1)
    kind = world_spec(problem).kinds[0]
    assert kind.links is not None
    assert kind.links.shape == (9, kind.entities, kind.entities)
    for a, signal in enumerate(problem.signals):
        for e in range(kind.entities):
            for f in range(kind.entities):
                served = any(problem.served[a, n, e] and problem.served[a, n, f] for n in range(problem.phases))
                real = max(e, f) < len(signal.movements)
                assert kind.links[a, e, f] == (real and e != f and not served)


def test_movements_hand_traffic_on_along_the_roads() -> None:
    problem = grid_problem(1)
    names = [signal.id for signal in problem.signals]
    source, target = problem.flow.source, problem.flow.target
    for a, signal in enumerate(problem.signals):
        near = {int(b) for b in problem.neighbours.agent[a] if b >= 0}
        for table, edge in ((source, "source"), (target, "target")):
            roads = {(getattr(move, edge), int(table[a, e])) for e, move in enumerate(signal.movements)}
            inside = [b for _, b in roads if b >= 0]
            # a road each from and to every neighbour, the others end at the border
            assert sorted(inside) == sorted(near)
            assert len(roads) == len({road for road, _ in roads})
        assert (source[a, len(signal.movements) :] == -1).all()
    middle = names.index("B1")
    assert (source[middle] >= 0).all()
    assert (target[middle] >= 0).all()
    assert (source[names.index("A0")] == -1).any()
    assert (source != target).any()


def nearest_by_relaxing(problem: Problem, begin: int, own: int) -> dict[tuple[int, int], float]:
    """Seconds from the start of an edge to the end of every edge before the next signals, by (signal, edge)."""
    lanes, links = problem.tables.lanes, problem.tables.links
    agent = {signal.index: a for a, signal in enumerate(problem.signals)}
    first = {edge: lane for lane, edge in reversed(list(enumerate(lanes.edge))) if not lanes.internal[lane]}
    time_s = {edge: float(lanes.length[lane] / lanes.speed[lane]) for edge, lane in first.items()}
    roads = [
        (lanes.edge[links.source[k]], lanes.edge[links.target[k]], agent.get(int(links.signal[k]), -1))
        for k in range(len(links.signal))
    ]
    signals = {edge: {a for one, _, a in roads if one == edge and a >= 0} for edge in first}
    reached = {begin: time_s[begin]}
    while True:
        onward = [(b, reached[a] + time_s[b]) for a, b, _ in roads if a in reached and not signals[a] and b in time_s]
        better = {b: t for b, t in sorted(onward, key=lambda item: -item[1]) if t < reached.get(b, np.inf) - 1e-9}
        if not better:
            return {(a, edge): t for edge, t in reached.items() for a in signals[edge] - {own}}
        reached |= better


@pytest.mark.parametrize("controlled", [["A1", "B0", "B2", "C1"], ["A0", "C2"]])
def test_traffic_is_handed_on_past_signals_that_nobody_controls(controlled: list[str]) -> None:
    """The nearest signal is found from every road, also where another road leads there faster."""
    problem = grid_problem(1, controlled)
    flow, feeds = problem.flow, dict[tuple[int, int], list[tuple[float, int]]]()
    for a, signal in enumerate(problem.signals):
        for e, movement in enumerate(signal.movements):
            ahead = nearest_by_relaxing(problem, movement.target, a)
            for place, time_s in ahead.items():
                feeds.setdefault(place, []).append((time_s, a))
            least = min(ahead.values(), default=np.inf) + 1e-9
            assert flow.target[a, e] in {b for (b, _), time_s in ahead.items() if time_s <= least} or not ahead
            assert (flow.target[a, e] >= 0) == bool(ahead)
    for a, signal in enumerate(problem.signals):
        for e, movement in enumerate(signal.movements):
            here = feeds.get((a, movement.source), [])
            least = min(here, default=(np.inf, -1))[0] + 1e-9
            assert flow.source[a, e] in {b for time_s, b in here if time_s <= least} or not here
            assert (flow.source[a, e] >= 0) == bool(here)
