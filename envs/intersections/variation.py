"""Other days in the same city: demands that differ from a given one, so that nobody learns one hour by heart.

A varied demand has the given trips as many times over or as rarely as its volume says, each departing a little earlier
or later, perhaps lanes that are closed for a while, and perhaps other ways for trips whose file gives no route.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fedsched.envs.core.streams import stream
from fedsched.envs.intersections.demand import Demand, Trip
from fedsched.envs.intersections.generate.incidents import close, draw_incidents
from fedsched.envs.intersections.network import IntersectionsError, Network
from fedsched.envs.intersections.problem import Problem, make_problem
from fedsched.envs.intersections.routing import Router

OPINIONS = 2
"""About how long roads take, in a demand with detours."""


@dataclass(frozen=True)
class Variation:
    """How much demands differ from a given one.

    Attributes:
        volume: Largest relative difference of the number of trips, drawn uniformly for each demand: 0.3 is 70 to 130 %.
        scale: Factor on the number of trips of all demands; 1.5 is half as much again.
        jitter_s: Largest difference of a departure, s, drawn uniformly for each trip.
        incidents: Lanes, or roads of one lane, that are closed for a while in every demand.
        detours: Up to which share drivers whose file gives no route (`Trip.places`) think that a road takes longer than
            it does: in every demand `OPINIONS`, in equal shares. SUMO routes such trips as traffic is.
    """

    volume: float = 0.3
    scale: float = 1.0
    jitter_s: float = 60.0
    incidents: int = 0
    detours: float = 0.0

    def __post_init__(self) -> None:
        """Raises IntersectionsError for a value out of its bounds."""
        if not 0.0 <= self.volume < 1.0:
            raise IntersectionsError(f"Variation: volume={self.volume:g}; write 0 or more and less than 1")
        if not 0.0 < self.scale <= 10.0:
            raise IntersectionsError(f"Variation: scale={self.scale:g}; write more than 0 and at most 10")
        if not 0.0 <= self.jitter_s <= 86_400.0:
            raise IntersectionsError(f"Variation: jitter_s={self.jitter_s:g}; write 0 to 86400")
        if self.incidents < 0:
            raise IntersectionsError(f"Variation: incidents={self.incidents}; write 0 or more")
        if not 0.0 <= self.detours <= 10.0:
            raise IntersectionsError(f"Variation: detours={self.detours:g}; write 0 to 10")

    @property
    def changes(self) -> bool:
        """Whether a varied demand is another than the given one."""
        return bool(self.volume or self.jitter_s or self.incidents or self.detours) or self.scale != 1.0


def varied_problem(problem: Problem, variation: Variation, demands: int, seed: int = 0) -> Problem:
    """The same streets and signals with so many varied demands.

    Args:
        problem: Demand k varies its demand k modulo their number.
        variation: How.
        demands: How many; demand k is the same for every number of them.
        seed: Of the draws.

    Raises:
        IntersectionsError: Fewer than one demand.
    """
    return with_demands(problem, [varied_demand(problem, variation, number, seed) for number in range(demands)])


def with_demands(problem: Problem, demands: Sequence[Demand]) -> Problem:
    """The same streets, signals and hour with other demands.

    Raises:
        IntersectionsError: No demand.
    """
    controlled = [signal.id for signal in problem.signals]
    return make_problem(problem.network, demands, problem.begin_s, problem.end_s, controlled, problem.name)


def varied_demand(problem: Problem, variation: Variation, number: int, seed: int = 0) -> Demand:
    """One varied demand; the given one where the variation changes nothing.

    Args:
        problem: Demand k varies its demand k modulo their number.
        variation: How.
        number: Which demand k.
        seed: Of the draws.
    """
    base = problem.demands[number % len(problem.demands)]
    if not variation.changes:
        return base
    rng = stream(seed, "intersections/variation", number)
    factor = variation.scale * float(rng.uniform(1.0 - variation.volume, 1.0 + variation.volume))
    trips = sorted(_trips(base, factor, variation.jitter_s, problem, rng), key=lambda trip: trip.depart_s)
    length = problem.end_s - problem.begin_s
    incidents = draw_incidents(problem.network, variation.incidents, length, seed, number)
    closed = close(problem.network, incidents)
    closures = tuple(
        dataclasses.replace(one, begin_s=one.begin_s + problem.begin_s, end_s=one.end_s + problem.begin_s)
        for one in closed
    )
    told = repr((base.digest, variation, seed, number))
    digest = hashlib.sha256(told.encode()).hexdigest()
    demand = dataclasses.replace(base, trips=tuple(trips), digest=digest, closures=(*base.closures, *closures))
    if not variation.detours:
        return demand
    return _detoured(demand, problem.network, variation.detours, stream(seed, "intersections/detours", number))


def _detoured(demand: Demand, network: Network, detours: float, rng: np.random.Generator) -> Demand:
    """The same with other ways for those whose file gives no route."""
    factors = 1.0 + rng.uniform(0.0, detours, (OPINIONS, sum(not edge.internal for edge in network.edges)))
    routers = [Router(network, row.tolist()) for row in factors]
    opinions = rng.integers(OPINIONS, size=len(demand.trips))
    routes = {route: n for n, route in enumerate(demand.routes)}
    found: dict[tuple[tuple[int, ...], int, int], int] = {}
    trips = []
    for trip, opinion in zip(demand.trips, opinions.tolist(), strict=True):
        if trip.places:
            key, kind = (trip.places, trip.type, opinion), demand.types[trip.type]
            if key not in found:
                way = routers[opinion].through(trip.places, kind.vehicle_class, kind.max_speed)
                found[key] = trip.route if way is None else routes.setdefault(way, len(routes))
            trip = dataclasses.replace(trip, route=found[key])
        trips.append(trip)
    return dataclasses.replace(demand, routes=tuple(routes), trips=tuple(trips))


def _trips(base: Demand, factor: float, jitter_s: float, problem: Problem, rng: np.random.Generator) -> Iterator[Trip]:
    """Each trip `factor` times in the mean, at times that stay within the episode."""
    copies = np.floor(factor + rng.random(len(base.trips))).astype(int)
    later_s = iter(rng.uniform(-jitter_s, jitter_s, int(copies.sum())).tolist())
    for trip, count in zip(base.trips, copies.tolist(), strict=True):
        for copy in range(count):
            depart_s = min(max(trip.depart_s + next(later_s), problem.begin_s), max(trip.depart_s, problem.end_s - 1.0))
            name = trip.id if copy == 0 else f"{trip.id}#{copy}"
            yield dataclasses.replace(trip, id=name, depart_s=depart_s)
