"""Generated cities: every lane leads on, rights of way hold, SUMO's tools make the same of them."""

import importlib.util
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsched.envs.intersections.generate import CITIES, Arterial, City, Grid, Irregular, Ring
from fedsched.envs.intersections.generate.pieces import lay_out
from fedsched.envs.intersections.generate.streets import Rule, Streets
from fedsched.envs.intersections.links import Movements
from fedsched.envs.intersections.netfile import check_signals, read_network
from fedsched.envs.intersections.network import IntersectionsError, Network
from fedsched.envs.intersections.routing import Router
from fedsched.envs.intersections.signals import green_phases

SHIPPED = Path(__file__).parents[3] / "envs" / "intersections" / "data" / "grid3x3.net.xml.gz"
CYCLE = {"cycle_s": st.integers(90, 140), "lanes": st.integers(1, 3)}
SHAPES: Mapping[str, st.SearchStrategy[City]] = {
    "grid": st.builds(
        Grid, rows=st.integers(1, 3), columns=st.integers(1, 3), spacing_m=st.floats(150, 400),
        pocket_m=st.sampled_from([0.0, 30.0, 50.0]), **CYCLE,
    ),
    "arterial": st.builds(
        Arterial, crossings=st.integers(1, 4), side_lanes=st.integers(1, 3), spacing_m=st.floats(250, 500),
        unevenness=st.floats(0, 0.3), pocket_m=st.sampled_from([0.0, 45.0]), **CYCLE,
    ),
    "ring": st.builds(
        Ring, arms=st.integers(3, 8), arm_lanes=st.integers(1, 2), radius_m=st.floats(250, 500),
        side_streets=st.booleans(), **CYCLE,
    ),
    "irregular": st.builds(
        Irregular, junctions=st.integers(2, 14), spacing_m=st.floats(220, 400), signal_share=st.floats(0, 1), **CYCLE,
    ),
}  # fmt: skip
SMALL = [
    Grid(2, 2), Grid(1, 2, 1, pocket_m=0), Grid(1, 1, 3, pocket_m=0), Arterial(2), Arterial(2, lanes=1, side_lanes=2),
]  # fmt: skip


def sumo_tool(name: str) -> str:
    """One of SUMO's programs; skips the test where it is missing."""
    package = importlib.util.find_spec("sumo")
    folder = None if package is None or package.origin is None else str(Path(package.origin).parent / "bin")
    found = shutil.which(name) or shutil.which(name, path=folder)
    if found is None:
        pytest.skip("the extra `sumo` is not installed")
    return found


@pytest.mark.parametrize("shape", CITIES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_city_holds_together(shape: str, data: st.DataObject) -> None:
    network = data.draw(SHAPES[shape]).network(data.draw(st.integers(0, 5)))  # reading checks protected greens
    check_signals(network)
    assert not network.ignored or dict(network.ignored).keys() == {"location"}
    assert_lanes_lead_on(network)
    assert_signals_serve_all(network)
    assert_foes_yield_in_order(network)


def assert_lanes_lead_on(network: Network) -> None:
    """Every lane has a link unless it leaves the city, and from every way in one can get to every other way out."""
    ends = {n for n, junction in enumerate(network.junctions) if junction.kind == "dead_end"}
    linked = {connection.source for connection in network.connections}
    assert all(n in linked or network.edges[lane.edge].target in ends for n, lane in enumerate(network.lanes))
    edges = [(n, edge) for n, edge in enumerate(network.edges) if not edge.internal]
    entries = [n for n, edge in edges if edge.origin in ends]
    exits = {edge.target: n for n, edge in edges if edge.target in ends}
    router = Router(network)
    for entry in entries[:4]:
        for end, leaving in exits.items():
            if end != network.edges[entry].origin:
                assert router.way(entry, leaving, "passenger"), (network.edges[entry].id, network.edges[leaving].id)


def assert_signals_serve_all(network: Network) -> None:
    """Every link is green in some phase, greens last 5 s, and a protected one yields to nobody who is green."""
    moves = Movements(network)
    link_of = {connection: link for link, connection in enumerate(moves.connection)}
    for signal in network.signals:
        green = [signal.phases[n] for n in green_phases(signal)]
        links = [link_of[group[0]] for group in signal.connections]
        rows = network.junctions[moves.junction[links[0]]].requests
        assert signal.cycle_s == sum(phase.duration_s for phase in signal.phases)
        for place in range(len(links)):
            assert any(phase.state[place] in "gG" for phase in green), (signal.id, place)
        for phase in green:
            assert phase.duration_s >= 5
            lit = {moves.request[links[place]] for place, light in enumerate(phase.state) if light in "gG"}
            protected = {moves.request[links[place]] for place, light in enumerate(phase.state) if light == "G"}
            assert all(not rows[n].response & lit for n in protected)


def assert_foes_yield_in_order(network: Network) -> None:
    """Foes are foes of each other, one of two yields, and nobody waits for somebody who waits for him in the end."""
    moves = Movements(network)
    for junction, links in zip(network.junctions, moves.order, strict=True):
        rows = junction.requests
        for n, row in enumerate(rows):
            assert row.response <= row.foes
            assert all(n in rows[foe].foes and (foe in row.response or n in rows[foe].response) for foe in row.foes)
        together = [set(range(len(rows)))] if junction.kind == "priority" else []
        signal = network.connections[moves.connection[links[0]]].signal if links else -1
        phases = network.signals[signal].phases if signal >= 0 else ()
        together += [{n for n, light in enumerate(phase.state) if light in "gG"} for phase in phases]
        for going in together:
            left = set(going)
            while free := {n for n in left if not rows[n].response & left}:
                left -= free
            assert not left, (junction.id, sorted(left))


def test_a_grid_is_what_netgenerate_makes() -> None:
    """Requests, programs and waiting areas of the shipped grid, which SUMO's netgenerate made."""
    own, theirs = Grid().network(), read_network(SHIPPED)
    middle = {"r1c1": "B1", "r0c0": "A0", "r2c1": "B2"}
    for one, other in middle.items():
        ours, known = (
            next(j for j in network.junctions if j.id == name) for network, name in ((own, one), (theirs, other))
        )
        assert ours.requests == known.requests
        program, shipped = (
            next(s for s in network.signals if s.id == name) for network, name in ((own, one), (theirs, other))
        )
        assert program.phases == shipped.phases
    assert len(own.lanes) == len(theirs.lanes)
    assert len(own.connections) == len(theirs.connections)


def test_a_seed_is_one_irregular_city() -> None:
    assert Irregular().text(3) == Irregular().text(3) != Irregular().text(4)
    degree = [len(roads) for roads in Irregular().streets(3).around if len(roads) > 1]
    assert set(degree) <= {3, 4, 5}
    assert len(degree) == Irregular().junctions


@pytest.mark.parametrize(
    ("shape", "values", "named"),
    [
        (Grid, {"rows": 0}, "Grid: rows=0; write 1 to 40"),
        (Grid, {"lanes": 2.5}, "Grid: lanes=2.5; write a whole number"),
        (Arterial, {"speed": "fast"}, "Arterial: speed='fast'; write a number"),
        (Ring, {"side_streets": 1}, "Ring: side_streets=1; write true or false"),
        (Irregular, {"signal_share": 1.5}, "Irregular: signal_share=1.5; write 0 to 1"),
    ],
)
def test_parameters_are_named(shape: type[City], values: dict[str, Any], named: str) -> None:
    with pytest.raises(IntersectionsError, match=re.escape(named)):
        shape(**values)


def test_too_little_room_is_an_error() -> None:
    with pytest.raises(IntersectionsError, match=r"road 'r0c0-r0c1.* longer roads, or fewer lanes"):
        Grid(2, 2, 4, spacing_m=80.0).network()
    with pytest.raises(IntersectionsError, match="cycle_s=30 is too short for 4 phases"):
        Grid(cycle_s=30).network()


def plain_files(streets: Streets, network: Network, folder: Path) -> list[str]:
    """The same streets as netconvert reads them; its arguments."""
    layout = lay_out(streets)
    kinds = {Rule.SIGNAL: "traffic_light", Rule.PRIORITY: "priority", Rule.END: "dead_end"}
    nodes, edges, links, lights = (ET.Element(name) for name in ("nodes", "edges", "connections", "tlLogics"))
    for node in layout.nodes:
        ET.SubElement(nodes, "node", id=node.id, x=f"{node.x:.2f}", y=f"{node.y:.2f}", type=kinds[node.rule])
    for piece in layout.pieces:
        left = -1j * piece.heading * piece.shift
        shape = " ".join(f"{p.real:.2f},{p.imag:.2f}" for p in (piece.start + left, piece.end + left))
        ends = {"from": layout.nodes[piece.origin].id, "to": layout.nodes[piece.target].id}
        ET.SubElement(
            edges, "edge", ends, id=piece.id, numLanes=str(piece.lanes), speed=f"{piece.speed:.2f}",
            priority=str(piece.priority), spreadType="right", shape=shape,
        )  # fmt: skip
    lanes = network.lanes
    for signal in network.signals:
        logic = ET.SubElement(lights, "tlLogic", id=signal.id, type="static", programID="0", offset="0")
        for phase in signal.phases:
            ET.SubElement(logic, "phase", duration=f"{phase.duration_s:g}", state=phase.state)
    for link in network.connections:
        source, target = lanes[link.source], lanes[link.target]
        if network.edges[source.edge].internal:
            continue
        ends = {"from": network.edges[source.edge].id, "to": network.edges[target.edge].id}
        ends |= {"fromLane": str(source.index), "toLane": str(target.index)}
        ET.SubElement(links, "connection", ends)
        if link.signal >= 0:
            own = {"tl": network.signals[link.signal].id, "linkIndex": str(link.signal_index)}
            ET.SubElement(lights, "connection", ends | own)
    arguments = []
    for option, root in (("-n", nodes), ("-e", edges), ("-x", links), ("-i", lights)):
        path = folder / f"{root.tag}.xml"
        ET.ElementTree(root).write(path)
        arguments += [option, str(path)]
    return arguments


def rights(network: Network) -> dict[tuple[str, ...], tuple[set[Any], set[Any], bool]]:
    """Of every link by its lanes: foes, those it yields to, whether it waits inside."""
    moves, found = Movements(network), {}
    for junction, links in zip(network.junctions, moves.order, strict=True):
        names = [(network.lanes[moves.source[k]].id, network.lanes[moves.target[k]].id) for k in links]
        for name, row in zip(names, junction.requests, strict=False):
            foes, response = ({names[n] for n in numbers} for numbers in (row.foes, row.response))
            found[name] = foes, response, row.cont
    return found


def compared(city: City, seed: int, folder: Path) -> tuple[int, int, int]:
    """Number of links, and of those whose foes and whose whole rights of way are netconvert's."""
    network = city.network(seed)
    arguments = plain_files(city.streets(seed), network, folder)
    command = [sumo_tool("netconvert"), *arguments, "--no-turnarounds", "true", "-o", str(folder / "net.xml")]
    subprocess.run(command, check=True, capture_output=True)
    own, theirs = rights(network), rights(read_network(folder / "net.xml"))
    assert own.keys() == theirs.keys()
    foes = sum(own[name][0] == theirs[name][0] for name in own)
    return len(own), foes, sum(own[name] == theirs[name] for name in own)


@pytest.mark.parametrize("city", SMALL, ids=repr)
def test_rights_of_way_are_those_of_netconvert(city: City, tmp_path: Path) -> None:
    links, foes, alike = compared(city, 1, tmp_path)
    assert links == foes == alike


@pytest.mark.parametrize(("city", "least"), [(Ring(), 0.95), (Irregular(), 0.75)], ids=repr)
def test_most_rights_of_way_at_odd_angles_are_those_of_netconvert(city: City, least: float, tmp_path: Path) -> None:
    """They differ where left turns pass each other closely, which main road bends, and where sharp turns do cross."""
    links, foes, alike = compared(city, 1, tmp_path)
    assert foes >= alike >= least * links
