"""Who drives in a generated city: rates that vary in time, origins and destinations, vehicle classes, surges."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from fedsched.envs.core.streams import stream
from fedsched.envs.intersections.demand import Demand, Trip
from fedsched.envs.intersections.generate.checks import check_fields, fail
from fedsched.envs.intersections.generate.incidents import Incident, close, draw_incidents
from fedsched.envs.intersections.generate.weather import WEATHERS, in_weather
from fedsched.envs.intersections.network import FloatArray, IntersectionsError, Network, find
from fedsched.envs.intersections.routefile import routes_text
from fedsched.envs.intersections.routing import Router
from fedsched.envs.intersections.vehicletypes import default_type

ALTERNATIVES = 3
"""Ways between two places that drivers take in equal shares."""

_BOUNDS: dict[str, tuple[float, float]] = {
    "vehicles_per_h": (0, 200_000), "seconds": (1, 86_400), "reach_m": (100, math.inf), "detours": (0, 2),
    "bus_share": (0, 1), "lorry_share": (0, 1), "emergency_share": (0, 1), "random_incidents": (0, 100),
    "begin_s": (0, 86_400), "end_s": (0, 86_400), "vehicles": (0, 100_000),
}  # fmt: skip

TYPES = (
    default_type("car"), default_type("bus", "bus"), default_type("lorry", "truck"),
    default_type("emergency", "emergency"),
)  # fmt: skip
"""SUMO's defaults of the classes."""

_Row = tuple[float, tuple[int, ...], int]
"""s of departure, edges, index of the type."""


@dataclass(frozen=True)
class Surge:
    """More vehicles to or from one place for a while, as at a stadium.

    Attributes:
        place: Id of a node: where vehicles end on a road that leads there, or start on one that leaves.
        begin_s: s from the begin of the episode.
        end_s: s.
        vehicles: How many, in the mean; they depart evenly.
        leaving: Whether they come from the place instead of going there.
    """

    place: str
    begin_s: float
    end_s: float
    vehicles: float
    leaving: bool = False

    def __post_init__(self) -> None:
        """Raises IntersectionsError for a value out of its bounds."""
        check_fields(self, _BOUNDS)
        if self.end_s <= self.begin_s:
            fail(self, "end_s", self.end_s, f"write more than begin_s={self.begin_s:g}")


@dataclass(frozen=True)
class Traffic:
    """Demand of one city. Instance k is another draw, whatever the number of instances.

    Attributes:
        vehicles_per_h: That enter the city, at a factor of 1 in the profile.
        seconds: Length of an episode.
        profile: Pairs of s and factor; linear between, constant before and after.
        reach_m: How far people drive: destinations count less by e for every so many m as the crow flies.
        detours: Up to which share drivers think that a road takes longer than it does; spreads them over several ways.
        bus_share: Of all vehicles; the rest are cars.
        lorry_share: Of all vehicles.
        emergency_share: Of all vehicles.
        surges: Beside all that.
        incidents: Closed lanes and arms, in every instance.
        random_incidents: How many more are drawn for each instance.
        weather: An entry of `weather.WEATHERS`.
    """

    vehicles_per_h: float = 1500.0
    seconds: int = 1200
    profile: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    reach_m: float = math.inf
    detours: float = 0.3
    bus_share: float = 0.03
    lorry_share: float = 0.05
    emergency_share: float = 0.01
    surges: tuple[Surge, ...] = ()
    incidents: tuple[Incident, ...] = ()
    random_incidents: int = 0
    weather: str = "clear"

    def __post_init__(self) -> None:
        """Raises IntersectionsError for a value that cannot be used."""
        check_fields(self, _BOUNDS)
        if self.weather not in WEATHERS:
            fail(self, "weather", self.weather, f"write one of {', '.join(WEATHERS)}")
        if self.bus_share + self.lorry_share + self.emergency_share > 1:
            fail(self, "bus_share", self.bus_share, "write shares that sum to 1 at most")
        times = [s for s, _ in self.profile]
        if not times or any(b <= a for a, b in pairwise(times)) or any(not 0 <= f < 100 for _, f in self.profile):
            fail(self, "profile", self.profile, "write pairs of ascending s and a factor from 0")

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """Of cars, buses, lorries and emergency vehicles."""
        others = self.bus_share, self.lorry_share, self.emergency_share
        return (1 - sum(others), *others)


class TrafficDraw:
    """Draws the demands of one city; keeps the ways found."""

    def __init__(self, traffic: Traffic, network: Network, seed: int) -> None:
        self.traffic, self.network, self.seed = traffic, network, seed
        self.edges = [edge for edge in network.edges if not edge.internal]
        ends = {n for n, junction in enumerate(network.junctions) if junction.kind == "dead_end"}
        self.entries = [n for n, edge in enumerate(self.edges) if edge.origin in ends]
        self.exits = [n for n, edge in enumerate(self.edges) if edge.target in ends]
        if len(self.entries) < 2:
            raise IntersectionsError("traffic needs two roads or more that lead into the city; add some")
        drawn = stream(seed, "intersections/detours").uniform(0.0, traffic.detours, (ALTERNATIVES, len(self.edges)))
        self.routers = [Router(network, (1.0 + row).tolist()) for row in drawn]
        self.ways: dict[tuple[int, int, int], tuple[int, ...] | None] = {}

    def demand(self, instance: int) -> Demand:
        """One instance."""
        traffic = self.traffic
        rows = self._everyday(stream(self.seed, "intersections/traffic", instance))
        for n, surge in enumerate(traffic.surges):
            rows += self._surge(surge, stream(self.seed, "intersections/surge", instance, n))
        rows.sort(key=lambda row: row[0])
        routes = {way: n for n, way in enumerate(dict.fromkeys(way for _, way, _ in rows))}
        kinds = {kind: n for n, kind in enumerate(dict.fromkeys(kind for _, _, kind in rows))}
        trips = tuple(Trip(f"v{n}", kinds[kind], routes[way], at) for n, (at, way, kind) in enumerate(rows))
        drawn = draw_incidents(self.network, traffic.random_incidents, traffic.seconds, self.seed, instance)
        closures = close(self.network, [*traffic.incidents, *drawn])
        types = in_weather([TYPES[kind] for kind in kinds], traffic.weather)
        plain = Demand(types, tuple(routes), trips, "", closures=closures)
        text = routes_text(plain, self.network) + repr(closures)
        return replace(plain, digest=hashlib.sha256(text.encode()).hexdigest())

    def _everyday(self, rng: np.random.Generator) -> list[_Row]:
        """Poisson departures at the rates of the profile, between the ends of the city's roads."""
        seconds = np.arange(self.traffic.seconds + 1, dtype=np.float64)
        at, factor = np.array(self.traffic.profile, dtype=np.float64).T
        rate = np.interp(seconds, at, factor) * self.traffic.vehicles_per_h / 3600.0
        expected = np.concatenate(([0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)))
        count = int(rng.poisson(expected[-1]))
        departs = np.interp(np.sort(rng.random(count)) * expected[-1], expected, seconds)
        weights = self._weights(self.entries, self.exits)
        pairs = rng.choice(weights.size, count, p=weights.ravel() / weights.sum())
        ends = [divmod(int(pair), len(self.exits)) for pair in pairs]
        return self._rows(departs, [(self.entries[a], self.exits[b]) for a, b in ends], rng)

    def _surge(self, surge: Surge, rng: np.random.Generator) -> list[_Row]:
        """Even departures to or from the roads at one node."""
        node = find(surge.place, [junction.id for junction in self.network.junctions], "node")
        near = [n for n, edge in enumerate(self.edges) if node == (edge.origin if surge.leaving else edge.target)]
        sources, goals = (near, self.exits) if surge.leaving else (self.entries, near)
        weights = self._weights(sources, goals)
        joined = [[self._find(start, goal, 0) is not None for goal in goals] for start in sources]
        weights *= np.array(joined, dtype=np.float64).reshape(weights.shape)
        if not near or not weights.any():
            raise IntersectionsError(f"Surge: no way to or from place {surge.place!r}; name another node")
        count = int(rng.poisson(surge.vehicles))
        departs = np.sort(rng.uniform(surge.begin_s, surge.end_s, count))
        pairs = rng.choice(weights.size, count, p=weights.ravel() / weights.sum())
        ends = [divmod(int(pair), len(goals)) for pair in pairs]
        return self._rows(departs, [(sources[a], goals[b]) for a, b in ends], rng)

    def _weights(self, sources: Sequence[int], goals: Sequence[int]) -> FloatArray:
        """Gravity: lanes of both roads, fewer with distance; nobody turns round where he starts.

        Source: Voorhees, A general theory of traffic movement (1955).
        """
        edges, lanes = self.edges, np.array([len(edge.lanes) for edge in self.edges], dtype=np.float64)
        starts = np.array([self._place(edges[n].origin) for n in sources])
        ends = np.array([self._place(edges[n].target) for n in goals])
        apart = np.abs(starts[:, None] - ends)
        found: FloatArray = lanes[list(sources)][:, None] * lanes[list(goals)] * np.exp(-apart / self.traffic.reach_m)
        found[apart < 1.0] = 0.0
        return found

    def _place(self, node: int) -> complex:
        junction = self.network.junctions[node]
        return complex(junction.x, junction.y)

    def _rows(self, departs: FloatArray, ends: Sequence[tuple[int, int]], rng: np.random.Generator) -> list[_Row]:
        kinds = rng.choice(len(TYPES), len(ends), p=self.traffic.shares)
        turns = rng.integers(ALTERNATIVES, size=len(ends))
        rows = zip(departs.tolist(), ends, kinds.tolist(), turns.tolist(), strict=True)
        return [(round(at, 2), self._way(*pair, turn), kind) for at, pair, kind, turn in rows]

    def _way(self, start: int, goal: int, turn: int) -> tuple[int, ...]:
        way = self._find(start, goal, turn)
        if way is None:
            one, other = self.edges[start].id, self.edges[goal].id
            raise IntersectionsError(f"there is no way from road {one!r} to {other!r}; join the streets")
        return way

    def _find(self, start: int, goal: int, turn: int) -> tuple[int, ...] | None:
        key = start, goal, turn
        if key not in self.ways:
            self.ways[key] = self.routers[turn].way(start, goal, "passenger")
        return self.ways[key]
