"""Roads as directed edges: lanes beside the centre line, lanes for turning left, what junctions cut off."""

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedsched.envs.intersections.generate.streets import LANE_M, LEAST_ROAD_M, STRAIGHT, Node, Rule, Streets, turned
from fedsched.envs.intersections.network import IntersectionsError

CORNER_M = 4.0
"""Radius of a junction's corners; also the least that a junction cuts off a road."""

_BLUNT = math.radians(120)
"""Roads that meet at more hardly overlap behind the corner."""


@dataclass(frozen=True)
class Piece:
    """A directed edge.

    Attributes:
        id: Of the edge.
        origin: Index of the node it leaves.
        target: Index of the node it leads to.
        start: Place of that node, m, as a complex number like all points here.
        end: Place of the other.
        lanes: Number of them.
        speed: m/s.
        priority: Of the road.
        shift: m from the centre line to the left edge of its leftmost lane, to the right positive.
        cut: m that the junctions at both ends take.
        pocket: Whether its leftmost lane is one more than before, for turning left.
    """

    id: str
    origin: int
    target: int
    start: complex
    end: complex
    lanes: int
    speed: float
    priority: int
    shift: float
    cut: tuple[float, float] = (CORNER_M, CORNER_M)
    pocket: bool = False

    @property
    def heading(self) -> complex:
        """Unit vector along it."""
        return (self.end - self.start) / abs(self.end - self.start)

    @property
    def length(self) -> float:
        """Between the stop lines, m."""
        return abs(self.end - self.start) - sum(self.cut)

    @property
    def width(self) -> float:
        """From the centre line to its right edge, m."""
        return self.shift + self.lanes * LANE_M

    def lane_ends(self, lane: int) -> tuple[complex, complex]:
        """First and last point of a lane's centre line; lane 0 is the rightmost."""
        right = -1j * self.heading * (self.shift + (self.lanes - lane - 0.5) * LANE_M)
        return self.start + self.heading * self.cut[0] + right, self.end - self.heading * self.cut[1] + right

    def corner(self, at_end: bool) -> complex:
        """Where its right edge meets the junction."""
        along = self.end - self.heading * self.cut[1] if at_end else self.start + self.heading * self.cut[0]
        return along - 1j * self.heading * self.width


@dataclass(frozen=True)
class Arm:
    """A road as a node has it.

    Attributes:
        out: Unit vector away from the node.
        incoming: Index of the piece that leads here, -1 for none.
        outgoing: Index of the piece that leads away, -1.
    """

    out: complex
    incoming: int
    outgoing: int


@dataclass(frozen=True)
class Layout:
    """Pieces and where they meet.

    Attributes:
        nodes: Those of the streets, then one for each lane that begins for turning left.
        pieces: Directed edges, cut at the junctions.
        arms: Of every node, clockwise from north.
        cycle_s: Of every signal.
    """

    nodes: tuple[Node, ...]
    pieces: tuple[Piece, ...]
    arms: tuple[tuple[Arm, ...], ...]
    cycle_s: int


def lay_out(streets: Streets) -> Layout:
    """Directed edges of all roads.

    Raises:
        IntersectionsError: A road is too short for its junctions and turning lanes, or roads meet too sharply.
    """
    streets.check()
    nodes = list(streets.nodes)
    whole = _whole(streets)
    arms = _arms(len(nodes), whole)
    whole = [_cut(whole, arms, piece) for piece in whole]
    pieces: list[Piece] = []
    for number, piece in enumerate(whole):
        road = streets.roads[number // 2]
        pocket = road.pocket_m[1 - number % 2]
        if pocket and _turns_left(streets, piece.target, number // 2):
            pieces += _with_pocket(piece, pocket, nodes)
        else:
            pieces.append(piece)
    _check_lengths(pieces)
    return Layout(tuple(nodes), tuple(pieces), _arms(len(nodes), pieces), streets.cycle_s)


def _whole(streets: Streets) -> list[Piece]:
    """Both directions of every road."""
    found = []
    for road in streets.roads:
        shift = LANE_M / 2 if any(road.pocket_m) else 0.0
        for origin, target in (road.ends, road.ends[::-1]):
            a, b = streets.nodes[origin], streets.nodes[target]
            found.append(
                Piece(f"{a.id}-{b.id}", origin, target, a.place, b.place, road.lanes, road.speed, road.priority, shift)
            )
    return found


def _with_pocket(piece: Piece, metres: float, nodes: list[Node]) -> list[Piece]:
    """Split where the lane for turning left begins, at a node of its own."""
    fork = piece.end - piece.heading * (piece.cut[1] + metres + CORNER_M)
    nodes.append(Node(f"{piece.id}.fork", fork.real, fork.imag, Rule.PRIORITY))
    before = replace(piece, target=len(nodes) - 1, end=fork, cut=(piece.cut[0], CORNER_M))
    behind = replace(
        piece,
        id=f"{piece.id}.fork",
        origin=len(nodes) - 1,
        start=fork,
        lanes=piece.lanes + 1,
        shift=piece.shift - LANE_M,
        cut=(CORNER_M, piece.cut[1]),
        pocket=True,
    )
    return [before, behind]


def _turns_left(streets: Streets, node: int, road: int) -> bool:
    """Whether a road onto the left leaves the node, and one straight on with room for all other lanes."""
    heading, lanes = -streets.towards(node, road), streets.roads[road].lanes
    others = [other for other in streets.around[node] if other != road]
    angles = {other: turned(heading, streets.towards(node, other)) for other in others}
    through = min(others, key=lambda other: abs(angles[other]), default=-1)
    if through < 0 or abs(angles[through]) > STRAIGHT or streets.roads[through].lanes < lanes:
        return False
    return max(angles.values()) > angles[through] + STRAIGHT


def _arms(nodes: int, pieces: Sequence[Piece]) -> tuple[tuple[Arm, ...], ...]:
    found: list[dict[complex, list[int]]] = [{} for _ in range(nodes)]
    for n, piece in enumerate(pieces):
        for node, out, leaving in ((piece.target, -piece.heading, 0), (piece.origin, piece.heading, 1)):
            key = complex(round(out.real, 6), round(out.imag, 6))
            found[node].setdefault(key, [-1, -1])[leaving] = n
    rows = []
    for row in found:
        arms = [Arm(out, *ends) for out, ends in row.items()]
        rows.append(tuple(sorted(arms, key=lambda arm: (0.5 * math.pi - cmath.phase(arm.out) + 1e-6) % (2 * math.pi))))
    return tuple(rows)


def _cut(pieces: Sequence[Piece], arms: Sequence[Sequence[Arm]], piece: Piece) -> Piece:
    cuts = []
    for node, out in ((piece.origin, piece.heading), (piece.target, -piece.heading)):
        own = min(range(len(arms[node])), key=lambda a: abs(arms[node][a].out - out))
        cuts.append(_cut_m(pieces, arms[node], own) if len(arms[node]) > 1 else 0.0)
    return replace(piece, cut=(cuts[0], cuts[1]))


def _cut_m(pieces: Sequence[Piece], arms: Sequence[Arm], own: int) -> float:
    """How far a junction reaches into an arm: past both neighbours' edges, and round the corners."""
    cut = CORNER_M
    arm = arms[own]
    for step, mine, theirs in ((1, arm.outgoing, "incoming"), (-1, arm.incoming, "outgoing")):
        other = arms[(own + step) % len(arms)]
        angle = step * -turned(arm.out, other.out) % (2 * math.pi)
        if angle >= math.pi - 1e-6:
            continue
        facing = getattr(other, theirs)
        here = pieces[mine].width if mine >= 0 else 0.0
        there = pieces[facing].width if facing >= 0 else 0.0
        edge = (there + here * math.cos(angle)) / math.sin(angle)
        corner = CORNER_M / math.tan(angle / 2)
        cut = max(cut, min(edge, there) + corner if angle > _BLUNT else edge + corner)
    return cut


def _check_lengths(pieces: Sequence[Piece]) -> None:
    for piece in pieces:
        if piece.length < LEAST_ROAD_M:
            raise IntersectionsError(
                f"road {piece.id!r} is {abs(piece.end - piece.start):.0f} m long, and {piece.length:.0f} m are left "
                f"beside junctions and turning lanes; leave {LEAST_ROAD_M:.0f} m: longer roads, or fewer lanes"
            )
