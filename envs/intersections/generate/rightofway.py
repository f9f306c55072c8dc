"""Who yields to whom at a node, and where vehicles that turn left wait inside it.

Source: what SUMO 1.28's netconvert makes of the same streets, in our own words
(`tests/envs/intersections/test_generated_cities.py` compares both).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

from fedsched.envs.intersections.generate.links import Link, length_m
from fedsched.envs.intersections.generate.phases import Program, program, together
from fedsched.envs.intersections.generate.pieces import Arm, Layout
from fedsched.envs.intersections.generate.streets import Rule, turned

CLEAR_M = 2.6
"""m between a waiting vehicle's centre line and that of those it lets pass: a lane's half widths, or a bit more."""

LEAST_WAIT_M = 2.0
"""m that a waiting area has at least."""

_TOUCH_M = 1.0
"""m between the centre lines of other ways that count as in each other's way though they pass."""

_STEP_M = 0.1
_BENT = math.radians(55)
"""A main road that bends more, where four roads or more meet, has no priority over straighter ways."""


@dataclass(frozen=True)
class Junction:
    """A node with its links and its right of way.

    Attributes:
        links: In the order of the matrix.
        foes: Of each link, those that it conflicts with.
        meets: The same, with those that reach the same road on another lane.
        response: Those that it yields to.
        waits_m: m along its curve where it waits inside the junction; 0 where it does not.
        waits_for: Those that it lets pass while waiting there.
        program: Of its signal; None without one.
    """

    links: tuple[Link, ...]
    foes: tuple[frozenset[int], ...]
    meets: tuple[frozenset[int], ...]
    response: tuple[frozenset[int], ...]
    waits_m: tuple[float, ...]
    waits_for: tuple[frozenset[int], ...]
    program: Program | None


def junction(layout: Layout, node: int, links: tuple[Link, ...]) -> Junction:
    """The right of way at one node."""
    arms, rule = layout.arms[node], layout.nodes[node].rule
    pairs = [(i, j) for i, j in combinations(range(len(links)), 2) if _conflict(links[i], links[j], len(arms))]
    foes = [(i, j) for i, j in pairs if _share_space(links[i], links[j])]
    tight = [
        (i, j) for i, j in combinations(range(len(links)), 2) if (i, j) not in pairs and _brush(links[i], links[j])
    ]
    main = _main_arms(layout, arms)
    yields = [_order(links, i, j, main, len(arms)) for i, j in foes]
    yields += [(i, j) if _both_left(links[i], links[j]) else _order(links, i, j, main, len(arms)) for i, j in tight]
    foes, pairs = foes + tight, pairs + tight
    response = _rows(len(links), yields)
    lights = program(links, response, layout, arms) if rule == Rule.SIGNAL else None
    both = together(lights) if lights else {(i, j) for i, j in yields if {links[i].arms[0], links[j].arms[0]} <= main}
    found = Junction(
        links,
        _rows(len(links), [*foes, *((j, i) for i, j in foes)]),
        _rows(len(links), [*pairs, *((j, i) for i, j in pairs)]),
        response,
        (0.0,) * len(links),
        (frozenset(),) * len(links),
        lights,
    )
    found = _with_waiting(found, both)
    return replace(found, response=_mind_waiting(found, both)) if lights else found


def _rows(size: int, pairs: Sequence[tuple[int, int]]) -> tuple[frozenset[int], ...]:
    return tuple(frozenset(j for i, j in pairs if i == n) for n in range(size))


def _conflict(a: Link, b: Link, arms: int) -> bool:
    """Whether the ways cross or reach the same road, seen from above: by the order of their ends round the node."""
    if a.arms[0] == b.arms[0]:
        return False
    if a.arms[1] == b.arms[1]:
        return True
    span = (_out(a) - _in(a)) % (2 * arms)
    inside = [(place - _in(a)) % (2 * arms) < span for place in (_in(b), _out(b))]
    return inside[0] != inside[1]


def _in(link: Link) -> int:
    """Place among the edges of the node, clockwise: of an arm first the one that leads in."""
    return 2 * link.arms[0]


def _out(link: Link) -> int:
    return 2 * link.arms[1] + 1


def _share_space(a: Link, b: Link) -> bool:
    """Of two ways that meet: turns from both sides onto lanes of their own do not get into each other's way."""
    if a.arms[1] != b.arms[1] or "s" in (a.turn, b.turn):
        return True
    left, right = (a, b) if a.turn in "lL" else (b, a)
    return left.turn not in "lL" or right.turn in "lL" or left.target_lane <= right.target_lane


def _brush(a: Link, b: Link) -> bool:
    """Whether two ways that do not meet, seen from above, still come too close: left turns on small junctions."""
    if a.arms[0] == b.arms[0] or not {a.turn, b.turn} & {"l", "L"}:
        return False
    clear = CLEAR_M if _both_left(a, b) else _TOUCH_M
    steps = range(1, int(length_m(a.shape) / _STEP_M), 5)
    return any(_off(along(a.shape, n * _STEP_M), b.shape) < clear for n in steps)


def _both_left(a: Link, b: Link) -> bool:
    return {a.turn, b.turn} <= {"l", "L"}


def _main_arms(layout: Layout, arms: Sequence[Arm]) -> set[int]:
    """The two arms of the road with priority: of those of the highest, the two that are straightest, clockwise."""
    pieces = layout.pieces
    own = {a: pieces[arm.incoming].priority for a, arm in enumerate(arms) if arm.incoming >= 0}
    bends = {(a, b): abs(turned(-arms[a].out, arms[b].out)) for a, b in combinations(own, 2)}
    best = {pair: bend for pair, bend in bends.items() if {own[a] for a in pair} == {max(own.values())}}
    if not best or (len(own) > 3 and min(best.values()) > _BENT):
        best = bends
    if not best:
        return set(own)
    return set(min(best.items(), key=lambda item: round(item[1], 3))[0])


def _order(links: Sequence[Link], i: int, j: int, main: set[int], arms: int) -> tuple[int, int]:
    """Of two that conflict: who yields, then to whom."""
    a, b = links[i], links[j]
    ranks = a.arms[0] in main, b.arms[0] in main
    if ranks[0] != ranks[1]:
        return (j, i) if ranks[0] else (i, j)
    straight = a.turn == "s", b.turn == "s"
    if straight[0] != straight[1]:
        return (j, i) if straight[0] else (i, j)
    return (i, j) if _from_the_right(a, b, arms) else (j, i)


def _from_the_right(a: Link, b: Link, arms: int) -> bool:
    """Whether `b` goes before `a`: clockwise from where `a` comes from, its way out is met before its way in."""
    ahead = [(place - _in(a)) % (2 * arms) for place in (_out(b), _in(b))]
    return ahead[0] < ahead[1]


def _with_waiting(found: Junction, both: set[tuple[int, int]]) -> Junction:
    """Waiting areas of the left turns that yield to somebody who may drive at the same time."""
    waits_m, waits_for = [], []
    for i, link in enumerate(found.links):
        foes = [j for j in found.response[i] if (i, j) in both] if link.turn in "lL" else []
        place = _wait_m(link, [found.links[j] for j in foes]) if foes else 0.0
        waits_m.append(place)
        waits_for.append(frozenset(foes if place else ()))
    return replace(found, waits_m=tuple(waits_m), waits_for=tuple(waits_for))


def _wait_m(link: Link, foes: Sequence[Link]) -> float:
    """The last place on the curve that is clear of the others; 0 where it is too near to the stop line."""
    total = length_m(link.shape)
    steps = int(total / _STEP_M)
    for n in range(1, steps):
        point = along(link.shape, n * _STEP_M)
        if any(_off(point, foe.shape) < CLEAR_M for foe in foes):
            return (n - 1) * _STEP_M if (n - 1) * _STEP_M >= LEAST_WAIT_M else 0.0
    return 0.0


def _mind_waiting(found: Junction, both: set[tuple[int, int]]) -> tuple[frozenset[int], ...]:
    """Links with a green of their own also respect those who may still wait inside from an earlier phase."""
    rows = []
    for i, link in enumerate(found.links):
        late = {j for j in found.foes[i] if found.waits_m[j] and (i, j) not in both and _meet(link, found.links[j])}
        rows.append(found.response[i] | late)
    return tuple(rows)


def _meet(a: Link, b: Link) -> bool:
    """Whether two curves cross, or end on the same lane."""
    if a.arms[1] == b.arms[1]:
        return a.target_lane == b.target_lane
    return any(
        _side(p, q, r) != _side(p, q, s) and _side(r, s, p) != _side(r, s, q)
        for p, q in zip(a.shape, a.shape[1:], strict=False)
        for r, s in zip(b.shape, b.shape[1:], strict=False)
    )


def _side(a: complex, b: complex, point: complex) -> bool:
    return ((b - a).conjugate() * (point - a)).imag > 0


def along(shape: Sequence[complex], metres: float) -> complex:
    """The point so many m along a polyline."""
    for a, b in pairwise(shape):
        step = abs(b - a)
        if metres <= step:
            return a + (b - a) * (metres / step)
        metres -= step
    return shape[-1]


def _off(point: complex, shape: Sequence[complex]) -> float:
    """From a point to a polyline, m."""
    return min(_to_segment(point, a, b) for a, b in pairwise(shape))


def _to_segment(point: complex, a: complex, b: complex) -> float:
    share = ((point - a) * (b - a).conjugate()).real / abs(b - a) ** 2
    return abs(point - a - (b - a) * min(max(share, 0.0), 1.0))
