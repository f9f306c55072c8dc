"""The plan on against off, on scenarios that were committed before the market was tuned (benchmarks/plan_cases.py).

    python -m benchmarks.plan                      # saf-easy at every site, about two minutes
    python -m benchmarks.plan --rule f2-easy       # another rule
    python -m benchmarks.plan --run FOLDER         # also the policy of a run; sites take the run's site of that name

Four unlike centres, mean load 25, 50, 60, 80 %, balanced and unbalanced, three seeds of eight periods of three days and
three days of drain. Figures are sums over all sites: waits and bounded slowdowns over all jobs, each counted at its
home site from its first submission; facility energy and carbon. The change is of the sums over the 24 periods of a
cell; its interval (95 %) is a paired bootstrap over those periods, resampled within seeds. All cells are printed.
"""

import argparse
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.plan_cases import BENCHMARK, DEVELOPMENT, Case, cases
from benchmarks.report import parser, table, write
from fedsched.envs.datacenter.splits import Split
from fedsched.sim.domains.base import POLICY
from fedsched.sim.folder import read_run
from fedsched.sim.operate import Operated, Operator
from fedsched.sim.site import Site
from fedsched.sim.stage import Apart
from fedsched.sim.training import Parameters
from fedsched.sim.workers import start

FIGURES = {"wait_s": "wait", "bounded_slowdown": "slowdown", "energy_kwh": "energy", "carbon_kg": "carbon"}
PER_JOB = ("wait_s", "bounded_slowdown")
"""Figures that are means over jobs; the sum over sites weighs them by jobs."""
DRAWS = 4000

FloatArray = npt.NDArray[np.float64]


def sums(operated: Operated) -> dict[str, FloatArray]:
    """Sums over sites, each [rows]."""
    totals = {"jobs": operated.total("jobs"), "unfinished": operated.total("unfinished")}
    for figure in FIGURES:
        parts = [
            by_name[figure] * (by_name["jobs"] if figure in PER_JOB else 1) for by_name in operated.figures.values()
        ]
        totals[figure] = np.sum(parts, axis=0)
    return totals


def operate(case: Case, actor: str, trained: Mapping[str, Parameters], split: Split) -> dict[str, Any]:
    """One case without and with the plan."""
    scenario = case.scenario()
    parameters = {site: trained.get(site, next(iter(trained.values()), {})) for site in scenario.sites}
    actors = dict.fromkeys(scenario.sites, actor)
    with start({name: partial(Site, scenario, name) for name in scenario.sites}, scenario.workers) as workers:
        operator = Operator(Apart(workers, scenario), scenario)
        off = operator.operate(actors, parameters, split)
        on = operator.operate(actors, parameters, split, scenario.plan, "benchmark")
    return {"off": sums(off), "on": sums(on), "traffic": vars(on.traffic)}


def interval(off: list[FloatArray], on: list[FloatArray]) -> tuple[float, float, float]:
    """Relative change of the sum, and its 95 % interval by a paired bootstrap over periods within seeds."""
    rng = np.random.default_rng(0)
    before, after = np.zeros(DRAWS), np.zeros(DRAWS)
    for a, b in zip(off, on, strict=True):
        picked = rng.integers(len(a), size=(DRAWS, len(a)))
        before += a[picked].sum(1)
        after += b[picked].sum(1)
    low, high = np.quantile(after / before - 1.0, (0.025, 0.975))
    return float(np.sum(on) / np.sum(off) - 1.0), float(low), float(high)


def cell(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the seeds of a cell come to."""
    jobs = float(sum(run["off"]["jobs"].sum() for run in runs))
    found: dict[str, Any] = {
        "jobs": jobs,
        "moved": sum(run["traffic"]["moved"] for run in runs),
        "data_gb": sum(run["traffic"]["data_mb"] for run in runs) / 1e3,
        "processor_hours_committed": sum(run["traffic"]["quantity"] for run in runs),
        "unfinished_off": float(sum(run["off"]["unfinished"].sum() for run in runs)),
        "unfinished_on": float(sum(run["on"]["unfinished"].sum() for run in runs)),
    }
    for figure in FIGURES:
        off, on = [run["off"][figure] for run in runs], [run["on"][figure] for run in runs]
        change, low, high = interval(off, on)
        found[figure] = {
            "off": float(np.sum(off)), "on": float(np.sum(on)), "change": change, "low": low, "high": high,
            "off_by_period": np.concatenate(off).tolist(), "on_by_period": np.concatenate(on).tolist(),
        }  # fmt: skip
    return found


def show(cells: list[dict[str, Any]]) -> None:
    """One line a cell; changes in per cent with their intervals."""
    rows = []
    for c in cells:
        changes = [
            f"{100 * c[f]['change']:+.1f} [{100 * c[f]['low']:+.1f}, {100 * c[f]['high']:+.1f}]" for f in FIGURES
        ]
        per_job = [f"{c['wait_s'][arm] / c['jobs'] / 3600:.3f}" for arm in ("off", "on")]
        slow = [f"{c['bounded_slowdown'][arm] / c['jobs']:.2f}" for arm in ("off", "on")]
        rows.append([
            c["actor"], f"{c['load']:.0%} {c['balance']}", " > ".join(per_job), " > ".join(slow), *changes, c["moved"],
        ])  # fmt: skip
    changes = [f"{name} %" for name in FIGURES.values()]
    table(["actor", "cell", "wait h", "slowdown", *changes, "jobs moved"], rows)


def trained_policy(folder: Path) -> dict[str, Parameters]:
    """The chosen parameters of a finished run, by site."""
    checkpoint = read_run(folder).checkpoint()
    if checkpoint is None:
        raise SystemExit(f"{folder}: has no checkpoint, so there is no policy to operate")
    chosen: dict[str, Parameters] = checkpoint.shared()["selection"]["parameters"]
    return chosen


def run_cells(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells under every actor."""
    arms: dict[str, Mapping[str, Parameters]] = {options.rule: {}}
    if options.run is not None:
        arms[POLICY] = trained_policy(options.run)
    split: Split = "train" if options.development else "test"
    seeds = DEVELOPMENT if options.development else BENCHMARK
    cells = []
    for actor, trained in arms.items():
        groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
        for case in cases(seeds):
            groups.setdefault((case.load, case.balance), []).append(operate(case, actor, trained, split))
        cells += [{"actor": actor, "load": load, "balance": b, **cell(runs)} for (load, b), runs in groups.items()]
    return cells


def main() -> None:
    """Prints and writes all cells."""
    arguments = parser(__doc__, "plan")
    arguments.add_argument("--rule", default="saf-easy", help="the rule at every site (default: saf-easy)")
    arguments.add_argument("--run", type=Path, help="a run folder whose policy is operated as well")
    arguments.add_argument("--development", action="store_true", help="the seeds and jobs that the market is tuned on")
    options = arguments.parse_args()
    begin = time.process_time()
    cells = run_cells(options)
    show(cells)
    write(
        options.out,
        {
            "seeds": DEVELOPMENT if options.development else BENCHMARK,
            "cpu_s": time.process_time() - begin,
            "cells": cells,
        },
    )


if __name__ == "__main__":
    main()
