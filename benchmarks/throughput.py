"""How fast agents learn, learning included, on one core: ours beside TorchRL's own PettingZoo path.

    OMP_NUM_THREADS=1 python -m benchmarks.throughput                        # our side alone
    OMP_NUM_THREADS=1 TORCHRL_PYTHON=... python -m benchmarks.throughput     # an interpreter with TorchRL and mpe2
    OMP_NUM_THREADS=1 python -m benchmarks.throughput --parts batches acting --device cuda

`spread` is mpe2's simple_spread_v3: two layers of 64 with tanh for the policy of all agents, and for a central critic;
an update is 5 passes of 4 minibatches over 1,600 steps. `datacenter` is a site of ours with three clusters, as each
side can best run it: TorchRL through our PettingZoo environment with flat observations, ours with all copies in one
batch and a policy that scores jobs. A step is one of one copy. CPU time of one process; sides take turns, and every
turn gives a ratio. `acting` is 64 worlds of 16 agents; `batches` is learning on the data centre with more and more
copies.
"""

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.throughput_acting import acting, batches
from benchmarks.throughput_ours import datacenter_side, measure, spread_side

Way = Callable[[], dict[str, Any]]
COPIES = {"spread": (64,), "datacenter": (16, 64)}
"""Ours, of which the first plays as many steps an update as TorchRL."""
THEIRS = {"spread": (1, 64), "datacenter": (1, 16)}
SIDES = {"spread": spread_side, "datacenter": datacenter_side}
PARTS = ("environment", "acting", "learning")
PYTHON = "TORCHRL_PYTHON"


def torchrl(python: str, world: str, copies: int, updates: int) -> dict[str, Any]:
    """What `benchmarks.throughput_torchrl` measures in an interpreter of its own."""
    root = Path(__file__).resolve().parent.parent
    wanted = {"--world": world, "--copies": str(copies), "--updates": str(updates)}
    command = [python, "-m", "benchmarks.throughput_torchrl", *(part for pair in wanted.items() for part in pair)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
    if done.returncode:
        raise SystemExit(f"the side of TorchRL failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ways_of(world: str, python: str | None, updates: int) -> dict[str, Way]:
    """All sides of one world, ours first."""
    ways: dict[str, Way] = {}
    for copies in COPIES[world]:
        ways[f"ours, {copies} copies"] = partial(_ours, world, copies, updates)
    for copies in THEIRS[world] if python else ():
        assert python is not None
        ways[f"TorchRL, {copies} copies"] = partial(torchrl, python, world, copies, updates)
    return ways


def _ours(world: str, copies: int, updates: int) -> dict[str, Any]:
    return measure(SIDES[world](copies), updates)


def compare(ways: Mapping[str, Way], repeats: int) -> dict[str, Any]:
    """Every way in turn, `repeats` times; ratios of CPU time per step over that of our fastest way, turn by turn."""
    turns = [{name: way() for name, way in ways.items()} for _ in range(repeats)]
    spent = {name: [sum(turn[name]["us_per_step"].values()) for turn in turns] for name in ways}
    ours = [name for name in ways if name.startswith("ours")]
    best = min(ours, key=lambda name: statistics.median(spent[name]))
    found: dict[str, Any] = {}
    for name in ways:
        us = {part: statistics.median(turn[name]["us_per_step"][part] for turn in turns) for part in PARTS}
        ratios = [theirs / mine for theirs, mine in zip(spent[name], spent[best], strict=True)]
        rates = [turn[name]["steps_per_s"] for turn in turns]
        found[name] = {"us_per_step": us, "steps_per_s": statistics.median(rates), "ratios": ratios}
        found[name] |= {key: turns[0][name][key] for key in ("versions",) if key in turns[0][name]}
    return found


def show(world: str, found: Mapping[str, Any]) -> None:
    """Prints a world's table."""
    rows = []
    for name, line in found.items():
        ratios = line["ratios"]
        middle = [statistics.median(ratios), min(ratios), max(ratios)]
        rows.append([name, *(line["us_per_step"][part] for part in PARTS), line["steps_per_s"], *middle])
    report.table([world, *(f"{part}, us" for part in PARTS), "steps/s", "ratio", "least", "most"], rows)


def show_rest(results: Mapping[str, Any]) -> None:
    """Prints what acting costs, and steps against copies."""
    if "acting" in results:
        cases = results["acting"]
        report.table(list(cases[0]), [list(case.values()) for case in cases])
    if "batches" in results:
        lines = results["batches"]
        rows = [[x["copies"], x["steps_per_s"], *(x["us_per_step"][part] for part in PARTS)] for x in lines]
        report.table(["copies", "steps/s", *(f"{part}, us" for part in PARTS)], rows)


def options() -> argparse.Namespace:
    """The command line."""
    parser = report.parser(__doc__, "throughput")
    parts = ("spread", "datacenter", "acting", "batches")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--repeats", type=int, default=5, help="turns of every side, %(default)s")
    parser.add_argument("--updates", type=int, default=2, help="that a turn measures after one more, %(default)s")
    python = os.environ.get(PYTHON)
    parser.add_argument("--torchrl-python", default=python, help=f"an interpreter with TorchRL; default ${PYTHON}")
    parser.add_argument("--device", default="cpu", help="of acting and batches, %(default)s")
    parser.add_argument("--copies", nargs="+", type=int, default=[1, 4, 16, 64, 256], help="of batches")
    return parser.parse_args()


def main() -> None:
    """Measures the parts that are asked for, prints tables and writes JSON."""
    given = options()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"device": given.device, "repeats": given.repeats, "updates": given.updates}
    for world in (part for part in given.parts if part in SIDES):
        results[world] = compare(ways_of(world, given.torchrl_python, given.updates), given.repeats)
        show(world, results[world])
    if "acting" in given.parts:
        results["acting"] = acting(given.device, given.repeats)
    if "batches" in given.parts:
        results["batches"] = batches(given.device, given.copies, given.updates)
    show_rest(results)
    report.write(given.out, results)


if __name__ == "__main__":
    main()
