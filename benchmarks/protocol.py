"""The published batch-scheduling protocol: every cell of the classical rules, measured beside published.

    python -m benchmarks.protocol                  # Lublin-1 and HPC2N, whose logs are shipped
    python -m benchmarks.protocol --data DIR       # also SDSC-SP2 and Lublin-2 (or set FEDSCHED_DATA)

Ten windows of 1,024 jobs of each log. Committing engine: bounded slowdown and utilisation of five rules without and
with the protocol's backfilling, against the tables of RLScheduler. Event engine: bounded slowdown, wait and utilisation
of nine rules without and with EASY, against an independent simulator (tests/envs/datacenter/expected/SOURCE.md).
"""

import json
import math
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import parser, table, write
from fedsched.envs.datacenter.model import Cluster, DatacenterError, SiteModel
from fedsched.envs.datacenter.rules import Rule
from fedsched.envs.datacenter.trace import FOLDER_VARIABLE, Trace, load
from fedsched.envs.datacenter.workload import LogWindows
from fedsched.envs.datacenter.world import DatacenterWorld

LOGS = ("lublin-1", "sdsc-sp2", "hpc2n", "lublin-2")
RULES = ("fcfs", "wfp3-published", "unicep-published", "sjf", "f1")
# D. Zhang et al., RLScheduler (SC'20), tables V and VI as in the README of DIR-LAB/deep-batch-scheduler; columns: RULES
SLOWDOWN = {
    ("lublin-1", False): (7273.77, 19753.53, 22274.74, 277.35, 258.37),
    ("sdsc-sp2", False): (1727.54, 3000.88, 1848.45, 2680.55, 1232.06),
    ("hpc2n", False): (297.18, 426.99, 609.77, 157.71, 118.01),
    ("lublin-2", False): (7842.47, 9523.18, 11265.31, 787.89, 698.34),
    ("lublin-1", True): (235.82, 133.87, 307.23, 73.31, 75.07),
    ("sdsc-sp2", True): (1595.12, 1083.12, 548.01, 2167.84, 1098.22),
    ("hpc2n", True): (127.38, 97.39, 175.12, 122.04, 71.95),
    ("lublin-2", True): (247.61, 318.35, 379.59, 91.99, 148.25),
}
UTILIZATION = {
    ("lublin-1", False): (0.657, 0.747, 0.691, 0.762, 0.816),
    ("sdsc-sp2", False): (0.670, 0.658, 0.688, 0.645, 0.674),
    ("hpc2n", False): (0.638, 0.636, 0.636, 0.640, 0.637),
    ("lublin-2", False): (0.404, 0.543, 0.510, 0.562, 0.478),
    ("lublin-1", True): (0.868, 0.864, 0.883, 0.778, 0.840),
    ("sdsc-sp2", True): (0.682, 0.681, 0.706, 0.661, 0.677),
    ("hpc2n", True): (0.639, 0.637, 0.638, 0.641, 0.638),
    ("lublin-2", True): (0.587, 0.583, 0.587, 0.593, 0.552),
}
PUBLISHED = {"bounded_slowdown": (SLOWDOWN, 0.01), "utilization_published": (UTILIZATION, 0.001)}
"""Tables, and how far a cell may be off."""
EXPECTED = Path(__file__).parents[1] / "tests/envs/datacenter/expected"
EVENT_FIGURES = ("bounded_slowdown", "wait_s", "utilization")
RELATIVE = 1e-9
"""How far a figure of the event engine may be off: means of equal schedules, added up in another order."""


def run(trace: Trace, rules: list[str], committing: bool, backfill: bool = False) -> dict[str, torch.Tensor]:
    """Figures of rules on the ten test windows, each [rules, 10]."""
    windows = LogWindows(trace)
    count = len(windows.starts)
    site = SiteModel((Cluster(trace.processors),))
    world = DatacenterWorld(site, windows, len(rules) * count, "committing" if committing else "event", backfill)
    instances = torch.tensor([windows.instance("test", k) for k in range(count)] * len(rules))
    world.reset(instances, instances)
    world.run_rules([rule for rule in rules for _ in range(count)])
    return {name: values.view(len(rules), count) for name, values in world.metrics().items()}


def committing_cells(trace: Trace) -> list[dict[str, Any]]:
    """The cells of one log of both published tables."""
    cells = []
    for backfill in (False, True):
        figures = run(trace, list(RULES), True, backfill)
        for figure, (published, tolerance) in PUBLISHED.items():
            for k, rule in enumerate(RULES):
                measured, wanted = float(figures[figure][k].mean()), published[trace.name, backfill][k]
                cells.append(_cell("committing", trace.name, rule, backfill, figure, measured, wanted, tolerance))
    return cells


def event_cells(trace: Trace) -> list[dict[str, Any]]:
    """Nine rules without and with EASY on one log, against the independent simulator."""
    found = [json.loads(path.read_text()) for path in sorted(EXPECTED.glob("windows_1024*.json"))]
    expected = next(part[trace.name]["event"] for part in found if trace.name in part)
    names = [rule.label for rule in Rule if rule <= Rule.F4]
    cells = []
    for easy in (False, True):
        rules = [f"{name}-easy" if easy else name for name in names]
        figures = run(trace, rules, False)
        for k, rule in enumerate(rules):
            for figure in EVENT_FIGURES:
                measured, wanted = float(figures[figure][k].mean()), expected[rule][figure]
                slack = RELATIVE * abs(wanted)
                cells.append(_cell("event", trace.name, names[k], easy, figure, measured, wanted, slack))
    return cells


def _cell(
    engine: str, log: str, rule: str, backfill: bool, figure: str, measured: float, wanted: float, slack: float
) -> dict[str, Any]:
    return {
        "engine": engine, "log": log, "rule": rule, "backfill": backfill, "figure": figure, "measured": measured,
        "published": wanted, "difference": measured - wanted, "agrees": abs(measured - wanted) <= slack,
    }  # fmt: skip


def show(cells: list[dict[str, Any]]) -> None:
    """One line a cell, and how many agree."""
    keys = ("engine", "log", "backfill", "figure", "rule", "measured", "published", "difference", "agrees")
    shown = [[str(c[k]) if isinstance(c[k], bool) else c[k] for k in keys] for c in cells]
    table([k.replace("published", "expected") for k in keys], shown)
    for engine, figure in dict.fromkeys((c["engine"], c["figure"]) for c in cells):
        group = [c for c in cells if (c["engine"], c["figure"]) == (engine, figure)]
        agree = sum(c["agrees"] for c in group)
        worst = max(abs(c["difference"]) for c in group)
        print(f"{engine}, {figure}: {agree} of {len(group)} cells agree, largest difference {worst:.3g}")


def main() -> int:
    """Prints and writes all cells; 1 if one disagrees."""
    arguments = parser(__doc__, "protocol")
    arguments.add_argument("--data", help=f"folder of the logs that are not shipped (default: ${FOLDER_VARIABLE})")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    cells, missing = [], {}
    for log in LOGS:
        try:
            trace = load(log, options.data)
        except DatacenterError as error:
            missing[log] = str(error)
            continue
        cells += committing_cells(trace) + event_cells(trace)
    show(cells)
    for log, reason in missing.items():
        print(f"MISSING, not measured: {log}: {reason}")
    write(options.out, {"cells": cells, "missing": missing})
    return 0 if all(c["agrees"] and not math.isnan(c["measured"]) for c in cells) else 1


if __name__ == "__main__":
    raise SystemExit(main())
