"""Events whose traffic should get on: an emergency vehicle, a closed road, many who leave one place.

From an event and the network follows its *corridor*: the movements of the controlled signals that its vehicles pass,
where on their routes, and when at the speed limits.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from fedsched.envs.intersections.cutout import limit_times
from fedsched.envs.intersections.network import IntersectionsError, find
from fedsched.envs.intersections.priorities import EVERYBODY
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.routing import Router


@dataclass(frozen=True)
class Event:
    """What happens in one instance of a problem; seconds from the begin of the episode.

    Attributes:
        id: Its name in plans.
        kind: `vehicle`: one trip; `closure`: a closed road and those who drive around it; `surge`: many who leave.
        edge: Index of the edge where it happens: its district asks the others.
        trips: Indices in the demand of those whom it concerns.
        begin_s: From when.
        end_s: Until when.
        weight: What a second of their delay is worth, where everybody else's is 1.
    """

    id: str
    kind: Literal["vehicle", "closure", "surge"]
    edge: int
    trips: tuple[int, ...]
    begin_s: float
    end_s: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Raises IntersectionsError for an event without vehicles, time or weight."""
        if not self.trips:
            raise IntersectionsError(f"event {self.id!r} concerns no vehicle; move its place or its time")
        if self.end_s <= self.begin_s or self.weight <= 0.0:
            raise IntersectionsError(f"event {self.id!r}: write an end after its begin and a weight above 0")


@dataclass(frozen=True)
class Passage:
    """The vehicles of an event at one movement.

    Attributes:
        signal: Number among the controlled signals.
        movement: Number among the signal's.
        trip: The vehicle, EVERYBODY for several.
        place: On its route, the edge before the stop line.
        first_s: When the first gets there at the speed limits.
        last_s: The last.
        vehicles: How many.
    """

    signal: int
    movement: int
    trip: int
    place: int
    first_s: float
    last_s: float
    vehicles: int


def vehicle_event(problem: Problem, instance: int, trip: str, weight: float) -> Event:
    """An emergency trip, from its departure to the end of the episode; raises IntersectionsError if unknown."""
    demand = problem.demands[instance]
    number = find(trip, [one.id for one in demand.trips], "trip")
    found = demand.trips[number]
    edge = demand.routes[found.route][0]
    return Event(trip, "vehicle", edge, (number,), found.depart_s - problem.begin_s, float(problem.seconds), weight)


def surge_event(
    problem: Problem, instance: int, place: str, begin_s: float, end_s: float, weight: float = 1.0
) -> Event:
    """Those who depart on a road that leaves a node in that time; raises IntersectionsError if nobody does."""
    network, demand = problem.network, problem.demands[instance]
    node = find(place, [junction.id for junction in network.junctions], "node")
    starts = {n for n, edge in enumerate(network.edges) if edge.origin == node and not edge.internal}
    trips = [
        n for n in _departing(problem, instance, begin_s, end_s) if demand.routes[demand.trips[n].route][0] in starts
    ]
    most = Counter(demand.routes[demand.trips[n].route][0] for n in trips).most_common(1)
    return Event(f"surge {place}", "surge", most[0][0] if most else -1, tuple(trips), begin_s, end_s, weight)


def closure_event(
    problem: Problem, instance: int, edge: str, begin_s: float, end_s: float, weight: float = 1.0
) -> Event:
    """A road that is closed, for those who would drive over it and do not: their fastest way leads there.

    Raises:
        IntersectionsError: An unknown edge, or nobody drives around it.
    """
    number = problem.network.edge(edge)
    router, demand = Router(problem.network), problem.demands[instance]
    fastest: dict[tuple[int, int, str], tuple[int, ...]] = {}
    trips = []
    for n in _departing(problem, instance, begin_s, end_s):
        route, kind = demand.routes[demand.trips[n].route], demand.types[demand.trips[n].type]
        key = route[0], route[-1], kind.vehicle_class
        if key not in fastest:
            fastest[key] = router.way(*key) or ()
        if number in fastest[key] and number not in route:
            trips.append(n)
    return Event(f"closed {edge}", "closure", number, tuple(trips), begin_s, end_s, weight)


def _departing(problem: Problem, instance: int, begin_s: float, end_s: float) -> list[int]:
    trips = problem.demands[instance].trips
    return [n for n, trip in enumerate(trips) if begin_s <= trip.depart_s - problem.begin_s < end_s]


def corridor(problem: Problem, instance: int, event: Event) -> list[Passage]:
    """The stop lines on the way of an event's vehicles.

    Of one vehicle all, in order; of several one movement at each signal, those that most pass first.
    """
    demand, edge_s = problem.demands[instance], limit_times(problem)
    crossing = {
        (move.source, move.target): (a, e)
        for a, signal in enumerate(problem.signals)
        for e, move in enumerate(signal.movements)
    }
    found: list[Passage] = []
    for trip in event.trips:
        at = demand.trips[trip].depart_s - problem.begin_s
        for place, ends in enumerate(pairwise(demand.routes[demand.trips[trip].route])):
            at += float(edge_s[ends[0]])
            if ends in crossing:
                found.append(Passage(*crossing[ends], trip, place, at, at, 1))
    return found if event.kind == "vehicle" else _together(found)


def _together(passages: Sequence[Passage]) -> list[Passage]:
    """At each signal the movement that most pass, as one: others there would take the green from it."""
    groups: dict[tuple[int, int], list[Passage]] = {}
    for one in passages:
        groups.setdefault((one.signal, one.movement), []).append(one)
    joined = [
        Passage(*key, EVERYBODY, 0, min(one.first_s for one in own), max(one.last_s for one in own), len(own))
        for key, own in groups.items()
    ]
    joined.sort(key=lambda one: (-one.vehicles, one.signal, one.movement))
    most = {one.signal: one for one in reversed(joined)}
    return [one for one in joined if most[one.signal] is one]
