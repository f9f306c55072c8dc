"""Gates where traffic enters a city: the first signals that it meets.

A road is an approach if no vehicle on it has passed a signal yet. Who is held at the end of an approach stands in
nobody's way, so this is where a city that is too full holds vehicles back (perimeter control; Keyvan-Ekbatani et al.,
Exploiting the fundamental diagram of urban networks for feedback-based gating, 2012).
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from fedsched.envs.intersections.districts import OUTSIDE, Districts, Gate
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.tables import Flags, LinkKind


def with_entrances(problem: Problem, districts: Districts) -> Districts:
    """The districts with one more gate for each that traffic enters from outside (`Gate.source` is `OUTSIDE`).

    Links that lead from an approach straight into another district stay with the gate between the two.
    """
    return _add_entrances(problem, districts, approaches(problem))


def approaches(problem: Problem) -> Flags:
    """Which normal edges are approaches under the problem's demands, [E]."""
    links, lanes = problem.tables.links, problem.tables.lanes
    entry = np.flatnonzero(links.kind == LinkKind.ENTRY)
    guarded = {
        (int(one), int(other)): bool(signal >= 0)
        for one, other, signal in zip(
            lanes.edge[links.source[entry]], lanes.edge[links.target[entry]], links.signal[entry], strict=True
        )
    }
    edges = int(lanes.edge[~lanes.internal].max(initial=-1)) + 1
    driven, behind = np.zeros(edges, dtype=np.bool_), np.zeros(edges, dtype=np.bool_)
    for demand in problem.demands:
        for number in {trip.route for trip in demand.trips}:
            route = demand.routes[number]
            driven[list(route)] = True
            met = False
            for one, other in pairwise(route):
                met = met or guarded[one, other]
                behind[other] |= met
    return driven & ~behind


def _add_entrances(problem: Problem, districts: Districts, approach: Flags) -> Districts:
    links, lanes = problem.tables.links, problem.tables.lanes
    source, normal = lanes.edge[links.source], ~lanes.internal
    free = (links.kind == LinkKind.ENTRY) & (links.signal >= 0) & (districts.link_gate < 0)
    link_gate, gates = districts.link_gate.copy(), list(districts.gates)
    for number in range(len(districts.names)):
        own = approach & (districts.edge == number)
        guards = np.flatnonzero(free & np.append(own, False)[np.minimum(source, len(own))])
        if not len(guards):
            continue
        link_gate[guards] = len(gates)
        edges = tuple(np.unique(lanes.edge[links.target[guards]]).tolist())
        inside = np.isin(lanes.edge, edges) & normal
        storage_m = float(lanes.length[inside].sum())
        gates.append(Gate(OUTSIDE, number, tuple(guards.tolist()), (), edges, int(inside.sum()), storage_m))
    return replace(districts, gates=tuple(gates), link_gate=link_gate, approach=approach)


def in_cut_out(problem: Problem, districts: Districts, local: Problem) -> Districts:
    """The districts of a city as they are in one district's cut-out: the same gates, as far as they lie there.

    Args:
        problem: The whole network.
        districts: Its districts.
        local: A cut-out of it.
    """
    whole, part = problem.network, local.network
    edge_of = {edge.id: n for n, edge in enumerate(whole.edges) if not edge.internal}
    signal_of = {own.id: n for n, own in enumerate(whole.signals)}
    link_of = {_ends(problem, link): link for link in _entry_links(problem)}
    edge = np.array([edge_of[own.id] for own in part.edges if not own.internal])
    signal = np.array([signal_of[own.id] for own in part.signals], dtype=np.int64)
    link_gate = np.full(len(local.tables.links.source), -1, dtype=np.int32)
    place: dict[int, int] = {}
    for link in _entry_links(local):
        old = link_of[_ends(local, link)]
        place[old], link_gate[link] = link, districts.link_gate[old]
    gates = tuple(
        replace(gate, guards=tuple(place[link] for link in gate.guards if link in place), unguarded=(), edges=())
        for gate in districts.gates
    )
    site = np.array([districts.signal[signal[own.index]] for own in local.signals], dtype=np.int64)
    approach = None if districts.approach is None else districts.approach[edge]
    return Districts(districts.names, districts.edge[edge], districts.signal[signal], site, gates, link_gate, approach)


def _entry_links(problem: Problem) -> list[int]:
    found: list[int] = np.flatnonzero(problem.tables.links.kind == LinkKind.ENTRY).tolist()
    return found


def _ends(problem: Problem, link: int) -> tuple[str, str]:
    """The ids of the lanes that a link joins."""
    links, lanes = problem.tables.links, problem.network.lanes
    return lanes[int(links.source[link])].id, lanes[int(links.target[link])].id
