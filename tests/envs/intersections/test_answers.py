"""What we read out of a network against what libsumo 1.28 reports; `networks/README.md` says how both were made."""

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsched.envs.intersections.compile import compile_tables
from fedsched.envs.intersections.conflicts import foe_lanes, siblings
from fedsched.envs.intersections.demand import Demand
from fedsched.envs.intersections.geometry import Polylines
from fedsched.envs.intersections.links import Movements
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.routing import Router
from fedsched.envs.intersections.tables import ConflictKind, LinkKind, Tables
from fedsched.envs.intersections.vehicletypes import default_type
from fedsched.envs.intersections.ways import LaneViews, reach_m

FOLDER = Path(__file__).parent / "networks"
NAMES = ("lights", "walks", "plain", "roads")
TURNS = {"s": 0, "r": 1, "R": 2, "l": 3, "L": 4, "t": 5}


@cache
def network(name: str) -> Network:
    return read_network(FOLDER / f"{name}.net.xml.gz")


@cache
def demand(name: str) -> Demand:
    return read_demand(FOLDER / f"{name}.rou.xml.gz", network(name), 0, 300)


@cache
def tables(name: str) -> Tables:
    return compile_tables(network(name), demand(name), 0)


@cache
def answers(name: str) -> Any:
    return json.loads(gzip.decompress((FOLDER / f"{name}.sumo.json.gz").read_bytes()))


def ids(name: str) -> list[str]:
    return [lane.id for lane in network(name).lanes]


def rows(begin: Any, values: Any, n: int) -> list[int]:
    return [int(value) for value in values[begin[n] : begin[n + 1]]]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_where_sumo_says(name: str) -> None:
    names, lanes, links = ids(name), tables(name).lanes, tables(name).links
    walking = {lane for lane in answers(name)["links"] if lane not in names}
    assert all("_w" in lane or "_c" in lane for lane in walking)
    for n, lane in enumerate(names):
        own = []
        for k in range(lanes.link_begin[n], lanes.link_begin[n + 1]):
            via = names[links.next[k]] if lanes.internal[links.next[k]] else ""
            length = network(name).lanes[links.next[k]].length if via else 0.0
            own.append((names[links.target[k]], via, int(links.turn[k]), round(length, 2) if via else None))
        told = [link for link in answers(name)["links"][lane] if link[0] not in walking]
        assert own == [(target, via, TURNS[turn], round(m, 2) if via else None) for target, via, _, turn, m in told], (
            lane
        )


@pytest.mark.parametrize("name", NAMES)
def test_states_without_a_signal_are_sumos(name: str) -> None:
    names, links = ids(name), tables(name).links
    told = {(lane, link[0]): link[2] for lane, row in answers(name)["links"].items() for link in row}
    free = [k for k in range(len(links.source)) if links.signal[k] < 0]
    assert all(chr(links.state[k]) == told[names[links.source[k]], names[links.target[k]]] for k in free)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_yields_to_whom_it_yields_in_sumo(name: str) -> None:
    names, links = ids(name), tables(name).links
    count = 0
    for k in range(len(links.source)):
        respected = sorted(names[links.source[j]] for j in rows(links.response_begin, links.response, k))
        told = answers(name)["foes"][f"{names[links.source[k]]}>{names[links.target[k]]}"]
        assert respected == sorted(lane for lane in told if lane in names), names[links.source[k]]
        count += len(respected)
    assert count > 50


@pytest.mark.parametrize("name", [name for name in NAMES if name != "plain"])
def test_every_internal_lane_has_the_foes_it_has_in_sumo(name: str) -> None:
    names, net = ids(name), network(name)
    moves = Movements(net)
    foes, together = foe_lanes(net, moves), siblings(net, moves, Polylines([lane.shape for lane in net.lanes]))
    for n, lane in enumerate(names):
        if lane.startswith(":"):
            own = {names[m] for m in (*foes[n], *together[n])}
            assert own == {other for other in answers(name)["inside"][lane] if other in names}, lane


def zones(name: str) -> Iterator[tuple[int, float, float, float | None, float | None, bool, bool]]:
    """Our conflict, then SUMO's begin on both lanes, the sizes and who yields."""
    names, conflicts, net = ids(name), tables(name).conflicts, network(name)
    moves = Movements(net)
    for key, (own_at, own_m, other_at, other_m, *told) in answers(name)["zones"].items():
        lane, other = (names.index(part) if part in names else -1 for part in key.split("|"))
        if min(lane, other) < 0:
            continue
        span = range(conflicts.begin[lane], conflicts.begin[lane + 1])
        (q,) = [q for q in span if conflicts.lane[q] == other]
        begin = ahead(net, moves, names.index(own_at), own_m, lane)
        far = ahead(net, moves, names.index(other_at), other_m, other)
        if begin is not None:
            there = None if far is None else told[2] - far
            yield q, told[0] - begin, told[1] - told[0], there, told[3] - told[2], told[4], told[5]


def ahead(net: Network, moves: Movements, lane: int, position: float, goal: int) -> float | None:
    """m from a place to the start of an internal lane; None where it was passed."""
    metres, at = 0.0, goal
    while at != lane:
        if moves.into[at] < 0:
            return None
        at = moves.source[moves.into[at]]
        metres += net.lanes[at].length
    return metres - position


@pytest.mark.parametrize("name", [name for name in NAMES if name != "plain"])
def test_conflict_zones_are_where_sumo_has_them(name: str) -> None:
    c, lanes, links = tables(name).conflicts, tables(name).lanes, tables(name).links
    behind = {int(links.next[k]) for k in np.flatnonzero(links.kind == LinkKind.INNER)}
    owner = np.repeat(np.arange(len(lanes.length)), np.diff(c.begin))
    kinds = set()
    for q, begin, size, there, their_size, yields, yielded in zones(name):
        kinds.add(ConflictKind(c.kind[q]))
        assert (bool(c.must_yield[q]), bool(c.other_yields[q])) == (yields, yielded)
        if c.kind[q] == ConflictKind.SIBLING:  # SUMO names the place where they part
            assert c.own_end[q] == pytest.approx(begin, abs=0.02)
            assert there is None or c.other_end[q] == pytest.approx(there, abs=0.02)
            continue
        assert c.own_end[q] - c.own_begin[q] == pytest.approx(size, abs=0.02)
        if int(owner[q]) not in behind:  # those stop at the waiting area
            assert c.own_begin[q] == pytest.approx(begin, abs=0.02)
        if there is not None and c.other_begin[q] > -1000:
            assert c.other_begin[q] == pytest.approx(there, abs=0.02)
            assert c.other_end[q] - c.other_begin[q] == pytest.approx(their_size, abs=0.02)
    assert kinds >= {ConflictKind.CROSSING, ConflictKind.SIBLING}


@pytest.mark.parametrize("name", NAMES)
def test_best_lanes_are_those_sumo_tells_vehicles(name: str) -> None:
    names, edges, net = ids(name), network(name).edges, network(name)
    moves = Movements(net)
    views = LaneViews(net, moves)
    index = {edge.id: n for n, edge in enumerate(edges)}
    seen = changes = 0
    for key, told in answers(name)["best"].items():
        kind, place, text = key.split("|")
        route = [index[edge] for edge in text.split()]
        own = views.at(route, int(place), kind, reach_m(default_type("x", kind)))
        assert [names.index(lane) for lane, *_ in told] == list(edges[route[int(place)]].lanes)
        for view, (_, length, offset, onward) in zip(own, told, strict=True):
            assert view.length == pytest.approx(length, abs=0.011)
            assert view.offset == offset
            following = [other for other in onward[1:] if not other.startswith(":")]
            leads_to = names[moves.target[view.link]] if view.link >= 0 else None
            assert leads_to == (following[0] if following else None)
            seen, changes = seen + 1, changes + (offset != 0)
    assert seen > 200
    assert changes > 0


@pytest.mark.parametrize("name", NAMES)
def test_trips_take_a_way_as_fast_as_sumos(name: str) -> None:
    edges, router = network(name).edges, Router(network(name))
    index = {edge.id: n for n, edge in enumerate(edges)}
    same = 0
    for key, (told, seconds) in answers(name)["routes"].items():
        kind, start, goal = key.split("|")
        fastest = default_type("x", kind).max_speed
        way = router.way(index[start], index[goal], kind, fastest)
        assert way is not None
        assert router.seconds(way, kind, fastest) == pytest.approx(seconds, abs=0.01)
        same += [edges[edge].id for edge in way] == told
    assert same > 0.8 * len(answers(name)["routes"])  # the others are as fast: grids have ties


def test_types_are_what_sumo_makes_of_a_class() -> None:
    told = json.loads((FOLDER / "types.json").read_text())
    for vehicle_class, numbers in told.items():
        ours = default_type("x", vehicle_class)
        assert {name: round(getattr(ours, name), 6) for name in numbers} == numbers, vehicle_class
    assert len(told) == 18
