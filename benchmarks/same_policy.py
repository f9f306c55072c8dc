"""The same controller object on our traffic and on SUMO's: delay on both sides, and the speed of the SUMO worlds.

    python -m benchmarks.same_policy MAPS                       # grid4x4 and cologne1, greedy, `resco`, seeds 0 to 2
    python -m benchmarks.same_policy MAPS --maps cologne8 --controller max_pressure --seeds 0 1 2 3 4

MAPS holds a folder per map with a `.sumocfg`. Delay is RESCO's. *CPU s* of the SUMO world: its workers from their start
on and the parent. The wall clock counts from the first reset on, with as many workers as seeds. Needs the extra `sumo`.
"""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import parser, table, write
from benchmarks.traffic_speed import updates
from fedsched.envs.core import Controller
from fedsched.envs.intersections.controllers import greedy, max_pressure
from fedsched.envs.intersections.maps import resco_problem
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.envs.intersections.world import IntersectionsWorld

CONTROLLERS = {"greedy": greedy, "max_pressure": max_pressure}
COLUMNS = (
    "map", "digest", "ours s", "SUMO s", "difference %", "95 % +-", "updates/CPU s", "updates/wall s", "workers",
)  # fmt: skip


@dataclass(frozen=True)
class Played:
    """One batch of episodes: delay of each, vehicle updates, CPU and wall seconds."""

    delay_s: list[float]
    updates: int
    cpu_s: float
    wall_s: float


def cpu_s() -> float:
    """Of this process and of its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def play(world: IntersectionsWorld, controller: Controller, seeds: list[int]) -> Played:
    """Instance 0 under every seed."""
    controller.reset(world)
    cpu, wall = cpu_s(), time.perf_counter()
    observation, ended = world.reset(torch.zeros(len(seeds), dtype=torch.int64), torch.tensor(seeds)), False
    while not ended:
        moved = world.step(controller.act(observation))
        observation, ended = moved.observation, bool(moved.truncated.all())
    if isinstance(world, SumoWorld):
        world.close()  # the CPU time of workers is known once they have ended
    delay = world.metrics()["resco_delay_s"].tolist()
    return Played(delay, updates(world), cpu_s() - cpu, time.perf_counter() - wall)


def row(name: str, folder: Path, controller: str, timing: str, seeds: list[int]) -> tuple[object, ...]:
    """A map on both sides."""
    problem, actor = resco_problem(name, folder), CONTROLLERS[controller]()
    ours = play(IntersectionsWorld(problem, len(seeds), timing), actor, seeds)
    theirs = play(SumoWorld(problem, len(seeds), timing), actor, seeds)
    a, b = np.array(ours.delay_s), np.array(theirs.delay_s)
    half = 1.96 * np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(seeds))
    percent = 100.0 / b.mean()
    return (
        name, problem.digest[:8], float(a.mean()), float(b.mean()), float((a.mean() - b.mean()) * percent),
        float(half * percent), theirs.updates / theirs.cpu_s, theirs.updates / theirs.wall_s, len(seeds),
    )  # fmt: skip


def main() -> None:
    """Plays and prints."""
    options = parser(__doc__, "same_policy")
    options.add_argument("maps_folder", type=Path, metavar="MAPS")
    options.add_argument("--maps", nargs="+", default=["grid4x4", "cologne1"])
    options.add_argument("--controller", choices=CONTROLLERS, default="greedy")
    options.add_argument("--timing", default="resco")
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    chosen = options.parse_args()
    torch.set_num_threads(1)
    rows = [row(name, chosen.maps_folder, chosen.controller, chosen.timing, chosen.seeds) for name in chosen.maps]
    table(COLUMNS, rows)
    write(chosen.out, {"columns": COLUMNS, "rows": rows})


if __name__ == "__main__":
    main()
