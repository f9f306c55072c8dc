"""Cities with events, for benchmarks.corridor: one event in each instance, one instance for each row."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from fedsched.envs.core.streams import stream
from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.demand import Demand, Trip
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.events import Event, closure_event, surge_event, vehicle_event
from fedsched.envs.intersections.generate import Arterial, City, Grid, Incident, Surge, Traffic, generated_problem
from fedsched.envs.intersections.maps import resco_problem
from fedsched.envs.intersections.problem import Problem, make_problem
from fedsched.envs.intersections.routing import Router
from fedsched.envs.intersections.vehicletypes import default_type

PARTS = 4
"""Districts of every city: the fewest that settle plans."""

LEAST = 4
"""Stop lines on the way of an ambulance, at least; they lie in two districts or more."""

CITIES: dict[str, tuple[City, float]] = {
    "arterial": (Arterial(crossings=8), 3000.0),
    "grid": (Grid(rows=4, columns=4), 4000.0),
}
"""Shape and vehicles per hour."""

EVENT_S = 300, 900
"""Begin and end of a closure or a surge, s."""

LONG_S = 1800
"""Of an episode with one of these."""

AMBULANCE = default_type("ambulance", "emergency")


@dataclass(frozen=True)
class Case:
    """One city with events.

    Attributes:
        name: Of the city and the kind of event.
        problem: Instance k has event k.
        districts: Of the city.
        events: One for each instance.
    """

    name: str
    problem: Problem
    districts: Districts
    events: tuple[Event, ...]

    def weighted(self, weight: float) -> tuple[Event, ...]:
        """The events at another weight."""
        return tuple(replace(event, weight=weight) for event in self.events)


def ambulances(city: str, rows: int, seed: int) -> Case:
    """An ambulance among the traffic of a generated city or a map of RESCO."""
    if city in CITIES:
        shape, vehicles = CITIES[city]
        plain = generated_problem(shape, Traffic(vehicles_per_h=vehicles), seed, rows)
    else:
        plain = resco_problem(city)
    districts = balanced(plain, PARTS)
    router = Router(plain.network)
    demands = [_with_ambulance(plain, districts, router, seed, k) for k in range(rows)]
    problem = _again(plain, demands)
    events = [vehicle_event(problem, k, AMBULANCE.id, weight=1.0) for k in range(rows)]
    return Case(f"{city}, ambulance", problem, balanced(problem, PARTS), tuple(events))


def _again(problem: Problem, demands: list[Demand]) -> Problem:
    controlled = [signal.id for signal in problem.signals]
    return make_problem(problem.network, demands, problem.begin_s, problem.end_s, controlled, problem.name)


def _with_ambulance(problem: Problem, districts: Districts, router: Router, seed: int, number: int) -> Demand:
    """One more trip, between the ends of somebody's trip, in the second to the sixth tenth of the episode."""
    base = problem.demands[number % len(problem.demands)]
    rng = stream(seed, "benchmarks/ambulance", number)
    site = {
        (move.source, move.target): int(districts.site[a])
        for a, signal in enumerate(problem.signals)
        for move in signal.movements
    }
    while True:
        given = base.routes[base.trips[int(rng.integers(len(base.trips)))].route]
        route = router.way(given[0], given[-1], AMBULANCE.vehicle_class)
        passed = [site[ends] for ends in pairwise(route or ()) if ends in site]
        if route is not None and len(passed) >= LEAST and len(set(passed)) > 1:
            break
    at = problem.begin_s + round(float(rng.uniform(0.2, 0.6)) * problem.seconds)
    own = Trip(AMBULANCE.id, len(base.types), len(base.routes), at, depart_speed="max")
    trips = sorted((*base.trips, own), key=lambda trip: trip.depart_s)
    types, routes = (*base.types, AMBULANCE), (*base.routes, route)
    return replace(base, types=types, routes=routes, trips=tuple(trips), digest=f"{base.digest}+{seed}.{number}")


def surge(rows: int, seed: int) -> Case:
    """450 vehicles leave a place with one road at the edge of a grid within ten minutes."""
    place, (begin, end) = "north1", EVENT_S
    surges = (Surge(place, begin, end, vehicles=450, leaving=True),)
    traffic = Traffic(vehicles_per_h=3000.0, seconds=LONG_S, surges=surges)
    problem = generated_problem(CITIES["grid"][0], traffic, seed, rows)
    events = [surge_event(problem, k, place, begin, end) for k in range(rows)]
    return Case("grid, surge", problem, balanced(problem, PARTS), tuple(events))


def closure(rows: int, seed: int) -> Case:
    """A road in the middle of a grid is closed for ten minutes; who departs then drives around it."""
    edge, (begin, end) = "r1c1-r1c2", EVENT_S
    traffic = Traffic(vehicles_per_h=4500.0, seconds=LONG_S, incidents=(Incident(edge, begin, end),))
    plain = generated_problem(CITIES["grid"][0], traffic, seed, rows)
    closed = plain.network.edge(edge)
    around = Router(plain.network, [1e6 if n == closed else 1.0 for n in range(_roads(plain))])
    problem = _again(plain, [_detoured(demand, closed, around) for demand in plain.demands])
    events = [closure_event(problem, k, edge, begin, end) for k in range(rows)]
    return Case("grid, closed road", problem, balanced(problem, PARTS), tuple(events))


def _roads(problem: Problem) -> int:
    return sum(not edge.internal for edge in problem.network.edges)


def _detoured(demand: Demand, closed: int, around: Router) -> Demand:
    """Those who depart while the road is closed take the fastest way without it."""
    routes = {route: n for n, route in enumerate(demand.routes)}
    trips = []
    for trip in demand.trips:
        route = demand.routes[trip.route]
        if closed in route and EVENT_S[0] <= trip.depart_s < EVENT_S[1]:
            way = around.way(route[0], route[-1], "passenger") or route
            trip = replace(trip, route=routes.setdefault(way, len(routes)))
        trips.append(trip)
    return replace(demand, routes=tuple(routes), trips=tuple(trips), digest=f"{demand.digest}+around {closed}")


FLOWS: dict[str, Callable[[int, int], Case]] = {"surge": surge, "closure": closure}
