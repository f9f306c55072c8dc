"""Speed of our traffic beside SUMO's, on the same maps, hours and routes, in one run on one core.

    python -m benchmarks.traffic_speed MAPS                        # beside SUMO (extra `sumo`), then the curve
    python -m benchmarks.traffic_speed MAPS --maps cologne1        # of one map
    python -m benchmarks.traffic_speed MAPS --maps grid4x4 --view  # agent-steps of the PettingZoo environment

MAPS holds a folder per map with a `.sumocfg`. A vehicle update is one vehicle on the road for one second; programs of
the files run. CPU seconds of the simulation alone, without reading files and compiling kernels. SUMO and we run in
turns; medians, also of the ratio of a turn. The curve leaves out the first 600 s, and times less of the hour where the
batch is large. Memory of a world: what a slot for a vehicle takes, and what all its arrays take, with the slots that
were used, divided by the vehicles on the road at most.
"""

import importlib.util
import time
from pathlib import Path
from statistics import median

import torch

from benchmarks.report import parser, table, write
from benchmarks.sumo_truth import REPEATS, in_own_process, read_map
from fedsched.envs.intersections.arrays import BY_SLOT, stored
from fedsched.envs.intersections.env import parallel_env
from fedsched.envs.intersections.maps import CONTROLLED
from fedsched.envs.intersections.problem import Problem, read_problem
from fedsched.envs.intersections.world import IntersectionsWorld

COLUMNS = (
    "map", "ours/CPU s", "SUMO/CPU s", "times", "bytes a slot", "vehicles at most", "bytes each", "import s", "digest",
)  # fmt: skip
BATCH = 64
CURVE = (1, 4, 16, 64, 256, 1024)
CURVE_MAPS = ("cologne1", "grid4x4")
WARM_S = 600
DECISIONS = 200
"""Of the PettingZoo environment."""


def updates(world: IntersectionsWorld) -> int:
    """Seconds that all vehicles of all copies spent on the road."""
    inserted, arrived = world.traffic["trip_inserted"].double(), world.traffic["trip_arrived"].double()
    end = world.traffic["now"].double()[:, None]
    return int(torch.where(inserted >= 0, torch.where(arrived >= 0, arrived, end) - inserted, 0.0).sum())


class Timed:
    """Copies of a map under the programs of its files.

    Args:
        problem: The map.
        batch: Number of copies.
    """

    def __init__(self, problem: Problem, batch: int) -> None:
        self.world = IntersectionsWorld(problem, batch, "program")
        self._keep = {self.world.spec.kinds[0].name: torch.full((batch, len(problem.signals)), problem.phases)}
        self.rate(0, 1)  # compiles and captures

    def rate(self, begin_s: float = 0, end_s: float = torch.inf) -> float:
        """Vehicle updates per CPU second of a stretch of the episode."""
        batch = self.world.batch
        self.world.reset(torch.zeros(batch, dtype=torch.int64), torch.arange(batch))
        self.world.step(self._keep, torch.full((batch,), float(begin_s), dtype=torch.float64))
        before, begin = updates(self.world), time.process_time()
        self.world.step(self._keep, torch.full((batch,), float(end_s), dtype=torch.float64))
        return (updates(self.world) - before) / (time.process_time() - begin)

    def memory(self) -> tuple[float, int, float]:
        """Bytes of a slot, vehicles at most so far in any copy, and bytes of all arrays of a copy for each of them."""
        world, most = self.world, int(self.world.traffic["most"].max())
        columns = stored(world.traffic) | world.control | world.counts
        slot = sum(columns[name].nbytes for name in BY_SLOT) / world.batch / world.slots
        view = sum(column.nbytes for column in world.view.values() if column.ndim > 2)
        rest = sum(column.nbytes for name, column in columns.items() if name not in BY_SLOT) + view
        return slot, most, slot + rest / world.batch / most


def row(folder: Path, sumo: bool, turns: int) -> tuple[object, ...]:
    """The map at the usual batch, in turns with SUMO."""
    begin = time.process_time()
    problem = read_problem(next(folder.glob("*.sumocfg")), CONTROLLED.get(folder.name))
    import_s = time.process_time() - begin
    timed, of = Timed(problem, BATCH), read_map(folder)
    ours, theirs = [], []
    for _ in range(turns):
        ours.append(timed.rate())
        if sumo:
            run = in_own_process(of, of.routes, "static", 0, False)
            theirs.append(run["vehicle_updates"] / run["cpu_s"])
    times = median(a / b for a, b in zip(ours, theirs, strict=True)) if sumo else None
    rate = median(theirs) if sumo else None
    return (folder.name, median(ours), rate, times, *timed.memory(), import_s, problem.digest[:8])


def curve(folder: Path, turns: int) -> list[tuple[object, ...]]:
    """Vehicle updates per CPU second by batch."""
    problem = read_problem(next(folder.glob("*.sumocfg")), CONTROLLED.get(folder.name))
    found: list[tuple[object, ...]] = []
    for batch in CURVE:
        end_s = WARM_S + min(3000, max(300, 48000 // batch))
        timed = Timed(problem, batch)
        found.append((folder.name, batch, median(timed.rate(WARM_S, end_s) for _ in range(turns)), end_s - WARM_S))
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
    options.add_argument("--turns", type=int, default=REPEATS, help="runs of each, %(default)s; medians")
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
    rows: list[tuple[object, ...]] = []
    points: list[tuple[object, ...]] = []
    for folder in folders:
        rows.append(row(folder, sumo, chosen.turns))
        write(chosen.out, {"columns": COLUMNS, "rows": rows, "curve": points})
    table(COLUMNS, rows)
    for folder in folders:
        points.extend(curve(folder, chosen.turns) if folder.name in CURVE_MAPS else ())
    table(("map", "batch", "ours/CPU s", "s timed"), points)
    write(chosen.out, {"columns": COLUMNS, "rows": rows, "curve": points})


if __name__ == "__main__":
    main()
