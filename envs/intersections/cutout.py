"""A district alone: its streets, signals and traffic as a problem of its own, for local training.

The streets are the district's edges and, as stubs without an end, the first edges behind its stop lines: so its signals
and their junctions are whole, with the right of way that they have in the whole network. Each visit of a vehicle
becomes a trip over the edges it drives there and the stub by which it leaves. It departs when it would get there at the
given seconds per edge. What lies beyond the border is not there: traffic leaves freely, and arrives unhindered.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from fedsched.envs.intersections.demand import Closure, Demand, Trip
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.problem import Problem, make_problem
from fedsched.envs.intersections.subnetwork import subnetwork
from fedsched.envs.intersections.tables import F64, I32, Flags, LinkKind

DEPART_SPEED = "max"
"""Of those who come from outside: they are on the move."""


def cut_out(problem: Problem, districts: Districts, name: str, edge_s: F64 | None = None) -> Problem:
    """The problem of one district.

    Args:
        problem: The whole network.
        districts: Its districts.
        name: Which one.
        edge_s: s from the beginning of each normal edge to that of the next, [E]; by default at the speed limits, see
            `edge_times`.

    Returns:
        As many instances as the whole has; a trip `t` that visits the district again and again is `t`, `t#1`, `t#2`.

    Raises:
        IntersectionsError: An unknown district.
    """
    own = districts.edge == districts.index(name)
    links, lanes = problem.tables.links, problem.tables.lanes
    entry = links.kind == LinkKind.ENTRY
    edges = np.zeros(len(problem.network.edges), dtype=np.bool_)
    edges[: len(own)] = own
    leaving = entry & edges[lanes.edge[links.source]]
    kept = edges.copy()
    kept[lanes.edge[links.target[leaving]]] = True
    network, number = subnetwork(problem.network, kept, edges, name)
    times = limit_times(problem) if edge_s is None else edge_s
    demands = [
        replace(_demand_inside(demand, own, number, times), closures=_closures_inside(problem, demand, network, number))
        for demand in problem.demands
    ]
    controlled = [signal.id for signal in problem.signals if districts.signal[signal.index] == districts.index(name)]
    title = f"{problem.name}/{name}"
    return make_problem(network, demands, problem.begin_s, problem.end_s, controlled, title)


def _closures_inside(problem: Problem, demand: Demand, network: Network, number: I32) -> tuple[Closure, ...]:
    """The closed lanes of the edges that stay, by their new numbers."""
    lanes = [(closure, problem.network.lanes[closure.lane]) for closure in demand.closures]
    return tuple(
        replace(closure, lane=network.edges[number[lane.edge]].lanes[lane.index])
        for closure, lane in lanes
        if number[lane.edge] >= 0
    )


def visits(route: Sequence[int], own: Flags) -> Iterator[tuple[int, int]]:
    """The stretches of a route inside a district: from which place to before which, [first, end)."""
    inside = [False, *(bool(own[edge]) for edge in route), False]
    starts = [n for n in range(len(route)) if inside[n + 1] and not inside[n]]
    ends = [n + 1 for n in range(len(route)) if inside[n + 1] and not inside[n + 2]]
    yield from zip(starts, ends, strict=True)


def _demand_inside(demand: Demand, own: Flags, number: I32, edge_s: F64) -> Demand:
    """Every visit as a trip, in order of departure."""
    parts = [list(visits(route, own)) for route in demand.routes]
    ahead_s = [[0.0, *accumulate(float(edge_s[edge]) for edge in route)] for route in demand.routes]
    routes: dict[tuple[int, ...], int] = {}
    trips: list[Trip] = []
    for trip in demand.trips:
        route = demand.routes[trip.route]
        for visit, (first, end) in enumerate(parts[trip.route]):
            way = tuple(int(number[edge]) for edge in route[first : end + 1])  # the stub included, if there is one
            part = replace(trip, route=routes.setdefault(way, len(routes)), places=())
            if visit:
                part = replace(part, id=f"{trip.id}#{visit}")
            if first:
                depart_s = trip.depart_s + ahead_s[trip.route][first]
                part = replace(
                    part, depart_s=depart_s, depart_speed=DEPART_SPEED, depart_lane="best_prob", depart_position="base"
                )
            trips.append(part)
    trips.sort(key=lambda trip: trip.depart_s)
    return Demand(demand.types, tuple(routes), tuple(trips), demand.digest, demand.ignored)


def limit_times(problem: Problem) -> F64:
    """Seconds along each normal edge and through the junction behind it at the speed limits, [E]."""
    lanes, links = problem.tables.lanes, problem.tables.links
    normal = np.flatnonzero(~lanes.internal)
    found = np.full(int(lanes.edge[normal].max(initial=-1)) + 1, np.inf)
    np.minimum.at(found, lanes.edge[normal], lanes.length[normal] / np.maximum(0.1, lanes.speed[normal]))
    inside = np.full(len(found), np.inf)
    for link in np.flatnonzero(links.kind == LinkKind.ENTRY).tolist():
        edge, lane, seconds = int(lanes.edge[links.source[link]]), int(links.next[link]), 0.0
        while lanes.internal[lane]:
            seconds += float(lanes.length[lane] / max(0.1, lanes.speed[lane]))
            lane = int(links.next[lanes.link_begin[lane]])
        inside[edge] = min(inside[edge], seconds)
    return found + np.where(np.isfinite(inside), inside, 0.0)
