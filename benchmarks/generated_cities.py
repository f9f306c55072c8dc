"""Generated cities in our world and in SUMO 1.28: mean trip duration and waiting, with their programs.

    python -m benchmarks.generated_cities                # ten seeds a side, about two minutes on one core
    python -m benchmarks.generated_cities --seeds 3

One city of each shape as it is by default, and the same with incidents, written as SUMO's files and run from these; the
same trips on the same routes, own draws on each side. Vehicles depart for 20 minutes and have another 20 to arrive.
SUMO leaves out those who depart while an incident cuts their route (`inserted`); we let them wait. Needs the extra
`sumo`.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.agreement_measures import welch
from benchmarks.report import parser, table, write
from fedsched.envs.intersections.controllers import ProgramController
from fedsched.envs.intersections.generate import Arterial, City, Grid, Incident, Irregular, Ring, Traffic, write_city
from fedsched.envs.intersections.problem import Problem, read_problem
from fedsched.envs.intersections.sumo.outputs import Outcome
from fedsched.envs.intersections.sumo.simulation import SumoSetup, SumoSimulation
from fedsched.envs.intersections.world import IntersectionsWorld

SECONDS = 2400
DEPARTING = ((0.0, 1.0), (1199.0, 1.0), (1200.0, 0.0))
CITIES: Mapping[str, tuple[City, float, tuple[Incident, ...]]] = {
    "grid": (Grid(), 2400.0, (Incident("r1c0-r1c1", 300, 500), Incident("r1c1-r1c2", 300, 600, 1))),
    "arterial": (Arterial(), 2400.0, (Incident("x1-x2", 300, 700, 0), Incident("x3-x2", 300, 700, 1))),
    "ring": (Ring(), 1800.0, (Incident("give_way0-ring1", 300, 600, 0), Incident("hub-ring3", 300, 500))),
    "irregular": (Irregular(), 1500.0, (Incident("j4-j10", 300, 600),)),
}
"""City, vehicles an hour, incidents."""
SEED = 1
COLUMNS = (
    "city",
    "incidents",
    "metric",
    "SUMO",
    "ours",
    "difference %",
    "low %",
    "high %",
    "inserted",
    "SUMO inserted",
)

Values = npt.NDArray[np.float64]


def ours(problem: Problem, seeds: int) -> dict[str, Values]:
    """The figures of every seed in our world."""
    world, controller = IntersectionsWorld(problem, seeds, "program"), ProgramController()
    controller.reset(world)
    observation, ended = world.reset(torch.zeros(seeds, dtype=torch.int64), torch.arange(seeds)), False
    while not ended:
        moved = world.step(controller.act(observation))
        observation, ended = moved.observation, bool(moved.truncated.all())
    return {name: values.numpy() for name, values in world.metrics().items()}


def theirs(folder: Path, problem: Problem, seed: int) -> Outcome:
    """One run of SUMO."""
    options = ("--additional-files", str(folder / "city.add.xml"), "--ignore-route-errors", "true")
    setup = SumoSetup(folder / "city.net.xml", (folder / "city.rou.xml",), 0, SECONDS, seed, options=options)
    with SumoSimulation(setup) as simulation:
        simulation.step(SECONDS)
        return simulation.outcome(problem.demands[0].departures_s())


def compare(name: str, city: City, traffic: Traffic, seeds: int) -> list[list[object]]:
    """Two rows: durations and waiting."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        problem = read_problem(write_city(city, traffic, folder, SEED))
        runs = [theirs(folder, problem, seed) for seed in range(seeds)]
    own, rows = ours(problem, seeds), []
    inserted = int((own["completed"] + own["running"]).min()), min(run.completed + run.running for run in runs)
    for metric in ("duration_s", "waiting_s"):
        sumo = np.array([getattr(run, metric) for run in runs])
        low, high = welch(own[metric], sumo)
        mean = float(sumo.mean())
        shares = [100 * value / mean for value in (float(own[metric].mean()) - mean, low, high)]
        rows.append([name, str(len(traffic.incidents)), metric, mean, float(own[metric].mean()), *shares, *inserted])
    return rows


def main() -> None:
    """Compares, prints, writes."""
    options = parser(__doc__, "generated_cities")
    options.add_argument("--seeds", type=int, default=10, help="runs a side, %(default)s")
    chosen = options.parse_args()
    rows = []
    for name, (city, rate, incidents) in CITIES.items():
        plain = Traffic(vehicles_per_h=rate, seconds=SECONDS, profile=DEPARTING)
        for traffic in (plain, replace(plain, incidents=incidents)):
            rows += compare(name, city, traffic, chosen.seeds)
    table(COLUMNS, rows)
    write(chosen.out, {"columns": COLUMNS, "rows": rows, "seeds": chosen.seeds})


if __name__ == "__main__":
    main()
