"""Where the ways through a junction meet: zones on pairs of internal lanes.

Source: how SUMO's MSRightOfWayJunction, MSInternalJunction and MSLink set up their conflicts (versions of 2020 and
2024), in our own words.
"""

from typing import NamedTuple

import numpy as np

from fedsched.envs.intersections.geometry import Polylines, crossings, together_m
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
    """A conflict as one lane has it: where it begins, m from the lane's start, and its size, m."""

    begin: float
    size: float


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
    foes, siblings = _foe_lanes(network, moves), _siblings(network, moves)
    zones = _zones(network, moves, lines, foes)
    rows: list[list[_Row]] = [[] for _ in network.lanes]
    for lane, row in enumerate(rows):
        for other in foes[lane]:
            if other not in siblings[lane] and zones[lane, other] is not _NOWHERE:
                kind = _kind(moves, lane, other)
                row.append(
                    (other, kind, *_extents(moves, zones, lane, other, kind), *_yields(network, moves, lane, other))
                )
        for other in siblings[lane]:
            own, foe = (_sibling_zone(network, lines, a, b) for a, b in ((lane, other), (other, lane)))
            meeting = (own.begin, own.size, foe.begin, foe.size)
            row.append((other, ConflictKind.SIBLING, *meeting, *_yields(network, moves, lane, other)))
    columns = list(zip(*[conflict for row in rows for conflict in row], strict=True)) or [()] * 8
    kinds = (np.int32, np.int32, np.float64, np.float64, np.float64, np.float64, np.bool_, np.bool_)
    return Conflicts(begins(rows), *(np.array(c, dtype=k) for c, k in zip(columns, kinds, strict=True)))


def _foe_lanes(network: Network, moves: Movements) -> list[list[int]]:
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


def _siblings(network: Network, moves: Movements) -> list[list[int]]:
    """Internal lanes that leave the same lane and begin at the same place."""
    found: list[list[int]] = [[] for _ in network.lanes]
    for links in moves.of_lane:
        inside = [moves.next[k] for k in links if moves.into[moves.next[k]] == k]
        for lane in inside:
            for other in inside:
                a, b = network.lanes[lane], network.lanes[other]
                if lane != other and np.hypot(*(a.shape[0] - b.shape[0])) < _apart(a.width, b.width):
                    found[lane].append(other)
    return found


def _apart(width: float, other: float) -> float:
    return min(APART_M, 0.5 * (width + other))


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
    scale = own.length / max(lines.length[lane], 1e-6)
    if _exit_target(moves, lane) == _exit_target(moves, other) and not _waits(moves, lane):
        if not (_waits(moves, other) and meet):
            apart = _apart(own.width, foe.width)
            if np.hypot(*(own.shape[-1] - foe.shape[-1])) >= apart:
                return _Zone(own.length, foe.width)
            together = together_m(lines, lane, other, apart, (own.length, foe.length), ahead=False)
            return _Zone(own.length - together * scale, foe.width)
    if not meet:
        return _NOWHERE
    size = min(foe.width * (2 / max(sine, LEAST_SINE) - 1), own.length)
    return _Zone(max(0.0, at - size / 2) * scale, size)


def _sibling_zone(network: Network, lines: Polylines, lane: int, other: int) -> _Zone:
    """From the start of a lane to where it parts from one that begins at the same place."""
    own, foe = network.lanes[lane], network.lanes[other]
    together = together_m(lines, lane, other, _apart(own.width, foe.width), (own.length, foe.length), ahead=True)
    if not (own.edge == foe.edge and own.length == foe.length):
        together *= own.length / max(lines.length[lane], 1e-6)
    return _Zone(0.0, min(own.length, together))


def _extents(
    moves: Movements, zones: _Zones, lane: int, other: int, kind: ConflictKind
) -> tuple[float, float, float, float]:
    """Own begin and end, the other's begin and end."""
    own, foe = zones[lane, other], zones[other, lane]
    begin = own.begin
    behind_waiting = moves.kind[moves.into[lane]] == LinkKind.INNER
    if behind_waiting and kind == ConflictKind.CROSSING:
        begin = 0.0  # whoever goes on from a waiting area stops there, not before the zone
    return begin, begin + own.size, foe.begin, foe.begin + foe.size


def _yields(network: Network, moves: Movements, lane: int, other: int) -> tuple[bool, bool]:
    own, foe = moves.into[lane], moves.into[other]
    rows = network.junctions[moves.junction[own]].requests
    n, m = moves.request[own], moves.request[foe]
    if moves.junction[own] != moves.junction[foe] or max(n, m) >= len(rows):
        return False, False
    return m in rows[n].response, n in rows[m].response
