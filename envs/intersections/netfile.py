"""Networks in SUMO's `.net.xml`, read and checked."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedsched.envs.intersections.links import Movements
from fedsched.envs.intersections.network import (
    CLASSES,
    Connection,
    Edge,
    FloatArray,
    IntersectionsError,
    Junction,
    Lane,
    Network,
    Request,
    Signal,
    Turn,
)
from fedsched.envs.intersections.programfile import read_kind, read_phase
from fedsched.envs.intersections.xmlfile import LIMIT_BYTES, Element, XmlFile

ALL = (1 << len(CLASSES)) - 1
"""Permission of every class."""

LANE_WIDTH = 3.2
"""m, SUMO's default."""

_OTHER = CLASSES.index("other")
_TURNS = {
    "s": Turn.STRAIGHT,
    "r": Turn.RIGHT,
    "R": Turn.PARTIAL_RIGHT,
    "l": Turn.LEFT,
    "L": Turn.PARTIAL_LEFT,
    "t": Turn.TURN,
    "invalid": Turn.STRAIGHT,
}


@dataclass
class _Parts:
    """What a file holds, element by element, before references are resolved."""

    edges: list[Element] = field(default_factory=list)
    internal: list[Element] = field(default_factory=list)
    connections: list[Element] = field(default_factory=list)
    junctions: list[Element] = field(default_factory=list)
    waiting: list[Element] = field(default_factory=list)
    logics: list[Element] = field(default_factory=list)
    roundabouts: list[Element] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    ignored: Counter[str] = field(default_factory=Counter)

    def programs(self) -> dict[str, Element]:
        """The program of each signal that is in force: the last one of the file."""
        return {element.text("id"): element for element in self.logics}


def read_network(path: str | Path, limit_bytes: int = LIMIT_BYTES, text: str | None = None) -> Network:
    """Reads a network from `.net.xml` or `.net.xml.gz`.

    Args:
        path: The file.
        limit_bytes: Greatest size of its uncompressed content.
        text: The content, where it is at hand and no file is to be opened.

    Raises:
        IntersectionsError: With file, line, element and remedy.
    """
    file = XmlFile(path, limit_bytes, text)
    parts = _sort(file)
    network = _Builder(parts).build(file.digest)
    _check_protected(network, parts)
    return network


def check_signals(network: Network, path: str | Path | None = None) -> None:
    """Raises IntersectionsError where a network has no signal to control."""
    if not network.signals:
        raise IntersectionsError("the network has no signal; give one with a <tlLogic>", path)


def _sort(file: XmlFile) -> _Parts:
    parts = _Parts()
    for element in file.elements(("net",)):
        if element.name == "edge":
            function = element.attributes.get("function", "normal")
            if function == "internal":
                parts.internal.append(element)
            elif function in ("normal", "connector"):
                parts.edges.append(element)
            else:
                parts.left_out.add(element.text("id"))
                parts.ignored[function] += 1
        elif element.name == "connection":
            parts.connections.append(element)
        elif element.name == "junction":
            (parts.waiting if element.attributes.get("type") == "internal" else parts.junctions).append(element)
        elif element.name == "tlLogic":
            parts.logics.append(element)
        else:
            parts.ignored[element.name] += 1
            if element.name == "roundabout":
                parts.roundabouts.append(element)
    return parts


def _allowed(element: Element) -> int:
    """Permission bits from `allow` or `disallow`; every class where neither is given."""
    if "allow" in element.attributes:
        return _bits(element.words("allow"))
    listed = element.words("disallow")
    return ALL & ~_bits([name for name in listed if name in (*CLASSES, "all")])


def _bits(names: list[str]) -> int:
    if "all" in names:
        return ALL
    found = 0
    for name in names:
        found |= 1 << (CLASSES.index(name) if name in CLASSES else _OTHER)
    return found


def _shape(element: Element) -> FloatArray:
    text = element.text("shape")
    try:
        points = [[float(number) for number in point.split(",")[:2]] for point in text.split()]
        array = np.array(points, dtype=np.float64).reshape(-1, 2)
    except ValueError:
        element.fail("the shape is not a list of points x,y; correct it")
    if len(array) < 2 or not np.isfinite(array).all():
        element.fail("the shape needs two points or more, of finite numbers; correct it")
    array.flags.writeable = False
    return array


class _Builder:
    """Resolves the references of one file."""

    def __init__(self, parts: _Parts) -> None:
        self.parts = parts
        self.edges = parts.edges + parts.internal
        self.edge_of = self._index(self.edges)
        self.junction_of = self._index(parts.junctions + parts.waiting)
        self.lane_of: dict[str, int] = {}
        self.at: dict[tuple[int, int], int] = {}
        self.lanes: list[Lane] = []
        self.numbers = [self._lanes(n, element) for n, element in enumerate(self.edges)]
        self.signal_of: dict[str, int] = {}
        for element in parts.logics:
            self.signal_of.setdefault(element.text("id"), len(self.signal_of))
        self.links: list[dict[int, list[int]]] = [{} for _ in self.signal_of]

    def build(self, digest: str) -> Network:
        edges = tuple(self._edge(n, element) for n, element in enumerate(self.edges))
        connections = self._connections()
        junctions = tuple(self._junction(element) for element in self.parts.junctions + self.parts.waiting)
        signals = self._signals()
        ignored = tuple(sorted((+self.parts.ignored).items()))
        around = tuple(
            tuple(self.edge_of[name] for name in e.words("edges") if name in self.edge_of)
            for e in self.parts.roundabouts
        )
        return Network(tuple(self.lanes), edges, connections, junctions, signals, digest, ignored, around)

    def _index(self, elements: list[Element]) -> dict[str, int]:
        found: dict[str, int] = {}
        for n, element in enumerate(elements):
            name = element.text("id")
            if name in found:
                element.fail(f"<{element.name}> {name!r} is there twice; remove one")
            found[name] = n
        return found

    def _lanes(self, edge: int, element: Element) -> tuple[int, ...]:
        lanes = sorted((c for c in element.children if c.name == "lane"), key=lambda c: c.whole("index"))
        for child in element.children:
            if child.name != "lane":
                self.parts.ignored[child.name] += 1
        if not lanes:
            element.fail(f"edge {element.text('id')!r} has no lane; add one")
        first = len(self.lanes)
        for number, lane in enumerate(lanes):
            name = lane.text("id")
            if lane.whole("index") != number:
                lane.fail(f"lane {name!r} has index {lane.text('index')}; number the lanes of an edge 0, 1, 2, ...")
            if name in self.lane_of:
                lane.fail(f"lane {name!r} is there twice; remove one")
            length, speed = lane.number("length"), lane.number("speed")
            if length <= 0:
                lane.fail(f"lane {name!r} has length {length:g}; give it a length above 0")
            if speed < 0:
                lane.fail(f"lane {name!r} has speed {speed:g}; give it a speed from 0")
            self.lane_of[name] = self.at[edge, number] = len(self.lanes)
            width = lane.number("width", LANE_WIDTH)
            self.lanes.append(Lane(name, edge, number, length, speed, width, _allowed(lane), _shape(lane)))
        return tuple(range(first, len(self.lanes)))

    def _edge(self, n: int, element: Element) -> Edge:
        name = element.text("id")
        internal = n >= len(self.parts.edges)
        if internal:
            inside = name[1:].rsplit("_", 1)[0]
            origin = target = self.junction_of.get(inside, -1)
            if origin < 0:
                element.fail(f"internal edge {name!r} belongs to no junction {inside!r}; add it")
        else:
            origin, target = (self._reference(element, end, self.junction_of, "junction") for end in ("from", "to"))
        return Edge(name, internal, origin, target, self.numbers[n], int(element.number("priority", 0.0)))

    def _reference(self, element: Element, name: str, known: dict[str, int], what: str) -> int:
        value = element.text(name)
        if value not in known:
            element.fail(f"<{element.name}> {name}={value!r}: no such {what}; add it or correct the name")
        return known[value]

    def _connections(self) -> tuple[Connection, ...]:
        found: list[Connection] = []
        for element in self.parts.connections:
            if element.text("from") in self.parts.left_out or element.text("to") in self.parts.left_out:
                self.parts.ignored["connection of pedestrians"] += 1
                if "tl" in element.attributes:
                    signal = self._reference(element, "tl", self.signal_of, "signal")
                    self.links[signal].setdefault(element.whole("linkIndex"), [])
                continue
            found.append(self._connection(element, len(found)))
        return tuple(found)

    def _connection(self, element: Element, n: int) -> Connection:
        source = self._end(element, "from", "fromLane")
        target = self._end(element, "to", "toLane")
        via = self._reference(element, "via", self.lane_of, "lane") if "via" in element.attributes else -1
        signal, index = -1, -1
        if "tl" in element.attributes and not element.flag("uncontrolled", False):
            signal = self._reference(element, "tl", self.signal_of, "signal")
            index = element.whole("linkIndex")
            self.links[signal].setdefault(index, []).append(n)
        turn, state = element.text("dir", "s"), element.text("state", "M")
        if turn not in _TURNS:
            element.fail(f"dir={turn!r} of <connection> is not known; write one of {' '.join(_TURNS)}")
        if len(state) != 1:
            element.fail(f"state={state!r} of <connection> is not one character; correct it")
        keep, visibility = element.flag("keepClear", True), element.number("visibility", 4.5)
        return Connection(source, target, via, signal, index, _TURNS[turn], state, keep, visibility)

    def _end(self, element: Element, edge: str, lane: str) -> int:
        n = self._reference(element, edge, self.edge_of, "edge")
        number = element.whole(lane)
        if (n, number) not in self.at:
            element.fail(f"<connection> {lane}={number}: edge {element.text(edge)!r} has no such lane; correct it")
        return self.at[n, number]

    def _junction(self, element: Element) -> Junction:
        rows = sorted((c for c in element.children if c.name == "request"), key=lambda c: c.whole("index"))
        for number, row in enumerate(rows):
            if row.whole("index") != number:
                row.fail(f"the requests of junction {element.text('id')!r} are not numbered 0, 1, 2, ...; correct them")
        requests = tuple(
            Request(_set_bits(row, "response"), _set_bits(row, "foes"), row.flag("cont", False)) for row in rows
        )
        return Junction(
            element.text("id"), element.text("type", "unknown"), element.number("x"), element.number("y"),
            self._lane_list(element, "incLanes"), self._lane_list(element, "intLanes"), requests,
        )  # fmt: skip

    def _lane_list(self, element: Element, name: str) -> tuple[int, ...]:
        found = []
        for lane in element.words(name):
            if lane in self.lane_of:
                found.append(self.lane_of[lane])
            elif lane.rsplit("_", 1)[0] not in self.parts.left_out:
                element.fail(f"junction {element.text('id')!r} {name}: no lane {lane!r}; add it or correct the name")
        return tuple(found)

    def _signals(self) -> tuple[Signal, ...]:
        chosen = self.parts.programs()
        self.parts.ignored.update({"further program": len(self.parts.logics) - len(chosen)})
        return tuple(self._signal(element, self.links[self.signal_of[name]]) for name, element in chosen.items())

    def _signal(self, element: Element, links: dict[int, list[int]]) -> Signal:
        name = element.text("id")
        kind, rule = read_kind(element, name)
        phases = [read_phase(child, name, kind) for child in element.children if child.name == "phase"]
        if not phases:
            element.fail(f"signal {name!r} has no phase; add one")
        count = max(links, default=-1) + 1
        size = len(phases[0].state)
        for child, phase in zip((c for c in element.children if c.name == "phase"), phases, strict=True):
            if len(phase.state) != size or len(phase.state) < count:
                child.fail(
                    f"signal {name!r}: a phase of {len(phase.state)} states for {max(count, size)} links; "
                    "write one character per link"
                )
        connections = tuple(tuple(links.get(n, ())) for n in range(size))
        program = element.text("programID", "0")
        return Signal(name, kind, program, element.number("offset", 0.0), tuple(phases), connections, rule)


def _check_protected(network: Network, parts: _Parts) -> None:
    """Raises where a phase shows `G` to two links that cross; SUMO sorts out two that merge by their right of way."""
    moves = Movements(network)
    link_of = {connection: link for link, connection in enumerate(moves.connection)}
    for signal, program in zip(network.signals, parts.programs().values(), strict=True):
        lines = [child for child in program.children if child.name == "phase"]
        links = [(place, link_of[c]) for place, group in enumerate(signal.connections) for c in group]
        crossing = [
            (one, two)
            for n, (one, a) in enumerate(links)
            for two, b in links[:n]
            if moves.junction[a] == moves.junction[b]
            and moves.target[a] != moves.target[b]
            and moves.foes(network, a, b)
        ]
        for phase, element in zip(signal.phases, lines, strict=True):
            for one, two in crossing:
                if phase.state[one] == phase.state[two] == "G":
                    element.fail(
                        f"signal {signal.id!r}: phase {lines.index(element)} gives a protected green to links {two} "
                        f"and {one}, which cross; make one of them 'g' or 'r'"
                    )


def _set_bits(element: Element, name: str) -> frozenset[int]:
    """Places of the ones in a bit string, which is written from the last link to the first."""
    text = element.text(name)
    if text.strip("01"):
        element.fail(f"{name}={text!r} of <request> is not made of 0 and 1; correct it")
    return frozenset(n for n, bit in enumerate(reversed(text)) if bit == "1")
