"""The gates of districts as SUMO's workers see them."""

import numpy as np

from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.gate_arrays import gate_tables
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.sumo.gatekeeper import GatePlan, Guard
from fedsched.envs.intersections.timing import Timing


def gate_plan(problem: Problem, districts: Districts, timing: Timing, instance: int) -> GatePlan:
    """What a worker needs to count who passes gates and to hold those who may not.

    Args:
        problem: The city.
        districts: Whose gates.
        timing: Of the yellow.
        instance: Whose routes.
    """
    lanes, links, demand = problem.tables.lanes, problem.tables.links, problem.demands[instance]
    yellow = iter(gate_tables(districts, problem.tables, timing)["guard_yellow_s"].tolist())
    guards = tuple(
        tuple(Guard(int(links.signal[link]), int(links.signal_index[link]), next(yellow)) for link in gate.guards)
        for gate in districts.gates
    )
    through = np.flatnonzero(districts.link_gate >= 0)
    ends = lanes.edge[links.source[through]].tolist(), lanes.edge[links.target[through]].tolist()
    gates = districts.link_gate[through].tolist()
    before = np.where(lanes.internal, links.source[lanes.entry], np.arange(len(lanes.length)))
    return GatePlan(
        guards=guards,
        gate_of={(one, other): gate for one, other, gate in zip(*ends, gates, strict=True)},
        edge=tuple(lanes.edge[before].tolist()),
        inside=frozenset(np.flatnonzero(lanes.internal).tolist()),
        routes=tuple(demand.routes[trip.route] for trip in demand.trips),
    )
