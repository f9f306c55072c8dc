"""A plan of streets before it becomes a network: nodes, straight roads between them, and what is checked of both."""

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from fedsched.envs.intersections.network import IntersectionsError

LANE_M = 3.2
"""Width of every lane, SUMO's default."""

LEAST_ANGLE = math.radians(35)
"""Between two roads that meet; sharper ones would need a junction of 50 m."""

STRAIGHT = math.radians(44)
"""Greatest turn that counts as straight on."""

LEAST_ROAD_M = 20.0
"""Of a road, and of every part of it, between two stop lines."""

MOST_ARMS = 8
"""Roads that may meet."""


class Rule(Enum):
    """Who rules at a node."""

    SIGNAL = "signal"
    PRIORITY = "priority"
    END = "end"


@dataclass(frozen=True)
class Node:
    """Where roads meet or end.

    Attributes:
        id: Of the junction, and of the signal there.
        x: m.
        y: m.
        rule: Who rules.
    """

    id: str
    x: float
    y: float
    rule: Rule

    @property
    def place(self) -> complex:
        """The point as a complex number, m."""
        return complex(self.x, self.y)


@dataclass(frozen=True)
class Road:
    """A straight road for both directions.

    Attributes:
        ends: Indices of the nodes it joins.
        lanes: Of each direction.
        speed: m/s, limit.
        priority: Roads of a higher one go first where no signal rules.
        pocket_m: m before the stop line at each end on which there is one more lane for turning left; 0 for none.
    """

    ends: tuple[int, int]
    lanes: int
    speed: float
    priority: int = 1
    pocket_m: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Streets:
    """Nodes and roads.

    Attributes:
        nodes: Where roads meet or end.
        roads: Between them.
        cycle_s: Of every signal.
    """

    nodes: tuple[Node, ...]
    roads: tuple[Road, ...]
    cycle_s: int = 90

    @cached_property
    def around(self) -> tuple[tuple[int, ...], ...]:
        """The roads at every node."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for n, road in enumerate(self.roads):
            for end in road.ends:
                found[end].append(n)
        return tuple(tuple(row) for row in found)

    def other(self, road: int, node: int) -> int:
        """The other end of a road."""
        one, two = self.roads[road].ends
        return two if node == one else one

    def towards(self, node: int, road: int) -> complex:
        """Unit vector from a node along a road."""
        step = self.nodes[self.other(road, node)].place - self.nodes[node].place
        return step / abs(step)

    def length_m(self, road: int) -> float:
        """From node to node."""
        one, two = self.roads[road].ends
        return abs(self.nodes[one].place - self.nodes[two].place)

    def check(self) -> None:
        """Raises IntersectionsError where roads meet too sharply, or a node has too many or none."""
        for n, (node, roads) in enumerate(zip(self.nodes, self.around, strict=True)):
            if not roads:
                raise IntersectionsError(f"node {node.id!r} has no road; join it to another or leave it out")
            if len(roads) > MOST_ARMS:
                raise IntersectionsError(f"{len(roads)} roads meet at {node.id!r}; let {MOST_ARMS} meet at most")
            if len(roads) > 1 and min(_gaps([self.towards(n, road) for road in roads])) < LEAST_ANGLE - 1e-9:
                raise IntersectionsError(
                    f"two roads meet at {node.id!r} at less than {math.degrees(LEAST_ANGLE):.0f} degrees; "
                    "spread them, or use fewer arms"
                )
        pairs = [frozenset(road.ends) for road in self.roads]
        if len(set(pairs)) < len(pairs):
            raise IntersectionsError("two roads join the same two nodes; keep one")


def turned(before: complex, after: complex) -> float:
    """Angle in radians from one direction to another, to the left positive, within (-pi, pi]."""
    return cmath.phase(after / before)


def _gaps(directions: Sequence[complex]) -> list[float]:
    angles = sorted(cmath.phase(d) for d in directions)
    return [b - a for a, b in zip(angles, [*angles[1:], angles[0] + 2 * math.pi], strict=True)]
