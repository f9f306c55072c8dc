"""Does imitation help? PPO from nothing, after imitating a rule, and from the soft rule, at equal CPU time.

    OMP_NUM_THREADS=1 python -m benchmarks.imitation                  # a city, a data centre, three seeds, 20 s each

The city is the grid of cities.yaml, the data centre `north` of datacenters.yaml on windows of a day; each learns alone.
What is judged is the running average of the updates, greedily, on validation episodes that nothing is trained on:
delay, or mean bounded slowdown, relative to that of the best classical rule there. `after` is the same figure right
after the imitation, `agreement` the share of equal decisions then, in episodes that the sampled policy drives; `by
imitation` is what it changes in the end, paired by seed, with the 95 % interval. Less is better.
"""

import time
from typing import Any

import numpy as np
import torch

from benchmarks import report
from fedsched.agents.imitation import agreement
from fedsched.sim.domains import domain_of
from fedsched.sim.domains.base import SiteWorlds, Teaching
from fedsched.sim.scenario import load_scenario
from fedsched.sim.training import Trainer

WORLDS = {"city": ("cities", "grid", "greedy", "greedy"), "datacenter": ("datacenters", "north", "saf-easy", "saf")}
"""Scenario, site, teacher, and the soft rule of the scenario's kind."""
ARMS = ("none", "imitation", "soft rule", "soft rule, imitation")
WITHOUT = {"imitation": "none", "soft rule, imitation": "soft rule"}
"""What an arm with imitation is compared with, seed by seed."""
VALIDATION = 16


def trainer(place: str, arm: str, seed: int, updates: int) -> tuple[Trainer, SiteWorlds]:
    """A learner of one site that plans so many updates."""
    name, site, teacher, soft = WORLDS[place]
    changes = [
        f"seed={seed}",
        "learning=local",
        "agents.search=null",
        "agents.constraints={}",
        f"agents.start={soft if arm.startswith('soft') else 'none'}",
        f"federation={{rounds: {updates}, local_updates: 1, secure_aggregation: null}}",
        f"evaluation.validation={VALIDATION}",
    ]
    if arm.endswith("imitation"):
        changes.append(f"agents.imitation={{teacher: {teacher}}}")
    scenario = load_scenario(name, changes)
    worlds = domain_of(scenario).site(scenario, site)
    _ = worlds.best_rule  # rules are judged before the clock runs
    return Trainer(scenario, [worlds]), worlds


def planned(place: str, budget_s: float, seed: int) -> int:
    """How many updates of PPO fit into the budget, by one that is thrown away."""
    first, _ = trainer(place, "none", seed, 8)
    first.update()
    begin = time.process_time()
    first.update()
    return max(8, round(budget_s / (time.process_time() - begin)))


def learn(place: str, arm: str, seed: int, budget_s: float, updates: int) -> dict[str, Any]:
    """Trains for `budget_s` CPU seconds and judges the policy, before, after imitation and at the end."""
    learner, worlds = trainer(place, arm, seed, updates)
    assert isinstance(worlds, Teaching)
    teacher, drawn = worlds.teacher(WORLDS[place][2]), worlds.draw("validation", 8)
    found: dict[str, Any] = {"world": place, "arm": arm, "seed": seed, "before": learner.judge(worlds).score}
    spent, count = 0.0, 0
    while spent < budget_s:
        begin = time.process_time()
        learner.update()
        spent, count = spent + time.process_time() - begin, count + 1
        if count == 3 and arm.endswith("imitation"):
            found["after"] = learner.judge(worlds).score
            found["agreement"] = agreement(learner.policy, worlds.world(8), teacher, drawn.instances, drawn.seeds, seed)
    judgement = learner.judge(worlds)
    return found | {"updates": count, "cpu_s": spent, "end": judgement.score, "rule": judgement.rule}


def _runs(lines: list[dict[str, Any]], place: str, arm: str) -> list[dict[str, Any]]:
    return [line for line in lines if (line["world"], line["arm"]) == (place, arm)]


def main() -> None:
    """Trains every arm in every world with every seed, prints the table and writes JSON."""
    parser = report.parser(__doc__, "imitation")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=20.0, help="CPU seconds of learning for each")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for place in chosen.worlds:
        updates = planned(place, chosen.seconds, 0)
        lines += [learn(place, arm, seed, chosen.seconds, updates) for seed in chosen.seeds for arm in ARMS]
    figures = ("updates", "cpu_s", "before", "agreement", "after", "end")
    rows: list[list[object]] = []
    for place in chosen.worlds:
        for arm in ARMS:
            mine, without = _runs(lines, place, arm), _runs(lines, place, WITHOUT.get(arm, arm))
            rows += [[place, arm, str(line["seed"]), *(line.get(name) for name in figures), ""] for line in mine]
            means = [float(np.mean([line[name] for line in mine])) if name in mine[0] else None for name in figures]
            gained = [[line["end"] for line in part] for part in (mine, without)]
            rows.append([place, arm, "mean", *means, report.paired(*gained) if arm in WITHOUT else ""])
    report.table(
        ["world", "arm", "seed", "updates", "CPU s", "before", "agreement", "after", "end", "by imitation"], rows
    )
    report.write(chosen.out, {"seconds": chosen.seconds, "runs": lines})


if __name__ == "__main__":
    main()
