import gzip
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fedsched.envs.intersections.netfile import ALL, check_signals, read_network
from fedsched.envs.intersections.network import CLASSES, IntersectionsError, Turn

FOLDER = Path(__file__).parent / "networks"


TINY = """<net>
<edge id=":C_0" function="internal"><lane id=":C_0_0" index="0" speed="8" length="4" shape="100,0 104,0"/></edge>
<edge id=":C_1" function="internal"><lane id=":C_1_0" index="0" speed="8" length="4" shape="102,-2 102,2"/></edge>
<edge id="in" from="W" to="C"><lane id="in_0" index="0" speed="10" length="100" shape="0,0 100,0"/></edge>
<edge id="up" from="S" to="C"><lane id="up_0" index="0" speed="10" length="50" shape="102,-52 102,-2"/></edge>
<edge id="out" from="C" to="E" priority="-1"><lane id="out_0" index="0" speed="10" length="80" shape="104,0 184,0"/>
</edge>
<edge id="top" from="C" to="N"><lane id="top_0" index="0" speed="10" length="80" shape="102,2 102,82"/></edge>
<tlLogic id="C" type="static" programID="0" offset="5">
<phase duration="20" state="Gr"/>
<phase duration="3" state="yr"/>
<phase duration="15" state="rG" minDur="5" maxDur="40"/>
</tlLogic>
<junction id="W" type="dead_end" x="0" y="0" incLanes="" intLanes=""/>
<junction id="S" type="dead_end" x="102" y="-52" incLanes="" intLanes=""/>
<junction id="E" type="dead_end" x="184" y="0" incLanes="out_0" intLanes=""/>
<junction id="N" type="dead_end" x="102" y="82" incLanes="top_0" intLanes=""/>
<junction id="C" type="traffic_light" x="102" y="0" incLanes="in_0 up_0" intLanes=":C_0_0 :C_1_0">
<request index="0" response="00" foes="10" cont="0"/>
<request index="1" response="01" foes="01" cont="0"/>
</junction>
<connection from="in" to="out" fromLane="0" toLane="0" via=":C_0_0" tl="C" linkIndex="0" dir="s" state="O"/>
<connection from="up" to="top" fromLane="0" toLane="0" via=":C_1_0" tl="C" linkIndex="1" dir="s" state="o"/>
<connection from=":C_0" to="out" fromLane="0" toLane="0" dir="s" state="M"/>
<connection from=":C_1" to="top" fromLane="0" toLane="0" dir="s" state="M"/>
</net>
"""


def write(folder: Path, text: str, name: str = "tiny.net.xml") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def changed(old: str, new: str, count: int = 1) -> str:
    assert old in TINY
    return TINY.replace(old, new, count)


def line(text: str, part: str) -> int:
    return next(n for n, row in enumerate(text.splitlines(), 1) if part in row)


def test_a_network_says_what_its_file_says(tmp_path: Path) -> None:
    network = read_network(write(tmp_path, TINY))
    assert [edge.id for edge in network.edges] == ["in", "up", "out", "top", ":C_0", ":C_1"]
    assert [edge.internal for edge in network.edges] == [False] * 4 + [True] * 2
    assert [(lane.id, lane.length) for lane in network.lanes][:2] == [("in_0", 100), ("up_0", 50)]
    assert (network.edges[2].priority, network.edges[0].priority) == (-1, 0)
    first = network.connections[0]
    assert (first.source, first.target, first.via, first.signal, first.signal_index) == (0, 2, 4, 0, 0)
    assert (first.turn, first.state, first.keep_clear) == (Turn.STRAIGHT, "O", True)
    (signal,) = network.signals
    assert (signal.kind, signal.offset_s, signal.cycle_s, signal.connections) == ("static", 5, 38, ((0,), (1,)))
    assert [(p.minimum_s, p.maximum_s) for p in signal.phases] == [(20, 20), (3, 3), (5, 40)]
    crossing = network.junctions[4]
    assert (crossing.incoming, crossing.inside) == ((0, 1), (4, 5))
    assert [(r.response, r.foes) for r in crossing.requests] == [(set(), {1}), ({0}, {0})]
    assert network.ignored == ()


def test_packed_or_not_the_network_is_the_same(tmp_path: Path) -> None:
    plain, packed = (read_network(write(tmp_path, TINY, name)) for name in ("a.net.xml", "b.net.xml.gz"))
    assert plain.digest == packed.digest
    assert plain.signals == packed.signals
    assert plain.connections == packed.connections


@pytest.mark.parametrize(
    ("attributes", "classes"),
    [
        ("", set(CLASSES)),
        ('allow="bus taxi"', {"bus", "taxi"}),
        ('allow="all"', set(CLASSES)),
        ('disallow="all"', set()),
        ('disallow="pedestrian tram rail_fast ship"', set(CLASSES) - {"pedestrian", "tram"}),
        ('allow="rail ship"', {"other"}),
    ],
)
def test_permissions(tmp_path: Path, attributes: str, classes: set[str]) -> None:
    text = changed('<lane id="in_0" index="0"', f'<lane id="in_0" index="0" {attributes}')
    lane = read_network(write(tmp_path, text)).lanes[0]
    assert {name for name in CLASSES if lane.allows(name)} == classes
    assert ALL.bit_count() == len(CLASSES)


def test_of_several_programs_the_last_one_counts(tmp_path: Path) -> None:
    second = '<tlLogic id="C" type="actuated" programID="night" offset="0"><phase duration="9" state="rr"/></tlLogic>'
    network = read_network(write(tmp_path, changed("</tlLogic>", f"</tlLogic>{second}")))
    (signal,) = network.signals
    assert (signal.program, signal.kind, len(signal.phases)) == ("night", "actuated", 1)
    assert dict(network.ignored)["further program"] == 1


def test_what_is_not_supported_is_counted() -> None:
    network = read_network(FOLDER / "walks.net.xml.gz")
    ignored = dict(network.ignored)
    assert (ignored["crossing"], ignored["walkingarea"]) == (16, 16)
    assert ignored["connection of pedestrians"] == 64
    assert not any("_w" in lane.id or "_c" in lane.id for lane in network.lanes)


def test_two_protected_links_may_merge_but_not_cross(tmp_path: Path) -> None:
    clash = changed('state="Gr"', 'state="GG"')
    with pytest.raises(IntersectionsError, match=r"signal 'C': phase 0 .* links 0 and 1, which cross") as caught:
        read_network(write(tmp_path, clash))
    assert caught.value.line == line(clash, 'state="GG"')
    read_network(write(tmp_path, changed('state="Gr"', 'state="Gg"')))
    merging = clash.replace('from="up" to="top"', 'from="up" to="out"').replace(
        'from=":C_1" to="top"', 'from=":C_1" to="out"'
    )
    assert merging != clash
    read_network(write(tmp_path, merging))


def test_a_signal_is_only_asked_for_where_one_is_needed(tmp_path: Path) -> None:
    roads = read_network(FOLDER / "roads.net.xml.gz")
    with pytest.raises(IntersectionsError, match="no signal"):
        check_signals(roads, "roads.net.xml")
    check_signals(read_network(write(tmp_path, TINY)))


BAD = {
    "zero length": ('length="100"', 'length="0"', "in_0", "length 0"),
    "negative length": ('length="50"', 'length="-1"', "up_0", "length -1"),
    "no number": ('length="100"', 'length="long"', "in_0", "not a number"),
    "nan": ('length="100"', 'length="nan"', "in_0", "not a number"),
    "negative speed": ('index="0" speed="10" length="100"', 'index="0" speed="-3" length="100"', "in_0", "speed -3"),
    "no shape": ('shape="0,0 100,0"', 'shape="0,0"', "in_0", "two points"),
    "bad shape": ('shape="0,0 100,0"', 'shape="0,0 a,b"', "in_0", "list of points"),
    "lane number": ('<lane id="in_0" index="0"', '<lane id="in_0" index="1"', "in_0", "number the lanes"),
    "lane twice": ('id="up_0"', 'id="in_0"', "up", "twice"),
    "edge twice": ('<edge id="up"', '<edge id="in"', "up_0", "twice"),
    "unknown junction": ('from="W"', 'from="X"', 'id="in"', "no such junction"),
    "unknown edge": ('<connection from="in"', '<connection from="inn"', "inn", "no such edge"),
    "unknown lane": ('fromLane="0"', 'fromLane="3"', 'fromLane="3"', "no such lane"),
    "unknown via": ('via=":C_0_0"', 'via=":C_9_0"', ":C_9_0", "no such lane"),
    "unknown signal": ('tl="C"', 'tl="D"', 'tl="D"', "no such signal"),
    "unknown incoming": ('incLanes="in_0 up_0"', 'incLanes="in_0 x_0"', "x_0", "no lane 'x_0'"),
    "unknown turn": ('dir="s"', 'dir="q"', 'dir="q"', "not known"),
    "missing": ('duration="20" ', "", 'state="Gr"', "lacks the attribute 'duration'"),
    "short state": ('state="yr"', 'state="y"', 'state="y"', "1 states for 2 links"),
    "long state": ('state="yr"', 'state="yrr"', 'state="yrr"', "3 states for 2 links"),
    "strange state": ('state="yr"', 'state="yx"', 'state="yx"', "unknown state 'x'"),
    "no time": ('duration="3"', 'duration="0"', 'duration="0"', "above 0"),
    "strange bits": ('response="01"', 'response="02"', 'response="02"', "not made of 0 and 1"),
    "request number": ('<request index="1"', '<request index="2"', 'index="2"', "not numbered"),
    "internal edge": ('<edge id=":C_1"', '<edge id=":D_1"', ":D_1", "no junction 'D'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    old, new, part, message = BAD[case]
    text = changed(old, new)
    with pytest.raises(IntersectionsError, match=message) as caught:
        read_network(write(tmp_path, text))
    assert caught.value.line == line(text, part)
    assert str(caught.value).startswith(f"{tmp_path / 'tiny.net.xml'}:{caught.value.line}: ")


def test_all_states_of_a_signal_may_be_longer_than_its_links(tmp_path: Path) -> None:
    text = (
        TINY.replace('state="Gr"', 'state="Grr"')
        .replace('state="yr"', 'state="yrr"')
        .replace('state="rG"', 'state="rGr"')
    )
    (signal,) = read_network(write(tmp_path, text)).signals
    assert signal.connections == ((0,), (1,), ())  # SUMO warns of an unused state and goes on


@pytest.mark.parametrize("size", [40, 400, 1500])
def test_a_file_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(IntersectionsError, match="no complete XML") as caught:
        read_network(write(tmp_path, TINY[:size]))
    assert caught.value.line == TINY[:size].count("\n") + 1


def test_a_packed_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.net.xml.gz"
    path.write_bytes(gzip.compress(TINY.encode())[:-30])
    with pytest.raises(IntersectionsError, match="cannot be read"):
        read_network(path)


def test_a_missing_file_and_a_wrong_root(tmp_path: Path) -> None:
    with pytest.raises(IntersectionsError, match="no such file"):
        read_network(tmp_path / "none.net.xml")
    with pytest.raises(IntersectionsError, match="outermost element is <routes>"):
        read_network(write(tmp_path, "<routes/>"))


def test_entities_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>\n<net>&b;</net>'
    with pytest.raises(IntersectionsError, match="document types") as caught:
        read_network(write(tmp_path, bomb))
    assert caught.value.line == 1


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.net.xml"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)  # a hole: takes no room
    with pytest.raises(IntersectionsError, match="larger than 200 MB"):
        read_network(path)


def test_a_gzip_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.net.xml.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"<net>")
        for _ in range(60):
            file.write(b'<x a="%s"/>' % (b"a" * 1_000_000))
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(IntersectionsError, match="larger than 5 MB"):
        read_network(path, limit_bytes=5_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


def test_one_element_may_not_hold_everything(tmp_path: Path) -> None:
    text = '<net><edge id="x" from="a" to="b">' + "<p/>" * 200_002 + "</edge></net>"
    with pytest.raises(IntersectionsError, match="holds more than 200000 elements"):
        read_network(write(tmp_path, text))


def test_shapes_are_read_only(tmp_path: Path) -> None:
    shape = read_network(write(tmp_path, TINY)).lanes[0].shape
    assert np.array_equal(shape, [[0, 0], [100, 0]])
    with pytest.raises(ValueError, match="read-only"):
        shape[0, 0] = 1


@pytest.mark.skipif("FEDSCHED_MAPS" not in os.environ, reason="FEDSCHED_MAPS names no folder of maps")
def test_the_maps_of_resco_can_be_read() -> None:
    paths = sorted(Path(os.environ["FEDSCHED_MAPS"]).glob("*/*.net.xml*"))
    signals = {path.parent.name: len(read_network(path).signals) for path in paths}
    known = {"cologne1": 1, "cologne3": 3, "cologne8": 8, "grid4x4": 16, "ingolstadt7": 7, "ingolstadt21": 21}
    assert {name: signals[name] for name in known if name in signals} == {n: known[n] for n in known if n in signals}
    assert signals
