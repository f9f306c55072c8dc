"""Ways through junctions: which lane leads onto which, and the curve between."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedsched.envs.intersections.generate.pieces import Arm, Layout, Piece
from fedsched.envs.intersections.generate.streets import STRAIGHT, turned

SIDE_ACCELERATION = 5.5
"""m/s^2 that drivers bear in a bend; limits the speed on turns as in netconvert's `junctions.limit-turn-speed`."""

_BEND = math.radians(6)
_STEPS = 5


@dataclass(frozen=True)
class Link:
    """A way from a lane onto another.

    Attributes:
        source: Index of the piece it leaves.
        source_lane: Number of the lane.
        target: Index of the piece it leads to.
        target_lane: Number of the lane.
        arms: Numbers of the arms at the node.
        turn: SUMO's letter: `s`, `r`, `R` (partly), `l`, `L`, ...
        shape: Points of the curve, m.
        speed: m/s.
    """

    source: int
    source_lane: int
    target: int
    target_lane: int
    arms: tuple[int, int]
    turn: str
    shape: tuple[complex, ...]
    speed: float


def node_links(layout: Layout, node: int) -> tuple[Link, ...]:
    """The links of a node in the order of its right-of-way matrix: arms clockwise, lanes, turns from right to left."""
    arms, pieces = layout.arms[node], layout.pieces
    found = []
    for a, arm in enumerate(arms):
        if arm.incoming < 0:
            continue
        source = pieces[arm.incoming]
        others = [(b, other) for b, other in enumerate(arms) if b != a and other.outgoing >= 0]
        if not others:
            continue
        others.sort(key=lambda pair: turned(source.heading, pair[1].out))
        lanes = _shares(source, [pieces[other.outgoing] for _, other in others])
        for lane in range(source.lanes):
            for (b, other), own in zip(others, lanes, strict=True):
                for target_lane in own.get(lane, ()):
                    turn = _letter(source.heading, other.out, others)
                    found.append(_link(layout, (arm, other), (a, b), (lane, target_lane), turn))
    return tuple(found)


def _shares(source: Piece, targets: Sequence[Piece]) -> list[dict[int, tuple[int, ...]]]:
    """Of each way on, from right to left: the lanes onto which each lane leads.

    The way straight on has every lane but those that only turn; turns to the right leave the rightmost lane, those to
    the left the leftmost one. Without a way straight on the lanes are split.
    """
    lanes, ways = source.lanes, len(targets)
    if ways == 1:
        return [_onto(range(lanes), targets[0], source.lanes < targets[0].lanes)]
    angles = [turned(source.heading, target.heading) for target in targets]
    through = min(range(ways), key=lambda n: abs(angles[n]))
    if abs(angles[through]) > STRAIGHT:
        split = [range(n * lanes // ways, max(-(-(n + 1) * lanes // ways), 1)) for n in range(ways)]
        rows = zip(split, targets, angles, strict=True)
        return [_onto(_fewer(own, to.lanes, angle > 0), to, angle > 0) for own, to, angle in rows]
    first, end = 0, lanes - (1 if source.pocket and through < ways - 1 else 0)
    while end - first > targets[through].lanes:
        if through < ways - 1 and (end == lanes or through == 0):
            end -= 1
        else:
            first += 1
    own = [range(max(1, first)) if n < through else range(min(end, lanes - 1), lanes) for n in range(ways)]
    own[through] = range(first, end)
    named = enumerate(zip(own, targets, strict=True))
    return [_onto(_fewer(row, to.lanes, n > through), to, n > through) for n, (row, to) in named]


def _fewer(own: range, room: int, left: bool) -> range:
    """No more lanes than the road ahead has."""
    if len(own) <= room:
        return own
    return own[len(own) - room :] if left else own[:room]


def _onto(own: range, target: Piece, leftmost: bool) -> dict[int, tuple[int, ...]]:
    """Lane by lane, aligned at the right or at the left edge; a lane that begins is reached from the leftmost."""
    room = target.lanes
    if target.pocket:
        return {lane: (n, n + 1) if n == len(own) - 1 else (n,) for n, lane in enumerate(own)}
    shift = room - len(own) if leftmost else 0
    return {lane: (n + shift,) for n, lane in enumerate(own)}


def _letter(heading: complex, out: complex, others: Sequence[tuple[int, Arm]]) -> str:
    """SUMO's letter: straight on where no other way is straighter; the sharpest turn of a side is the whole one."""
    angle = turned(heading, out)
    angles = [turned(heading, other.out) for _, other in others]
    if abs(angle) < STRAIGHT:
        straighter = abs(angle) > _BEND and any(
            abs(a) < abs(angle) - 1e-9 and (a > angle) == (angle < 0) for a in angles
        )
        if not straighter:
            return "s"
        return "R" if angle < 0 else "L"
    if angle < 0:
        return "R" if any(a < angle - 1e-9 for a in angles) else "r"
    return "L" if any(a > angle + 1e-9 for a in angles) else "l"


def _link(layout: Layout, ends: tuple[Arm, Arm], arms: tuple[int, int], lanes: tuple[int, int], turn: str) -> Link:
    source, target = layout.pieces[ends[0].incoming], layout.pieces[ends[1].outgoing]
    start, end = source.lane_ends(lanes[0])[1], target.lane_ends(lanes[1])[0]
    shape = curve(start, source.heading, end, target.heading)
    angle = abs(turned(source.heading, target.heading))
    speed = (source.speed + target.speed) / 2
    if angle > STRAIGHT:
        speed = min(speed, math.sqrt(SIDE_ACCELERATION * length_m(shape) / angle))
    return Link(ends[0].incoming, lanes[0], ends[1].outgoing, lanes[1], arms, turn, shape, speed)


def curve(start: complex, before: complex, end: complex, after: complex) -> tuple[complex, ...]:
    """A smooth way between two points with given directions.

    Bezier: quadratic where the directions meet between the points, as in SUMO's networks, else cubic.
    """
    if max(abs(turned(before, after)), abs(turned(before, end - start))) < math.radians(1):
        return start, end
    shares = [n / _STEPS for n in range(_STEPS + 1)]
    cross = (before.conjugate() * after).imag
    if abs(cross) > math.sin(_BEND):
        first = ((end - start).conjugate() * after).imag / cross
        last = (before.conjugate() * (end - start)).imag / cross
        if first > 0 and last > 0:
            middle = start + before * first
            return tuple(start * (1 - t) ** 2 + 2 * middle * t * (1 - t) + end * t**2 for t in shares)
    handle = abs(end - start) / 3
    p, q = start + before * handle, end - after * handle
    return tuple(start * (1 - t) ** 3 + 3 * p * t * (1 - t) ** 2 + 3 * q * t**2 * (1 - t) + end * t**3 for t in shares)


def length_m(shape: Sequence[complex]) -> float:
    """Of a polyline."""
    return sum(abs(b - a) for a, b in itertools.pairwise(shape))
