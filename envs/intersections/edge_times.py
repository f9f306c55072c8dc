"""How long vehicles take along each edge, measured in a run of the whole network."""

import numpy as np
import torch

from fedsched.envs.core import Controller
from fedsched.envs.intersections.controllers import ProgramController
from fedsched.envs.intersections.cutout import limit_times
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.tables import F64, I32
from fedsched.envs.intersections.world import IntersectionsWorld


def edge_times(problem: Problem, seeds: int = 1, controller: Controller | None = None, timing: str = "program") -> F64:
    """Mean seconds from the beginning of each normal edge to that of the next, junction and queues included, [E].

    Every demand is run once with each seed. Where nobody drives it is the time at the speed limits.

    Args:
        problem: The whole network.
        seeds: How many, from 0.
        controller: Who decides; by default the programs of the files run.
        timing: When.
    """
    demands = len(problem.demands)
    world = IntersectionsWorld(problem, demands * seeds, timing)
    driver = ProgramController() if controller is None else controller
    driver.reset(world)
    until = torch.zeros(world.batch, dtype=torch.float64)
    rows = torch.arange(world.batch)
    observation = world.reset(rows % demands, rows // demands, until_s=until)
    edges = len(limit_times(problem))
    seconds = np.zeros(edges)
    for now in range(1, problem.seconds + 1):
        until.fill_(float(now))
        while float(observation.time_s.min()) < now:
            observation = world.step(driver.act(observation), until).observation
        seconds += np.bincount(_edges_now(world), minlength=edges)
    visits = _visits(world, edges)
    return np.where(visits > 0, seconds / np.maximum(1, visits), limit_times(problem))


def _edges_now(world: IntersectionsWorld) -> I32:
    """The edge that everyone on the road is on, or has left last."""
    traffic = world.traffic
    driving = torch.arange(world.slots, device=world.device) < traffic["count"][:, None]
    rows: I32 = (traffic["way"] + traffic["place"])[driving].cpu().numpy()
    return np.take(world.problem.tables.ways.edge, rows)


def _visits(world: IntersectionsWorld, edges: int) -> F64:
    """How many have driven on each edge so far."""
    traffic, tables = world.traffic, world.problem.tables
    found = np.zeros(edges)
    arrived = traffic["trip_arrived"].cpu().numpy() >= 0
    first = traffic["first_trip"].cpu().numpy()
    for row in range(world.batch):
        trips = np.flatnonzero(arrived[row]) + first[row]
        ends = [(int(tables.vehicles.way[trip]), int(tables.vehicles.edges[trip])) for trip in trips]
        count = int(traffic["count"][row])
        way, place = (traffic[name][row, :count].tolist() for name in ("way", "place"))
        ends += [(begin, at + 1) for begin, at in zip(way, place, strict=True)]
        for begin, number in ends:
            np.add.at(found, tables.ways.edge[begin : begin + number], 1.0)
    return found
