import dataclasses
import gzip
import os
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fedsched.envs.intersections.compile import LANE_RULES, SPEED_RULES, compile_tables
from fedsched.envs.intersections.configfile import read_config
from fedsched.envs.intersections.demand import Demand
from fedsched.envs.intersections.links import Movements
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import CLASSES, IntersectionsError, Network
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.tables import LinkKind, Tables

FOLDER = Path(__file__).parent / "networks"
NAMES = ("lights", "walks", "plain", "roads")


@cache
def made(name: str) -> tuple[Network, Demand, Tables]:
    network = read_network(FOLDER / f"{name}.net.xml.gz")
    demand = read_demand(FOLDER / f"{name}.rou.xml.gz", network, 0, 300)
    return network, demand, compile_tables(network, demand, 20)


@pytest.mark.parametrize("name", NAMES)
def test_links_are_sorted_by_lane_and_every_movement_ends_on_a_normal_lane(name: str) -> None:
    _, _, tables = made(name)
    lanes, links = tables.lanes, tables.links
    assert np.all(np.diff(links.source) >= 0)
    assert np.array_equal(np.repeat(np.arange(len(lanes.length)), np.diff(lanes.link_begin)), links.source)
    assert not lanes.internal[links.target].any()
    kinds = links.kind
    assert np.array_equal(kinds == LinkKind.ENTRY, ~lanes.internal[links.source])
    assert np.array_equal(kinds == LinkKind.INNER, lanes.internal[links.source] & lanes.internal[links.next])
    assert np.array_equal(links.next[kinds == LinkKind.EXIT], links.target[kinds == LinkKind.EXIT])
    assert np.array_equal(np.unique(links.source[kinds == LinkKind.INNER]), np.flatnonzero(lanes.waiting))
    assert (kinds[links.entry] == LinkKind.ENTRY).all()
    assert np.array_equal(links.target[links.entry], links.target)
    assert np.array_equal(links.junction[links.entry], links.junction)


@pytest.mark.parametrize("name", NAMES)
def test_the_way_through_a_junction_is_as_long_as_its_lanes(name: str) -> None:
    _, _, tables = made(name)
    lanes, links = tables.lanes, tables.links
    for k in range(len(links.source)):
        metres, lane = 0.0, links.next[k]
        while lanes.internal[lane]:
            assert lanes.entry[lane] == links.entry[k]
            assert lanes.link_begin[lane + 1] - lanes.link_begin[lane] == 1
            metres += lanes.length[lane]
            lane = links.next[lanes.link_begin[lane]]
        assert lane == links.target[k]
        assert links.via_length[k] == pytest.approx(metres)
    assert (lanes.entry[~lanes.internal] == -1).all()


@pytest.mark.parametrize("name", NAMES)
def test_whom_a_link_yields_to_are_foes_of_its_junction(name: str) -> None:
    _, _, tables = made(name)
    links = tables.links
    for k in range(len(links.source)):
        respected = links.response[links.response_begin[k] : links.response_begin[k + 1]]
        foes = set(links.foe[links.foe_begin[k] : links.foe_begin[k + 1]].tolist())
        assert (links.junction[respected] == links.junction[k]).all()
        assert (links.entry[respected] != links.entry[k]).all()
        if links.kind[k] == LinkKind.ENTRY:
            assert set(links.entry[respected].tolist()) <= foes
            assert all(k in links.foe[links.foe_begin[f] : links.foe_begin[f + 1]] for f in foes)
        if links.kind[k] == LinkKind.EXIT:
            assert not len(respected)
            assert not foes
    waiting = links.kind == LinkKind.INNER
    if waiting.any():
        assert links.cont[links.entry[waiting]].all()
        assert links.has_foes[waiting].all()


def test_lanes_know_their_neighbours() -> None:
    network, _, tables = made("lights")
    lanes = tables.lanes
    for n in range(len(lanes.length)):
        siblings = network.edges[lanes.edge[n]].lanes
        place = siblings.index(n)
        assert place == lanes.index[n]
        if lanes.internal[n]:  # only those that lead straight on, from a lane of their own
            assert lanes.right[n] in (-1, *siblings[:place])
            assert lanes.left[n] in (-1, *siblings[place + 1 :])
            continue
        assert lanes.right[n] == (siblings[place - 1] if place else -1)
        assert lanes.left[n] == (siblings[place + 1] if place + 1 < len(siblings) else -1)


@pytest.mark.parametrize("name", NAMES)
def test_signals_hold_every_phase(name: str) -> None:
    network, _, tables = made(name)
    signals, links = tables.signals, tables.links
    assert len(signals.offset_s) == len(network.signals)
    for n, signal in enumerate(network.signals):
        size = signals.link_begin[n + 1] - signals.link_begin[n]
        phases = slice(signals.phase_begin[n], signals.phase_begin[n + 1])
        rows = ["".join(map(chr, row[:size])) for row in signals.state[phases]]
        assert rows == [phase.state for phase in signal.phases]
        assert signals.duration_s[phases].sum() == signal.cycle_s
        own = np.flatnonzero(links.signal == n)
        assert sorted({*links.signal_index[own]}) == [i for i, c in enumerate(signal.connections) if c]
        assert (links.kind[own] == LinkKind.ENTRY).all()


@pytest.mark.parametrize("name", NAMES)
def test_vehicles_find_their_route_and_type(name: str) -> None:
    network, demand, tables = made(name)
    vehicles, ways = tables.vehicles, tables.ways
    assert np.allclose(vehicles.depart_s, demand.departures_s() - 20)
    for n, trip in enumerate(demand.trips):
        route = demand.routes[trip.route]
        rows = slice(vehicles.way[n], vehicles.way[n] + vehicles.edges[n])
        assert tuple(ways.edge[rows]) == route
        assert ways.last[rows].tolist() == [False] * (len(route) - 1) + [True]
        assert vehicles.way[n] in ways.begin
        kind = demand.types[vehicles.type[n]]
        assert CLASSES[tables.types.vehicle_class[vehicles.type[n]]] == kind.vehicle_class
        assert tables.types.length[vehicles.type[n]] == kind.length
    assert {edge for route in demand.routes for edge in route} <= set(range(len(network.edges)))


def test_rules_of_departure_have_their_codes() -> None:
    network, demand, _ = made("plain")
    trips = [dataclasses.replace(demand.trips[0], depart_lane=r) for r in (*LANE_RULES, "1")]
    trips += [dataclasses.replace(demand.trips[0], depart_speed=r) for r in (*SPEED_RULES, "7.5")]
    vehicles = compile_tables(network, dataclasses.replace(demand, trips=tuple(trips)), 0).vehicles
    count = len(LANE_RULES)
    assert vehicles.lane[: count + 1].tolist() == [*LANE_RULES.values(), 1]
    assert vehicles.speed[count + 1 :].tolist() == [*SPEED_RULES.values(), 7.5]


@pytest.mark.parametrize(("field", "text"), [("depart_lane", "fast"), ("depart_speed", "-3"), ("depart_speed", "nan")])
def test_unknown_rules_of_departure_are_named(field: str, text: str) -> None:
    network, demand, _ = made("plain")
    trip = dataclasses.replace(demand.trips[0], id="odd", **{field: text})
    with pytest.raises(IntersectionsError, match=f"vehicle 'odd': depart.* '{text}'; write"):
        compile_tables(network, dataclasses.replace(demand, trips=(trip,)), 0)


def test_nothing_can_be_written_over() -> None:
    _, _, tables = made("lights")
    for part in vars(tables).values():
        for column in vars(part).values():
            assert not column.flags.writeable


def test_a_network_without_internal_lanes_has_only_entry_links() -> None:
    _, _, tables = made("plain")
    links = tables.links
    assert (links.kind == LinkKind.ENTRY).all()
    assert np.array_equal(links.next, links.target)
    assert (links.via_length == 0).all()
    assert len(links.response) > 50


def test_a_connection_off_a_lane_that_none_leads_onto_is_an_error(tmp_path: Path) -> None:
    text = gzip.decompress((FOLDER / "walks.net.xml.gz").read_bytes()).decode()
    assert ' via=":A0_16_0"' in text
    (tmp_path / "hole.net.xml").write_text(text.replace(' via=":A0_16_0"', ""))
    with pytest.raises(IntersectionsError, match="no connection leads onto"):
        Movements(read_network(tmp_path / "hole.net.xml"))


@pytest.mark.skipif("FEDSCHED_MAPS" not in os.environ, reason="FEDSCHED_MAPS names no folder of maps")
def test_the_maps_of_resco_are_imported_within_five_seconds_each() -> None:
    for path in sorted(Path(os.environ["FEDSCHED_MAPS"]).glob("*/*.sumocfg")):
        config = read_config(path)
        start = time.process_time()
        network = read_network(config.network)
        demand = read_demand((*config.additional, *config.routes), network, config.begin_s, config.end_s)
        tables = compile_tables(network, demand, config.begin_s)
        assert time.process_time() - start < 5, path.name
        assert len(tables.vehicles.way) == len(demand.trips) > 1000
