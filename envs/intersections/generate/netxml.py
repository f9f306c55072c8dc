"""Streets as SUMO's `.net.xml`."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from fedsched.envs.intersections.generate.links import Link, length_m, node_links
from fedsched.envs.intersections.generate.pieces import Layout, Piece, lay_out
from fedsched.envs.intersections.generate.rightofway import Junction, along, junction
from fedsched.envs.intersections.generate.streets import Node, Rule, Streets
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import Network

_KINDS = {Rule.SIGNAL: "traffic_light", Rule.PRIORITY: "priority", Rule.END: "dead_end"}


@dataclass(frozen=True)
class _Inner:
    """The part of a link behind its waiting area: numbers of link and internal edge, point of the waiting line."""

    link: int
    edge: int
    line: complex


class _Node:
    """One node as text."""

    def __init__(self, layout: Layout, number: int) -> None:
        self.layout, self.number = layout, number
        self.node: Node = layout.nodes[number]
        self.arms = layout.arms[number]
        self.made: Junction = junction(layout, number, node_links(layout, number))
        links, waits_m = self.made.links, self.made.waits_m
        waiting = [n for n, metres in enumerate(waits_m) if metres]
        self.inner = [_Inner(n, len(links) + k, along(links[n].shape, waits_m[n])) for k, n in enumerate(waiting)]
        self.behind = {inner.link: inner for inner in self.inner}
        self.edge_of = self._edges()

    def _edges(self) -> list[tuple[int, int]]:
        """Of each link: the internal edge and the number of the lane on it."""
        found: list[tuple[int, int]] = []
        for n, link in enumerate(self.made.links):
            same = n and self.made.links[n - 1].arms == link.arms and self._simple(n) and self._simple(n - 1)
            found.append((found[-1][0], found[-1][1] + 1) if same and self._next_lane(n) else (n, 0))
        return found

    def _simple(self, n: int) -> bool:
        return n not in self.behind

    def _next_lane(self, n: int) -> bool:
        return self.made.links[n].source_lane == self.made.links[n - 1].source_lane + 1

    def via(self, n: int) -> str:
        """The internal lane behind the stop line."""
        edge, lane = self.edge_of[n]
        return f":{self.node.id}_{edge}_{lane}"

    def last(self, n: int) -> str:
        """The internal lane from which a link leaves the junction."""
        return f":{self.node.id}_{self.behind[n].edge}_0" if n in self.behind else self.via(n)

    def edges(self) -> list[str]:
        """Its internal edges."""
        lines = []
        for n, link in enumerate(self.made.links):
            edge, lane = self.edge_of[n]
            if lane == 0:
                lines.append(f'    <edge id={quoteattr(f":{self.node.id}_{edge}")} function="internal">')
            shape = _first(link, self.made.waits_m[n])
            lines.append(_lane(self.via(n), lane, link.speed, shape))
            if n + 1 == len(self.made.links) or self.edge_of[n + 1][0] != edge:
                lines.append("    </edge>")
        for inner in self.inner:
            link = self.made.links[inner.link]
            lines.append(f'    <edge id={quoteattr(f":{self.node.id}_{inner.edge}")} function="internal">')
            lines.append(_lane(self.last(inner.link), 0, link.speed, _second(link, self.made.waits_m[inner.link])))
            lines.append("    </edge>")
        return lines

    def junction(self) -> str:
        """Its junction with the right-of-way matrix."""
        layout, made = self.layout, self.made
        lanes = [
            f"{piece.id}_{lane}"
            for arm in self.arms
            if arm.incoming >= 0
            for piece in [layout.pieces[arm.incoming]]
            for lane in range(piece.lanes)
        ]
        corners = []
        for arm in self.arms:
            corners += [layout.pieces[arm.incoming].corner(at_end=True)] if arm.incoming >= 0 else []
            corners += [layout.pieces[arm.outgoing].corner(at_end=False)] if arm.outgoing >= 0 else []
        head = _tag(
            "junction", id=self.node.id, type=_KINDS[self.node.rule], x=f"{self.node.x:.2f}", y=f"{self.node.y:.2f}",
            incLanes=" ".join(lanes), intLanes=" ".join(self.last(n) for n in range(len(made.links))),
            shape=_points(corners),
        )  # fmt: skip
        if not made.links:
            return f"    {head}/>"
        size = len(made.links)
        rows = [
            _tag("request", index=str(n), response=_bits(made.response[n], size), foes=_bits(made.foes[n], size),
                 cont=str(int(n in self.behind)))
            for n in range(size)
        ]  # fmt: skip
        return "\n".join([f"    {head}>", *(f"        {row}/>" for row in rows), "    </junction>"])

    def waiting(self) -> list[str]:
        """Its internal junctions."""
        lines = []
        for inner in self.inner:
            n = inner.link
            sources = [self.made.links[k] for k in sorted(self.made.waits_for[n])]
            lanes = dict.fromkeys(f"{self.layout.pieces[k.source].id}_{k.source_lane}" for k in sources)
            foes = [self.via(k) for k in sorted(self.made.meets[n])]
            head = _tag(
                "junction", id=f":{self.node.id}_{inner.edge}_0", type="internal", x=f"{inner.line.real:.2f}",
                y=f"{inner.line.imag:.2f}", incLanes=" ".join([self.via(n), *lanes]), intLanes=" ".join(foes),
            )  # fmt: skip
            lines.append(f"    {head}/>")
        return lines

    def signal(self) -> list[str]:
        """Its program."""
        lights = self.made.program
        if lights is None:
            return []
        head = _tag("tlLogic", id=self.node.id, type="static", programID="0", offset="0")
        phases = zip(lights.durations_s, lights.states, strict=True)
        rows = [_tag("phase", duration=str(seconds), state=state) for seconds, state in phases]
        return [f"    {head}>", *(f"        {row}/>" for row in rows), "    </tlLogic>"]

    def connections(self) -> list[str]:
        """From lanes onto the junction."""
        lines = []
        for n, link in enumerate(self.made.links):
            light = {"tl": self.node.id, "linkIndex": str(n)} if self.made.program else {}
            letters = "oO" if self.made.program else "mM"
            state = letters[not self.made.response[n]]
            ends = self._ends(link) | {"from": self.layout.pieces[link.source].id, "fromLane": str(link.source_lane)}
            tag = _tag("connection", **ends, via=self.via(n), **light, dir=link.turn, state=state)
            lines.append(f"    {tag}/>")
        return lines

    def inside(self) -> list[str]:
        """From internal lanes onwards."""
        lines = []
        for n, link in enumerate(self.made.links):
            edge, lane = self.edge_of[n]
            own = {"from": f":{self.node.id}_{edge}", "fromLane": str(lane), **self._ends(link)}
            if n in self.behind:
                behind = self.behind[n]
                tag = _tag("connection", **own, via=self.last(n), dir=link.turn, state="m")
                lines.append(f"    {tag}/>")
                own |= {"from": f":{self.node.id}_{behind.edge}", "fromLane": "0"}
            lines.append(f"    {_tag('connection', **own, dir=link.turn, state='M')}/>")
        return lines

    def _ends(self, link: Link) -> dict[str, str]:
        return {"to": self.layout.pieces[link.target].id, "toLane": str(link.target_lane)}


def network_text(streets: Streets) -> str:
    """The content of a `.net.xml` that SUMO 1.28 and `netfile.read_network` read.

    Raises:
        IntersectionsError: Roads too short for their junctions, or too many at one node.
    """
    layout = lay_out(streets)
    nodes = [_Node(layout, n) for n in range(len(layout.nodes))]
    box = _box(layout.nodes)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<net version="1.20" junctionCornerDetail="5" limitTurnSpeed="5.50">',
        f'    <location netOffset="0.00,0.00" convBoundary="{box}" origBoundary="{box}" projParameter="!"/>',
        *(line for node in nodes for line in node.edges()),
        *(line for piece in layout.pieces for line in _edge(layout, piece)),
        *(line for node in nodes for line in node.signal()),
        *(node.junction() for node in nodes),
        *(line for node in nodes for line in node.waiting()),
        *(line for node in nodes for line in node.connections()),
        *(line for node in nodes for line in node.inside()),
        "</net>",
    ]
    return "\n".join(lines) + "\n"


def build_network(streets: Streets, name: str = "generated") -> Network:
    """The network that the text describes.

    Raises:
        IntersectionsError: As `network_text`.
    """
    return read_network(name, text=network_text(streets))


def _edge(layout: Layout, piece: Piece) -> list[str]:
    nodes = layout.nodes
    head = _tag(
        "edge", id=piece.id, **{"from": nodes[piece.origin].id}, to=nodes[piece.target].id, priority=str(piece.priority)
    )
    lanes = [_lane(f"{piece.id}_{n}", n, piece.speed, piece.lane_ends(n)) for n in range(piece.lanes)]
    return [f"    {head}>", *lanes, "    </edge>"]


def _lane(name: str, index: int, speed: float, shape: Sequence[complex]) -> str:
    places = [complex(round(point.real, 2), round(point.imag, 2)) for point in shape]
    length = max(0.1, length_m(places))
    tag = _tag("lane", id=name, index=str(index), speed=f"{speed:.2f}", length=f"{length:.2f}", shape=_points(places))
    return f"        {tag}/>"


def _first(link: Link, metres: float) -> list[complex]:
    """The curve up to the waiting line; all of it where there is none."""
    if not metres:
        return list(link.shape)
    return [*(p for p, at in _marked(link.shape) if at < metres - 0.05), along(link.shape, metres)]


def _second(link: Link, metres: float) -> list[complex]:
    return [along(link.shape, metres), *(p for p, at in _marked(link.shape) if at > metres + 0.05)]


def _marked(shape: Sequence[complex]) -> list[tuple[complex, float]]:
    """The points with how far along they lie."""
    found, total = [(shape[0], 0.0)], 0.0
    for a, b in itertools.pairwise(shape):
        total += abs(b - a)
        found.append((b, total))
    return found


def _box(nodes: Sequence[Node]) -> str:
    xs, ys = [node.x for node in nodes], [node.y for node in nodes]
    return f"{min(xs):.2f},{min(ys):.2f},{max(xs):.2f},{max(ys):.2f}"


def _points(shape: Sequence[complex]) -> str:
    return " ".join(f"{point.real:.2f},{point.imag:.2f}" for point in shape)


def _bits(numbers: frozenset[int], size: int) -> str:
    return "".join("1" if n in numbers else "0" for n in reversed(range(size)))


def _tag(element: str, **attributes: str) -> str:
    return f"<{element}" + "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
