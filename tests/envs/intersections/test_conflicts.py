import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fedsched.envs.intersections.conflicts import build_conflicts
from fedsched.envs.intersections.geometry import Polylines, crossings, nearest, together_m
from fedsched.envs.intersections.links import Movements
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.tables import ConflictKind, Conflicts

FOLDER = Path(__file__).parent / "networks"
NAMES = ("lights", "walks", "roads")


@cache
def made(name: str) -> tuple[Network, Conflicts]:
    network = read_network(FOLDER / f"{name}.net.xml.gz")
    return network, build_conflicts(network, Movements(network))


def pairs(name: str) -> Iterator[tuple[int, int, int]]:
    network, conflicts = made(name)
    for lane in range(len(network.lanes)):
        for q in range(conflicts.begin[lane], conflicts.begin[lane + 1]):
            yield lane, int(conflicts.lane[q]), q


@pytest.mark.parametrize("seed", range(5))
def test_crossings_agree_with_a_walk_along_the_lines(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [np.cumsum(rng.normal(0, 5, (int(rng.integers(2, 7)), 2)), axis=0) for _ in range(8)]
    lines = Polylines(shapes)
    first, second = np.array([(a, b) for a in range(8) for b in range(8) if a != b]).T
    meet, at, sine = crossings(lines, first, second)
    for q, (a, b) in enumerate(zip(first, second, strict=True)):
        found = list(slow_crossings(shapes[a], shapes[b]))
        assert bool(meet[q]) == bool(found)
        if found:
            assert at[q] == pytest.approx(max(m for m, _ in found))
            assert 0 <= sine[q] <= 1
            back = crossings(lines, second[q : q + 1], first[q : q + 1])
            assert back[2][0] == pytest.approx(sine[q])
    assert meet.any()


def slow_crossings(p: np.ndarray, q: np.ndarray) -> Iterator[tuple[float, float]]:
    along = 0.0
    for a, b in itertools.pairwise(p):
        beside = 0.0
        for c, d in itertools.pairwise(q):
            matrix = np.array([b - a, c - d]).T
            s, t = np.linalg.solve(matrix, c - a)
            if 0 <= s <= 1 and 0 <= t <= 1:
                yield along + s * float(np.hypot(*(b - a))), beside + t * float(np.hypot(*(d - c)))
            beside += float(np.hypot(*(d - c)))
        along += float(np.hypot(*(b - a)))


def test_two_lines_that_part_at_a_right_angle_are_apart_after_as_many_metres() -> None:
    lines = Polylines([np.array([[0.0, 0], [20, 0]]), np.array([[0.0, 0], [0, 20]]), np.array([[20.0, 9], [20, 0]])])
    assert together_m(lines, 0, 1, 2.5, (20, 20), ahead=True) == pytest.approx(2.5)
    assert together_m(lines, 0, 2, 2.5, (20, 9), ahead=False) == pytest.approx(2.5)
    place = nearest(lines, 0, np.array([7.0, 3.0]))
    assert (place.off, place.along) == pytest.approx((3.0, 7.0))


def test_parallel_lines_stay_together_to_the_end_of_the_shorter() -> None:
    lines = Polylines([np.array([[0.0, 0], [20, 0]]), np.array([[0.0, 1], [8, 1]])])
    assert together_m(lines, 0, 1, 2.5, (20, 8), ahead=True) == pytest.approx(8)


def test_a_right_angle_makes_a_zone_as_wide_as_the_other_lane() -> None:
    network, conflicts = made("lights")
    straight = [
        q for lane, other, q in pairs("lights")
        if conflicts.kind[q] == ConflictKind.CROSSING and is_straight(network, lane) and is_straight(network, other)
    ]  # fmt: skip
    assert len(straight) > 50
    sizes = conflicts.own_end[straight] - conflicts.own_begin[straight]
    assert np.allclose(sizes, 3.2)
    assert np.allclose(conflicts.other_end[straight] - conflicts.other_begin[straight], 3.2)


def is_straight(network: Network, lane: int) -> bool:
    shape = network.lanes[lane].shape
    step = np.abs(shape[-1] - shape[0])
    return bool(step.min() < 0.01 and step.max() > 10)


@pytest.mark.parametrize("name", NAMES)
def test_what_one_lane_says_of_the_other_the_other_says_too(name: str) -> None:
    network, conflicts = made(name)
    known = {(lane, other): q for lane, other, q in pairs(name)}
    inner = {lane for lane in range(len(network.lanes)) if waits_before(network, lane)}
    for (lane, other), q in known.items():
        assert network.edges[network.lanes[lane].edge].internal
        assert network.edges[network.lanes[other].edge].internal
        r = known.get((other, lane))
        if r is None:
            continue
        assert (conflicts.must_yield[q], conflicts.other_yields[q]) == (
            conflicts.other_yields[r],
            conflicts.must_yield[r],
        )
        assert conflicts.kind[q] == conflicts.kind[r]
        if other not in inner and conflicts.other_begin[q] > -1000:
            assert conflicts.other_begin[q] == pytest.approx(conflicts.own_begin[r], abs=1e-6)
    assert sum((other, lane) in known for lane, other in known) > 0.85 * len(
        known
    )  # waiting areas need not look out for all that look out for them


def waits_before(network: Network, lane: int) -> bool:
    return any(c.via == lane and network.edges[network.lanes[c.source].edge].internal for c in network.connections)


@pytest.mark.parametrize("name", NAMES)
def test_zones_lie_on_their_lanes(name: str) -> None:
    network, conflicts = made(name)
    for lane, _, q in pairs(name):
        length = network.lanes[lane].length
        assert -1e-9 <= conflicts.own_begin[q] <= length + 1e-6
        assert conflicts.own_begin[q] <= conflicts.own_end[q]
        if conflicts.kind[q] == ConflictKind.SIBLING:
            assert conflicts.own_begin[q] == 0
            assert conflicts.own_end[q] <= length + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_nobody_conflicts_with_itself_and_no_pair_is_there_twice(name: str) -> None:
    found = [(lane, other) for lane, other, _ in pairs(name)]
    assert len(set(found)) == len(found) > 100
    assert all(lane != other for lane, other in found)


def test_a_network_without_internal_lanes_has_no_conflicts() -> None:
    network = read_network(FOLDER / "plain.net.xml.gz")
    conflicts = build_conflicts(network, Movements(network))
    assert len(conflicts.lane) == 0
    assert np.array_equal(conflicts.begin, np.zeros(len(network.lanes) + 1))
