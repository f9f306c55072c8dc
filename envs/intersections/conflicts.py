"""Where the ways through a junction meet: zones on pairs of internal lanes.

Source: how SUMO's MSRightOfWayJunction, MSInternalJunction and MSLink set up their conflicts (versions of 2020 and
2024), in our own words.
"""

import itertools
from typing import NamedTuple

import numpy as np

from fedsched.envs.intersections.geometry import Polylines, crossings, end_direction, nearest, together_m
from fedsched.envs.intersections.links import Movements, begins
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.tables import ConflictKind, Conflicts, LinkKind

APART_M = 2.5
"""m between centre lines from which two lanes no longer share space."""

LEAST_SINE = 0.2
"""Of the angle between two lanes; flatter ones count as this flat."""

NOWHERE_M = 10_000.0
"""m behind a lane's start, of what never is in the way."""


class _Zone(NamedTuple):
    """A conflict as one lane has it.

    Attributes:
        begin: m from the lane's start.
        size: m.
        meets: Whether the lanes cross there; else they merge behind.
        parallel: Whether both lanes lead onto the same one but end beside each other.
    """

    begin: float
    size: float
    meets: bool = False
    parallel: bool = False


_NOWHERE = _Zone(-NOWHERE_M, 0.0)
_Zones = dict[tuple[int, int], _Zone]
_Row = tuple[int, ConflictKind, float, float, float, float, bool, bool]


def build_conflicts(network: Network, moves: Movements) -> Conflicts:
    """All pairs of internal lanes that meet.

    Args:
        network: The network.
        moves: Its links.
    """
    lines = Polylines([lane.shape for lane in network.lanes])
    foes, together = foe_lanes(network, moves), siblings(network, moves, lines)
    zones = _zones(network, moves, lines, foes)
    rows: list[list[_Row]] = [[] for _ in network.lanes]
    for lane, row in enumerate(rows):
        for other in foes[lane]:
            if other not in together[lane] and zones[lane, other] is not _NOWHERE:
                kind = _kind(moves, lane, other)
                extents = _extents(network, moves, zones, lane, other, kind)
                row.append((other, kind, *extents, *_yields(network, moves, lane, other)))
        for other, metres in together[lane].items():
            extents = 0.0, metres, 0.0, together[other][lane]
            row.append((other, ConflictKind.SIBLING, *extents, *_yields(network, moves, lane, other)))
    columns = list(zip(*[conflict for row in rows for conflict in row], strict=True)) or [()] * 8
    kinds = (np.int32, np.int32, np.float64, np.float64, np.float64, np.float64, np.bool_, np.bool_)
    return Conflicts(begins(rows), *(np.array(c, dtype=k) for c, k in zip(columns, kinds, strict=True)))


def foe_lanes(network: Network, moves: Movements) -> list[list[int]]:
    """The lanes that conflict with each internal lane, as junctions and internal junctions name them."""
    found: list[list[int]] = [[] for _ in network.lanes]
    for junction, entries in zip(network.junctions, moves.order, strict=True):
        if junction.kind == "internal":
            _internal_foes(network, moves, junction.incoming, junction.inside, found)
            continue
        for link, request in zip(entries, junction.requests, strict=False):
            lane = moves.next[link]
            if request.cont or moves.into[lane] != link:
                continue
            for number in sorted(request.foes):
                if number >= min(len(entries), len(junction.inside)):
                    continue
                other = junction.inside[number]
                found[lane].append(other)
                before = moves.source[moves.into[other]] if moves.into[other] >= 0 else -1
                if number in request.response and before >= 0 and network.edges[network.lanes[before].edge].internal:
                    found[lane].append(before)
    return [list(dict.fromkeys(row)) for row in found]


def _internal_foes(
    network: Network, moves: Movements, incoming: tuple[int, ...], inside: tuple[int, ...], found: list[list[int]]
) -> None:
    """What an internal junction says of the lane that waits there and the one that goes on."""
    if not incoming or not moves.of_lane[incoming[0]]:
        return
    link = moves.of_lane[incoming[0]][0]
    rows = network.junctions[moves.junction[link]].requests
    number = moves.request[link]
    respected = rows[number].response if number < len(rows) else frozenset()
    foes = []
    for lane in inside:
        for onward in moves.of_lane[lane]:
            if moves.kind[onward] == LinkKind.INNER:
                if moves.request[onward] in respected:
                    foes.append(lane)
                foes.append(moves.next[onward])
            else:
                foes.append(lane)
    found[incoming[0]] += foes
    if moves.kind[link] == LinkKind.INNER:
        found[moves.next[link]] += foes


def siblings(network: Network, moves: Movements, lines: Polylines) -> list[dict[int, float]]:
    """The internal lanes that share space with each one because they leave the same lane, and for how many m.

    Where a lane that ends at a waiting area still lies beside another one there, so does the lane behind the waiting
    area; SUMO 1.28 lets those two go together to the end of the shorter way (probed).
    """
    found: list[dict[int, float]] = [{} for _ in network.lanes]
    for links in moves.of_lane:
        inside = [moves.next[k] for k in links if moves.into[moves.next[k]] == k]
        for lane, other in itertools.permutations(inside, 2):
            a, b = network.lanes[lane], network.lanes[other]
            apart = _apart(a.width, b.width)
            if np.hypot(*(a.shape[0] - b.shape[0])) >= apart:
                continue
            metres = together_m(lines, lane, other, apart, (a.length, b.length), ahead=True)
            if not (a.edge == b.edge and a.length == b.length):
                metres *= _scale(lines, lane, a.length)
            found[lane][other] = min(a.length, metres)
            onward = moves.of_lane[other][0] if moves.of_lane[other] else -1
            if _waits(moves, other) and nearest(lines, lane, b.shape[-1]).off <= apart:
                behind = moves.next[onward]
                common = min(a.length, b.length + network.lanes[behind].length)
                found[lane][behind], found[behind][lane] = common, max(0.0, common - b.length)
    return found


def _apart(width: float, other: float) -> float:
    return min(APART_M, 0.5 * (width + other))


def _scale(lines: Polylines, lane: int, length: float) -> float:
    """Of m along the shape to m on the lane."""
    return 1 / max(1e-3, float(lines.length[lane]) / length)


def _exit_target(moves: Movements, lane: int) -> int:
    links = moves.of_lane[lane]
    return moves.target[links[0]] if links else -1


def _waits(moves: Movements, lane: int) -> bool:
    return any(moves.kind[k] == LinkKind.INNER for k in moves.of_lane[lane])


def _kind(moves: Movements, lane: int, other: int) -> ConflictKind:
    same = _exit_target(moves, lane) == _exit_target(moves, other)
    return (
        ConflictKind.MERGE if same and not _waits(moves, lane) and not _waits(moves, other) else ConflictKind.CROSSING
    )


def _zones(network: Network, moves: Movements, lines: Polylines, foes: list[list[int]]) -> _Zones:
    """The zone of each ordered pair on its first lane; also of pairs that only the other lane lists."""
    listed = dict.fromkeys((lane, other) for lane, row in enumerate(foes) for other in row)
    both = list(dict.fromkeys([*listed, *((other, lane) for lane, other in listed)]))
    if not both:
        return {}
    first, second = np.array(both, dtype=np.int64).T
    meet, at, sine = (column.tolist() for column in crossings(lines, first, second))
    place = dict(zip(both, zip(meet, at, sine, strict=True), strict=True))
    zones = {pair: _zone(network, moves, lines, pair, *place[pair]) for pair in listed}
    for lane, other in both:
        if (lane, other) not in zones:
            factor = zones[other, lane].size / network.lanes[lane].width
            size = network.lanes[other].width * factor
            hit, where, _ = place[lane, other]
            zones[lane, other] = _Zone(max(0.0, where - size / 2), size) if hit else _NOWHERE
    return zones


def _zone(
    network: Network, moves: Movements, lines: Polylines, pair: tuple[int, int], meet: bool, at: float, sine: float
) -> _Zone:
    """Of a pair that the first lane lists."""
    lane, other = pair
    own, foe = network.lanes[lane], network.lanes[other]
    scale = _scale(lines, lane, own.length)
    same = _exit_target(moves, lane) == _exit_target(moves, other)
    if same and not _waits(moves, lane) and not (_waits(moves, other) and meet):
        apart = _apart(own.width, foe.width)
        if np.hypot(*(own.shape[-1] - foe.shape[-1])) >= apart:
            return _Zone(own.length, foe.width, parallel=True)
        together = together_m(lines, lane, other, apart, (own.length, foe.length), ahead=False)
        return _Zone(max(0.0, own.length - together * scale), foe.width)
    if not meet and _waits(moves, other):
        meet, at, sine = _beside(lines, lane, other, own.width / 2)
    if not meet:
        return _NOWHERE
    size = min(foe.width * (2 / max(sine, LEAST_SINE) - 1), own.length)
    return _Zone(max(0.0, at - size / 2) * scale, size, meets=True)


def _beside(lines: Polylines, lane: int, other: int, near: float) -> tuple[bool, float, float]:
    """Whether a waiting area ends within `near` m of a lane, where along the lane, and the sine between them.

    SUMO 1.28 counts that as a crossing (probed).
    """
    place = nearest(lines, lane, lines.points[other, -1])
    end = end_direction(lines, other)
    sine = abs(float(place.direction[0] * end[1] - place.direction[1] * end[0]))
    return place.off < near, place.along, sine


def _extents(
    network: Network, moves: Movements, zones: _Zones, lane: int, other: int, kind: ConflictKind
) -> tuple[float, float, float, float]:
    """Own begin and end, the other's begin and end."""
    own, foe = zones[lane, other], zones[other, lane]
    begin = own.begin
    if own.meets and moves.kind[moves.into[lane]] == LinkKind.INNER and kind == ConflictKind.CROSSING:
        begin = 0.0  # whoever goes on from a waiting area stops there, not before the zone
    if own.parallel:
        foe = _Zone(network.lanes[other].length, network.lanes[lane].width)
    return begin, begin + own.size, foe.begin, foe.begin + foe.size


def _yields(network: Network, moves: Movements, lane: int, other: int) -> tuple[bool, bool]:
    own, foe = moves.into[lane], moves.into[other]
    rows = network.junctions[moves.junction[own]].requests
    n, m = moves.request[own], moves.request[foe]
    if moves.junction[own] != moves.junction[foe] or max(n, m) >= len(rows):
        return False, False
    return m in rows[n].response, n in rows[m].response
