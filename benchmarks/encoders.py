"""The pointwise against the attention encoder at equal CPU time, by PPO alone from the same soft SAF.

    OMP_NUM_THREADS=1 python -m benchmarks.encoders                   # two logs, three seeds, 120 CPU s each

Each encoder makes as many updates as it manages; its step sizes fall over the number that a thrown away update
foretells. What is judged is the running average of the updates, on the ten published windows, which are never trained
on. Read the pair: mean bounded slowdown, and mean wait relative to that of the best rule there.
"""

import time
from typing import Any

import numpy as np
import torch

from benchmarks import report
from benchmarks.learning import overrides
from fedsched.agents.collect import evaluate
from fedsched.sim.domains.datacenter.site import DatacenterSite
from fedsched.sim.scenario import load_scenario
from fedsched.sim.training import Trainer

ENCODERS = ("pointwise", "attention")
LOGS = ("hpc2n", "lublin-1")


def trainer(log: str, encoder: str, seed: int, updates: int) -> tuple[Trainer, DatacenterSite]:
    """A learner of the protocol that plans so many updates, without the search."""
    changes = [*overrides(log, seed), f"agents.encoder.kind={encoder}", "agents.search=null"]
    plan = [f"federation.rounds={updates}", "federation.local_updates=1"]
    scenario = load_scenario("datacenter_protocol", [*changes, *plan])
    worlds = DatacenterSite(scenario, next(iter(scenario.sites)))
    _ = worlds.validation  # rules are judged before the clock runs
    return Trainer(scenario, [worlds]), worlds


def learn(log: str, encoder: str, seed: int, budget_s: float) -> dict[str, Any]:
    """Trains for `budget_s` CPU seconds and judges the policy."""
    first, _ = trainer(log, encoder, seed, 1)
    first.update()
    begin = time.process_time()
    first.update()
    learner, worlds = trainer(log, encoder, seed, max(1, round(budget_s / (time.process_time() - begin))))
    begin, updates = time.process_time(), 0
    while time.process_time() - begin < budget_s:
        learner.update()
        updates += 1
    spent = time.process_time() - begin
    validation = learner.judge(worlds)
    instances = worlds.draw("test", 10).instances
    rules = worlds.rules(instances)
    best = int(rules.bounded_slowdown.mean(0).argmin())
    figures = evaluate(learner.learner.averaged, worlds.world(10), instances, instances)
    return {
        "log": log,
        "encoder": encoder,
        "seed": seed,
        "updates": updates,
        "cpu_s": spent,
        "slowdown": float(figures["bounded_slowdown"].mean()),
        "wait_ratio": float(figures["wait_s"].mean() / rules.wait_s[:, best].mean()),
        "best_rule_slowdown": float(rules.bounded_slowdown[:, best].mean()),
        "validation_slowdown_ratio": validation.slowdown,
        "validation_wait_ratio": validation.wait,
        "windows": figures["bounded_slowdown"].tolist(),
    }


def main() -> None:
    """Trains every encoder on every log with every seed, prints the table and writes JSON."""
    parser = report.parser(__doc__, "encoders")
    parser.add_argument("--logs", nargs="+", choices=LOGS, default=list(LOGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=120.0, help="CPU seconds of learning for each")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        learn(log, encoder, seed, chosen.seconds)
        for log in chosen.logs
        for seed in chosen.seeds
        for encoder in ENCODERS
    ]
    figures = ("updates", "cpu_s", "slowdown", "wait_ratio", "validation_slowdown_ratio", "validation_wait_ratio")
    rows: list[list[object]] = []
    for log in chosen.logs:
        for encoder in ENCODERS:
            mine = [line for line in lines if (line["log"], line["encoder"]) == (log, encoder)]
            rows += [[log, encoder, str(line["seed"]), *(line[name] for name in figures)] for line in mine]
            rows.append([log, encoder, "mean", *(float(np.mean([line[name] for line in mine])) for name in figures)])
    report.table(
        ["log", "encoder", "seed", "updates", "CPU s", "slowdown", "wait x", "val slowdown x", "val wait x"], rows
    )
    report.write(chosen.out, {"seconds": chosen.seconds, "runs": lines})


if __name__ == "__main__":
    main()
