"""Who speaks to whom under which address."""

import numpy as np
import pytest

from fedsched.envs.core import Flow, KindSpec, WorldError, WorldSpec


def spec(neighbours: list[list[int]], source: list[list[int]], target: list[list[int]]) -> WorldSpec:
    names = tuple(f"a{i}" for i in range(len(neighbours)))
    flow = Flow(np.array(source), np.array(target))
    kind = KindSpec("a", names, (), entity=("x",), entities=len(source[0]), actions=2, flow=flow)
    return WorldSpec("toy", (kind,), np.array(neighbours), ("r",), ("m",))


def test_addresses_equal_a_loop() -> None:
    generator = np.random.default_rng(0)
    neighbours = np.array([generator.permutation([j for j in range(7) if j != i])[:3] for i in range(7)])
    neighbours[generator.random((7, 3)) < 0.3] = -1
    flow = generator.integers(-1, 7, (2, 7, 4))
    found = spec(neighbours.tolist(), flow[0].tolist(), flow[1].tolist()).addresses
    assert found.count == 4
    listeners = np.zeros((7, 4), dtype=int)
    for j in range(7):
        for k in range(3):
            speaker = neighbours[j, k]
            back = neighbours[speaker].tolist() if speaker >= 0 else []
            expected = 1 + back.index(j) if j in back else 0
            assert found.address[j, k] == expected
            if speaker >= 0:
                listeners[speaker, expected] += 1
    assert found.listeners.tolist() == listeners.tolist()
    for name, table in (("source", flow[0]), ("target", flow[1])):
        columns = getattr(found.ways["a"], name)
        for a in range(7):
            for e in range(4):
                near = neighbours[a].tolist()
                agent = table[a, e]
                assert columns[a, e] == (near.index(agent) if agent >= 0 and agent in near else -1)


def test_where_nothing_flows_everybody_hears_the_same() -> None:
    kind = KindSpec("a", ("x", "y", "z"), (), actions=2)
    found = WorldSpec("toy", (kind,), np.array([[1, 2], [2, -1], [-1, -1]]), ("r",), ("m",)).addresses
    assert found.count == 1
    assert not found.address.any()
    assert found.listeners.tolist() == [[0], [1], [2]]
    assert found.ways == {}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([[0, 0], [5, 0]], r"toy: agent a1: flow.source of entity 0: 5 is no agent; there are 0 to 1, and -1 is none"),
        ([[0, 0]], r"toy: kind a: flow.source has shape \(1, 2\); one line for each of 2 agents with 2 entities"),
    ],
)
def test_a_flow_from_nowhere_is_refused(source: list[list[int]], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        spec([[1], [0]], source, [[0, 0], [0, 0]])
