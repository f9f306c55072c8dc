"""Encoders at equal CPU time, by PPO alone from the same soft rule.

    OMP_NUM_THREADS=1 python -m benchmarks.encoders                       # generated worlds, 18 CPU s a run
    OMP_NUM_THREADS=1 python -m benchmarks.encoders --worlds hpc2n lublin-1 --seconds 120

Each encoder makes as many updates as it manages; its step sizes fall over the number that a thrown away update
foretells. What is judged is the running average of the updates, on the validation episodes, which are never trained on,
relative to the rule that does best there: `start` is the untrained policy, `score` what was learnt. Less is better. The
difference from the first encoder is paired by seed, with the 95 % interval.
"""

import time
from typing import Any, get_args

import numpy as np
import torch

from benchmarks import report
from benchmarks.learning import overrides
from fedsched.agents.config import EncoderKind
from fedsched.sim.domains import domain_of
from fedsched.sim.domains.base import SiteWorlds
from fedsched.sim.scenario import Scenario, load_scenario
from fedsched.sim.training import Trainer

ENCODERS = get_args(EncoderKind)
LOGS = ("hpc2n", "lublin-1")
# an overloaded centre of two unlike clusters, and the shipped grid of nine signals
GENERATED: dict[str, dict[str, Any]] = {
    "centre": {
        "world": {
            "domain": "datacenter",
            "trace": "generated",
            "generator": {"processors": 64, "seed": 1},
            "clusters": [{"processors": 64}, {"processors": 32, "speed": 1.5}],
            "window": {"jobs": 150},
            "load": 1.1,
        },
        "weights": {"qos": 1.0},
    },
    "grid": {
        "world": {"domain": "intersections", "city": "grid3x3", "demands": 20, "timing": "resco"},
        "weights": {"queue": 1.0},
    },
}


def scenario_of(world: str, encoder: str, seed: int, updates: int) -> Scenario:
    """PPO on one site, with so many updates planned, without a search."""
    if world in LOGS:
        changes = [*overrides(world, seed), f"agents.encoder.kind={encoder}", "agents.search=null"]
        plan = [f"federation.rounds={updates}", "federation.local_updates=1"]
        return load_scenario("datacenter_protocol", [*changes, *plan])
    return Scenario.model_validate(
        {
            "version": 1,
            "name": world,
            "seed": seed,
            "sites": {world: {**GENERATED[world], "copies": 16}},
            "agents": {"encoder": {"kind": encoder}, "ppo": {"rollouts": 8}},
            "federation": {"rounds": updates, "local_updates": 1},
            "evaluation": {"validation": 40 if world == "centre" else 8},
        }
    )


def trainer(world: str, encoder: str, seed: int, updates: int) -> tuple[Trainer, SiteWorlds]:
    """A learner and its site."""
    scenario = scenario_of(world, encoder, seed, updates)
    site = domain_of(scenario).site(scenario, next(iter(scenario.sites)))
    return Trainer(scenario, [site]), site


def learn(world: str, encoder: str, seed: int, budget_s: float) -> dict[str, Any]:
    """Trains for `budget_s` CPU seconds and judges the policy."""
    first, site = trainer(world, encoder, seed, 1)
    start = site.judge(first.policy)
    first.update()
    begin = time.process_time()
    first.update()
    learner, _ = trainer(world, encoder, seed, max(1, round(budget_s / (time.process_time() - begin))))
    begin, updates = time.process_time(), 0
    while time.process_time() - begin < budget_s:
        learner.update()
        updates += 1
    spent = time.process_time() - begin
    judged = site.judge(learner.learner.averaged)
    found = {"world": world, "encoder": encoder, "seed": seed, "updates": updates, "cpu_s": spent}
    return {**found, "start": start.score, "score": judged.score, "noise": judged.noise, "ratios": dict(judged.ratios)}


def main() -> None:
    """Trains every encoder on every world with every seed, prints the table and writes JSON."""
    parser = report.parser(__doc__, "encoders")
    parser.add_argument("--worlds", nargs="+", choices=[*GENERATED, *LOGS], default=list(GENERATED))
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=[k for k in ENCODERS if k != "graph"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=18.0, help="CPU seconds of learning for each")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    runs = [(world, encoder) for world in chosen.worlds for encoder in chosen.encoders]
    lines = {run: [learn(*run, seed, chosen.seconds) for seed in chosen.seeds] for run in runs}
    figures = ("updates", "cpu_s", "start", "score", "noise")
    rows: list[list[object]] = []
    for (world, encoder), mine in lines.items():
        rows += [[world, encoder, str(line["seed"]), *(line[name] for name in figures), ""] for line in mine]
        means = [float(np.mean([line[name] for line in mine])) for name in figures]
        scores = [[line["score"] for line in lines[world, kind]] for kind in (encoder, chosen.encoders[0])]
        rows.append([world, encoder, "mean", *means, report.paired(*scores)])
    report.table(["world", "encoder", "seed", "updates", "CPU s", "start", "score", "noise", "against the first"], rows)
    report.write(chosen.out, {"seconds": chosen.seconds, "runs": [line for mine in lines.values() for line in mine]})


if __name__ == "__main__":
    main()
