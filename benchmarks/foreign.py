"""What it costs to step a foreign environment as a world, over stepping it by hand.

    python -m benchmarks.foreign

mpe2's simple_spread_v3 (3 agents), 64 copies, CPU time of this process per environment and step, the least of some
repeats in turn; `by hand` is the plain loop of dicts. With workers, what this process does beside them: the
environments' own time is theirs.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from mpe2 import simple_spread_v3

from benchmarks.report import parser, table, write
from fedsched.envs.core.foreign import ForeignWorld, foreign_world

ENTRY = "mpe2.simple_spread_v3:parallel_env"
BATCH, STEPS = 64, 24


def by_hand(actions: np.ndarray) -> Callable[[], float]:
    """A loop over environments and dicts; `actions` int64 [T, B, 3]."""
    envs = [simple_spread_v3.parallel_env() for _ in range(BATCH)]

    def episode() -> float:
        for seed, env in enumerate(envs):
            env.reset(seed=seed)
        begin = time.process_time()
        for step in actions:
            for env, row in zip(envs, step, strict=True):
                env.step(dict(zip(env.agents, row, strict=True)))
        return time.process_time() - begin

    return episode


def as_world(world: ForeignWorld, actions: np.ndarray) -> Callable[[], float]:
    """The same through a world."""
    rows = torch.arange(BATCH)
    table_ = [{"agent": torch.from_numpy(step)} for step in actions]

    def episode() -> float:
        world.reset(rows, rows)
        begin = time.process_time()
        for step in table_:
            world.step(step)
        return time.process_time() - begin

    return episode


def main() -> None:
    """Prints and writes microseconds per environment and step."""
    options = parser(__doc__, "foreign")
    options.add_argument("--repeats", type=int, default=10, help="how often each is measured, %(default)s")
    given = options.parse_args()
    torch.set_num_threads(1)
    actions = np.random.default_rng(0).integers(5, size=(STEPS, BATCH, 3))
    worlds = {f"{workers} workers": foreign_world(ENTRY, {}, BATCH, workers) for workers in (0, 2, 4)}
    ways = {"by hand": by_hand(actions)} | {name: as_world(world, actions) for name, world in worlds.items()}
    least = dict.fromkeys(ways, np.inf)
    for _ in range(given.repeats):
        for name, episode in ways.items():
            least[name] = min(least[name], episode() * 1e6 / STEPS / BATCH)
    for world in worlds.values():
        world.close()
    rows = [[name, value, value / least["by hand"]] for name, value in least.items()]
    table(["simple_spread_v3", "us a step", "of by hand"], rows)
    write(given.out, {"us_per_step": least, "batch": BATCH, "steps": STEPS})


if __name__ == "__main__":
    main()
