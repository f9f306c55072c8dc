"""Our own traffic on the cells of `benchmarks.sumo_truth`: same map, same fixed routes, own seeds, closed loop."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.agreement_measures import Cell, EdgeTimes, Seed
from benchmarks.edge_clock import EdgeClock
from benchmarks.sumo_truth import CONTROLLED
from fedsched.envs.intersections.configfile import read_config
from fedsched.envs.intersections.controllers import ProgramController, greedy, max_pressure
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.problem import Problem, make_problem
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.world import IntersectionsWorld

CONTROLLERS = {"static": ProgramController, "actuated": ProgramController, "greedy": greedy, "mp": max_pressure}
TIMINGS = {"static": "program", "actuated": "actuated"}


def problem_of(folder: Path, routes: Path) -> Problem:
    """A map of the benchmark with its fixed routes and the signals that are controlled there."""
    config = read_config(next(folder.glob("*.sumocfg")))
    network = read_network(config.network)
    demand = read_demand([routes], network, config.begin_s, config.end_s)
    return make_problem(network, [demand], config.begin_s, config.end_s, CONTROLLED.get(folder.name), folder.name)


def simulate(folder: Path, routes: Path, controller: str, seeds: Sequence[int]) -> Cell:
    """Runs all seeds of a cell as one batch; see `agreement_measures.Simulate`."""
    problem = problem_of(folder, routes)
    world = IntersectionsWorld(problem, len(seeds), TIMINGS.get(controller, "resco"))
    actor = CONTROLLERS[controller]()
    actor.reset(world)
    until_s = torch.zeros(len(seeds), dtype=torch.float64)
    observation = world.reset(torch.zeros(len(seeds), dtype=torch.int64), torch.tensor(list(seeds)), until_s=until_s)
    clock = EdgeClock(world)
    for second in range(1, problem.seconds + 1):
        observation = world.step(actor.act(observation), torch.full_like(until_s, second)).observation
        clock.second()
    figures = {name: values.tolist() for name, values in world.metrics().items()}
    found = {str(seed): _seed(figures, row, clock.times(row)) for row, seed in enumerate(seeds)}
    digest = hashlib.sha256(routes.read_bytes()).hexdigest()
    return Cell(folder.name, controller, "fedsched", digest, found, problem.network.digest)


def _seed(figures: dict[str, list[float]], row: int, edges: EdgeTimes) -> Seed:
    own = {name: values[row] for name, values in figures.items()}
    return Seed(
        completed=int(own["completed"]),
        running=int(own["running"]),
        never_inserted=int(own["never_inserted"]),
        duration_s=own["duration_s"],
        time_loss_s=own["time_loss_s"],
        waiting_s=own["waiting_s"],
        depart_delay_s=own["depart_delay_s"],
        delay_s=own["resco_delay_s"],
        edges=edges,
    )
