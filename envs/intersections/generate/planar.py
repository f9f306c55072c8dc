"""Random planar street plans."""

import cmath
import heapq
import math
from dataclasses import dataclass

import numpy as np

from fedsched.envs.core.streams import stream
from fedsched.envs.intersections.network import IntersectionsError

LEAST_TURN = math.radians(50)
"""Between two roads that meet."""

LEAST_ARMS, MOST_ARMS = 3, 5
"""Roads at a junction."""

_TRIES = 200
_CANDIDATES = 20
_NEAREST = 8


@dataclass(frozen=True)
class Planar:
    """A planar plan.

    Attributes:
        places: Of the junctions, then of the roads' outer ends, m.
        roads: Pairs of their indices.
        main: Whether each road is a main one.
        weight: Of each junction, by the lanes that meet there.
    """

    places: tuple[complex, ...]
    roads: tuple[tuple[int, int], ...]
    main: tuple[bool, ...]
    weight: tuple[float, ...]


def draw_planar(junctions: int, spacing_m: float, lanes: int, seed: int) -> Planar:
    """Junctions at random, the shortest roads between them that neither cross nor meet sharply, then arms outwards.

    Every junction gets 3 to 5 roads, all hang together, and two main roads run through. Drawn anew until it is so.

    Args:
        junctions: Number of them.
        spacing_m: Mean distance.
        lanes: Of main roads; others count as one.
        seed: Of all that is drawn.

    Raises:
        IntersectionsError: Nothing was found.
    """
    for attempt in range(_TRIES):
        rng = stream(seed, "intersections/irregular", attempt)
        drawn = _Growth(_scatter(junctions, spacing_m, rng), spacing_m, rng)
        drawn.join()
        if drawn.reach_out() and drawn.connected():
            main = _main_roads(drawn)
            weight = [0.0] * junctions
            for road, (one, other) in enumerate(drawn.roads):
                for end in (one, other):
                    if end < junctions:
                        weight[end] += lanes if main[road] else 1
            return Planar(tuple(drawn.places), tuple(drawn.roads), tuple(main), tuple(weight))
    raise IntersectionsError(f"no irregular network of {junctions} junctions was found for seed {seed}; try another")


def _scatter(junctions: int, spacing_m: float, rng: np.random.Generator) -> list[complex]:
    """Points in a square, each the farthest from the others among some candidates.

    Source: Mitchell, Spectrally optimal sampling for distribution ray tracing (1991).
    """
    side = spacing_m * math.sqrt(junctions)
    found: list[complex] = []
    for _ in range(junctions):
        tried = [complex(*rng.uniform(0.0, side, 2)) for _ in range(_CANDIDATES)]
        found.append(max(tried, key=lambda place: min((abs(place - other) for other in found), default=0.0)))
    return [complex(round(place.real, 1), round(place.imag, 1)) for place in found]


class _Growth:
    """A plan as it grows road by road."""

    def __init__(self, places: list[complex], spacing_m: float, rng: np.random.Generator) -> None:
        self.inner = len(places)
        self.places, self.spacing_m, self.rng = places, spacing_m, rng
        self.roads: list[tuple[int, int]] = []
        self.wanted = rng.integers(LEAST_ARMS, MOST_ARMS + 1, self.inner).tolist()

    def join(self) -> None:
        """Roads between junctions, the shortest first."""
        places = self.places
        near = {
            (min(n, m), max(n, m))
            for n in range(self.inner)
            for m in sorted(range(self.inner), key=lambda m: abs(places[n] - places[m]))[1 : _NEAREST + 1]
        }
        for one, other in sorted(near, key=lambda pair: (abs(places[pair[0]] - places[pair[1]]), pair)):
            room = all(len(self._arms(n)) < self.wanted[n] for n in (one, other))
            if room and abs(places[one] - places[other]) < 2 * self.spacing_m and self._fits(one, places[other], other):
                self.roads.append((one, other))

    def reach_out(self) -> bool:
        """Arms to the outside in the widest gaps of junctions that lack some; whether all have enough."""
        middle = sum(self.places[: self.inner]) / self.inner
        for n in sorted(range(self.inner), key=lambda n: -abs(self.places[n] - middle)):
            while len(self._arms(n)) < self.wanted[n] and self._add_arm(n):
                pass
        return all(len(self._arms(n)) >= LEAST_ARMS for n in range(self.inner))

    def connected(self) -> bool:
        """Whether every junction can be reached."""
        seen, queue = {0}, [0]
        while queue:
            n = queue.pop()
            for road in self.roads:
                if n in road:
                    other = road[1] if road[0] == n else road[0]
                    if other not in seen:
                        seen.add(other)
                        queue.append(other)
        return len(seen) == len(self.places)

    def _add_arm(self, n: int) -> bool:
        length = self.spacing_m * float(self.rng.uniform(0.4, 0.9))
        for angle in self._gaps(n):
            end = self.places[n] + cmath.rect(length, angle)
            end = complex(round(end.real, 1), round(end.imag, 1))
            if self._fits(n, end, -1):
                self.places.append(end)
                self.roads.append((n, len(self.places) - 1))
                return True
        return False

    def _gaps(self, n: int) -> list[float]:
        """Middles of the gaps between a junction's roads, the widest first."""
        angles = sorted(cmath.phase(way) for way in self._arms(n))
        if not angles:
            return [float(self.rng.uniform(-math.pi, math.pi))]
        pairs = list(zip(angles, [*angles[1:], angles[0] + 2 * math.pi], strict=True))
        return [(a + b) / 2 for a, b in sorted(pairs, key=lambda pair: pair[0] - pair[1])]

    def _arms(self, n: int) -> list[complex]:
        """Vectors along the roads of a node."""
        places = self.places
        return [places[b if a == n else a] - places[n] for a, b in self.roads if n in (a, b)]

    def _fits(self, one: int, end: complex, other: int) -> bool:
        """Whether a road crosses none, keeps off other nodes, and meets no road sharply."""
        start = self.places[one]
        for node, way in ((one, end - start), (other, start - end)):
            if node >= 0 and any(abs(cmath.phase(arm / way)) < LEAST_TURN for arm in self._arms(node)):
                return False
        clear = 0.25 * self.spacing_m
        for n, place in enumerate(self.places):
            if n not in (one, other) and _off(place, start, end) < clear:
                return False
        for a, b in self.roads:
            p, q = self.places[a], self.places[b]
            if _cross(start, end, p, q) and not {a, b} & {one, other}:
                return False
            if other < 0 and one not in (a, b) and _off(end, p, q) < clear:
                return False
        return True


def _main_roads(drawn: _Growth) -> list[bool]:
    """The shortest ways between two pairs of far ends, the second across the first."""
    ends = [n for n in range(len(drawn.places)) if n >= drawn.inner] or list(range(drawn.inner))
    places = drawn.places
    chosen: set[int] = set()
    for axis in (1 + 0j, 1j):
        order = sorted(ends, key=lambda n: (places[n] * axis.conjugate()).real)
        chosen |= _way(drawn, order[0], order[-1])
    return [n in chosen for n in range(len(drawn.roads))]


def _way(drawn: _Growth, start: int, goal: int) -> set[int]:
    """The roads of the shortest way. Source: E. Dijkstra (1959)."""
    queue: list[tuple[float, int, tuple[int, ...]]] = [(0.0, start, ())]
    done: set[int] = set()
    while queue:
        metres, node, way = heapq.heappop(queue)
        if node == goal:
            return set(way)
        if node in done:
            continue
        done.add(node)
        for n, (a, b) in enumerate(drawn.roads):
            if node in (a, b):
                step = abs(drawn.places[a] - drawn.places[b])
                heapq.heappush(queue, (metres + step, b if a == node else a, (*way, n)))
    return set()


def _cross(a: complex, b: complex, c: complex, d: complex) -> bool:
    def side(p: complex, q: complex, r: complex) -> bool:
        return ((q - p).conjugate() * (r - p)).imag > 0

    return side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b)


def _off(point: complex, a: complex, b: complex) -> float:
    """From a point to a segment, m."""
    share = ((point - a) * (b - a).conjugate()).real / abs(b - a) ** 2
    return abs(point - a - (b - a) * min(max(share, 0.0), 1.0))
