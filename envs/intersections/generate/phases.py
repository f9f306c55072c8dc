"""Signal programs of generated junctions: opposite arms together, left turns let in or on their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import pi, radians

from fedsched.envs.intersections.generate.links import Link
from fedsched.envs.intersections.generate.pieces import Arm, Layout
from fedsched.envs.intersections.generate.streets import turned
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.signals import transition

YELLOW_S = 3
"""After every green."""

LEFT_S = 6
"""Green of left turns alone."""

LEAST_S = 5
"""Of every other green."""

_OPPOSITE = radians(50)
"""Arms that face each other up to this angle share a phase."""


@dataclass(frozen=True)
class Program:
    """The phases of a signal.

    Attributes:
        durations_s: Of each phase.
        states: A character per link of the junction's matrix.
    """

    durations_s: tuple[int, ...]
    states: tuple[str, ...]


def together(lights: Program) -> set[tuple[int, int]]:
    """Ordered pairs of links that are green in a common phase."""
    greens = [[n for n, light in enumerate(state) if light in "gG"] for state in lights.states]
    return {(i, j) for row in greens for i in row for j in row if i != j}


def program(links: Sequence[Link], response: Sequence[frozenset[int]], layout: Layout, arms: Sequence[Arm]) -> Program:
    """Phase by phase: two opposite arms, with left turns that yield; then their left turns, where these have lanes.

    Raises:
        IntersectionsError: The cycle is too short for so many phases.
    """
    greens: list[tuple[set[int], int]] = []
    groups = _groups([a for a, arm in enumerate(arms) if arm.incoming >= 0], arms)
    for group in groups:
        own = {n for n, link in enumerate(links) if link.arms[0] in group}
        lefts = {n for n in own if links[n].turn in "lL" and layout.pieces[links[n].source].pocket}
        yielding = {n for n in lefts if response[n] & own}
        greens.append((own, max(layout.pieces[links[n].source].lanes for n in own)))
        if yielding:
            greens.append((lefts, 0))
    states = [_state(len(links), green, response) for green, _ in greens]
    between = [transition(a, b) for a, b in zip(states, [*states[1:], states[0]], strict=True)]
    seconds = _seconds([lanes for _, lanes in greens], layout.cycle_s)
    durations = [s for green in seconds for s in (green, YELLOW_S)]
    return Program(tuple(durations), tuple(s for pair in zip(states, between, strict=True) for s in pair))


def _groups(incoming: Sequence[int], arms: Sequence[Arm]) -> list[tuple[int, ...]]:
    """Pairs of arms that face each other, the straightest first, and those that are left; in clockwise order."""
    bends = {(a, b): abs(abs(turned(arms[a].out, arms[b].out)) - pi) for a, b in combinations(incoming, 2)}
    left, groups = set(incoming), []
    for (a, b), bend in sorted(bends.items(), key=lambda item: (round(item[1], 3), item[0])):
        if bend < _OPPOSITE and {a, b} <= left:
            groups.append((a, b))
            left -= {a, b}
    return sorted([*groups, *((a,) for a in left)])


def _state(links: int, green: set[int], response: Sequence[frozenset[int]]) -> str:
    return "".join(("g" if response[n] & green else "G") if n in green else "r" for n in range(links))


def _seconds(lanes: Sequence[int], cycle_s: int) -> list[int]:
    """Greens in proportion to the lanes; what is left by rounding goes to the first."""
    fixed = sum(YELLOW_S + (0 if n else LEFT_S) for n in lanes)
    left, total = cycle_s - fixed, sum(lanes)
    found = [LEFT_S if n == 0 else left * n // total for n in lanes]
    if min(found) < LEAST_S:
        raise IntersectionsError(
            f"cycle_s={cycle_s} is too short for {len(lanes)} phases with {YELLOW_S} s of yellow each and greens of "
            f"{LEAST_S} s; write at least {fixed + LEAST_S * total}"
        )
    found[next(n for n, count in enumerate(lanes) if count)] += (
        cycle_s - fixed - sum(green for green, count in zip(found, lanes, strict=True) if count)
    )
    return found
