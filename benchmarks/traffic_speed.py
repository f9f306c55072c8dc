"""Speed of our traffic beside SUMO's, on the same maps, hours and routes, in one run on one core.

    python -m benchmarks.traffic_speed MAPS                             # both, batch 64; SUMO needs the extra `sumo`
    python -m benchmarks.traffic_speed MAPS --maps grid4x4 --batch 1 16 64 256
    python -m benchmarks.traffic_speed MAPS --maps grid4x4 --view       # agent-steps of the PettingZoo environment

MAPS holds a folder per map with a `.sumocfg`. A vehicle update is one vehicle on the road for one second; programs of
the files run. CPU seconds of the simulation alone, without reading files and compiling kernels. Memory: the arrays of
a world with an entry per slot of a vehicle.
"""

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.report import parser, table, write
from benchmarks.sumo_truth import read_map
from benchmarks.sumo_truth import speed as speed_of_sumo
from fedsched.envs.intersections.env import parallel_env
from fedsched.envs.intersections.maps import CONTROLLED
from fedsched.envs.intersections.problem import Problem, read_problem
from fedsched.envs.intersections.world import IntersectionsWorld

COLUMNS = ("map", "batch", "ours/CPU s", "SUMO/CPU s", "times", "bytes a vehicle", "import s", "digest")
DECISIONS = 200
"""Of the PettingZoo environment."""


def updates(world: IntersectionsWorld) -> int:
    """Seconds that all vehicles of all copies spent on the road."""
    inserted, arrived = world.traffic["trip_inserted"].double(), world.traffic["trip_arrived"].double()
    end = world.traffic["now"].double()[:, None]
    return int(torch.where(inserted >= 0, torch.where(arrived >= 0, arrived, end) - inserted, 0.0).sum())


def bytes_per_vehicle(world: IntersectionsWorld) -> float:
    """Of everything that has one entry per slot of a vehicle."""
    columns = [column for column in world.traffic.values() if column.ndim > 1 and column.shape[1] == world.slots]
    return sum(column[0].nbytes for column in columns) / world.slots


def measure(problem: Problem, batch: int) -> tuple[float, float]:
    """Vehicle updates per CPU second, and bytes per slot of a vehicle."""
    world = IntersectionsWorld(problem, batch, "program")
    instances, seeds = torch.zeros(batch, dtype=torch.int64), torch.arange(batch)
    keep = {world.spec.kinds[0].name: torch.full((batch, len(problem.signals)), problem.phases)}
    world.reset(instances, seeds)  # compiles and captures
    world.step(keep, torch.full((batch,), 1.0, dtype=torch.float64))
    world.reset(instances, seeds)
    begin = time.process_time()
    world.step(keep)
    return updates(world) / (time.process_time() - begin), bytes_per_vehicle(world)


def row(folder: Path, batches: Sequence[int], sumo: bool) -> list[tuple[object, ...]]:
    """The map under each batch, and SUMO once."""
    begin = time.process_time()
    problem = read_problem(next(folder.glob("*.sumocfg")), CONTROLLED.get(folder.name))
    import_s = time.process_time() - begin
    theirs = speed_of_sumo(read_map(folder))["vehicle_updates_per_cpu_s"] if sumo else None
    found: list[tuple[object, ...]] = []
    for batch in batches:
        ours, memory = measure(problem, batch)
        times = ours / theirs if theirs else None
        found.append((folder.name, batch, ours, theirs, times, memory, import_s, problem.digest[:8]))
    return found


def view(folder: Path) -> float:
    """Agent-steps per CPU second of the PettingZoo environment under `sumo_rl` timing, random legal actions."""
    environment = parallel_env(next(folder.glob("*.sumocfg")), "sumo_rl")
    _, infos = environment.reset(seed=0)
    steps, begin = 0, 0.0
    for decision in range(DECISIONS + 1):
        if decision == 1:  # the first compiles
            steps, begin = 0, time.process_time()
        legal = {
            agent: environment.action_space(agent).sample(infos[agent]["action_mask"]) for agent in environment.agents
        }
        _, _, _, _, infos = environment.step(legal)
        steps += len(legal)
    return steps / (time.process_time() - begin)


def main() -> None:
    """Measures and prints."""
    options = parser(__doc__, "traffic_speed")
    options.add_argument("maps_folder", type=Path, metavar="MAPS")
    options.add_argument("--maps", nargs="+", help="which; default: all in the folder")
    options.add_argument("--batch", nargs="+", type=int, default=[64])
    options.add_argument("--view", action="store_true", help="the PettingZoo environment instead")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    names = chosen.maps or sorted(folder.name for folder in chosen.maps_folder.iterdir() if folder.is_dir())
    folders = [chosen.maps_folder / name for name in names]
    if chosen.view:
        rates = [(folder.name, view(folder)) for folder in folders]
        table(("map", "agent-steps/CPU s"), rates)
        write(chosen.out, {"view": rates})
        return
    sumo = importlib.util.find_spec("libsumo") is not None
    rows = [line for folder in folders for line in row(folder, chosen.batch, sumo)]
    table(COLUMNS, rows)
    write(chosen.out, {"columns": COLUMNS, "rows": rows})


if __name__ == "__main__":
    main()
