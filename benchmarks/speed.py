"""Speed on one core: stepping with observations, rules without them, acting with a network, learning.

    python -m benchmarks.speed                     # Lublin-1 and HPC2N, about two minutes
    python -m benchmarks.speed --repeats 2         # a quick look

CPU seconds of this process with one thread; best and median of the repeats. Stepping: the first legal job is picked, so
the figure is the world's. Acting: features, network, sampling and world together. Learning: PPO updates of three epochs
on rollouts that are there already, and rollouts and updates together. Targets in decisions (jobs) a second: stepping
300,000 at batch 64, rules 1,000,000 jobs, acting 50,000, learning 20,000.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.report import parser, table, write
from fedsched.agents.collect import idle_actions
from fedsched.agents.learner import Learner
from fedsched.envs.datacenter.world import KIND, DatacenterWorld
from fedsched.sim.domains.datacenter.site import DatacenterSite
from fedsched.sim.scenario import load_scenario
from fedsched.sim.training import Trainer

if TYPE_CHECKING:
    from fedsched.agents.rollout import Rollouts

SITE = "lublin"
"""The only site of `datacenter_protocol`."""
LOGS = {"lublin-1": 256, "hpc2n": 240}
BATCHES = (1, 16, 64, 256)
TARGETS = {"stepping": 300_000, "rules": 1_000_000, "acting": 50_000, "learning": 20_000}
STEPS = 600
"""Decisions of each row; a window of 1,024 jobs has more, so no row ends."""


def measure(repeats: int, prepare: Callable[[], object], run: Callable[[], float]) -> tuple[float, float]:
    """Best and median of what `run` does per CPU second; one run before them warms up."""
    rates = []
    for repeat in range(repeats + 1):
        prepare()
        begin = time.process_time()
        done = run()
        if repeat:
            rates.append(done / (time.process_time() - begin))
    return max(rates), float(np.median(rates))


def trainer_on(log: str) -> tuple[Trainer, DatacenterSite]:
    """The learner of the protocol scenario on a log, without search and bound, which add their own work."""
    changes = [
        f"sites.{SITE}.world.trace={log}",
        f"sites.{SITE}.world.clusters=[{{processors: {LOGS[log]}}}]",
        "agents.search=null",
        "agents.constraints.wait=null",
    ]
    scenario = load_scenario("datacenter_protocol", changes)
    worlds = DatacenterSite(scenario, SITE)
    return Trainer(scenario, [worlds]), worlds


def opened(worlds: DatacenterSite, batch: int) -> tuple[DatacenterWorld, Callable[[], object]]:
    """A world of that batch, and what resets it to the ten test windows in turn."""
    world = worlds.world(batch)
    instances = worlds.draw("test", 10).instances[torch.arange(batch) % 10]
    return world, lambda: world.reset(instances, instances)


def stepping(worlds: DatacenterSite, batch: int, repeats: int) -> tuple[float, float]:
    """Decisions a second with full observations."""
    world, reset = opened(worlds, batch)

    def run() -> float:
        before = int(world.arrays.state["decisions"].sum())
        mask = world.arrays.view["action_mask"].view(torch.uint8)
        for _ in range(STEPS):
            world.step({KIND: mask.argmax(2)})
        return float(world.arrays.state["decisions"].sum()) - before

    return measure(repeats, reset, run)


def rules(worlds: DatacenterSite, batch: int, repeats: int) -> tuple[float, float]:
    """Jobs a second under FCFS with EASY, without observations, from empty machine to the last end."""
    world, reset = opened(worlds, batch)

    def run() -> float:
        world.run_rules(["fcfs-easy"] * batch)
        return float(world.arrays.jobs["count"].sum())

    return measure(repeats, reset, run)


def acting(trainer: Trainer, worlds: DatacenterSite, batch: int, repeats: int) -> tuple[float, float]:
    """Decisions a second of a sampling policy: features, network and world."""
    world, reset = opened(worlds, batch)
    policy, generator = trainer.policy, torch.Generator().manual_seed(0)
    idle = idle_actions(world.spec, batch)

    @torch.no_grad()
    def run() -> float:
        before = int(world.arrays.state["decisions"].sum())
        mailbox = policy.mailbox(world.spec, batch)
        observation = world.observe()
        for _ in range(STEPS // 4):
            step = policy(world.spec, observation, None, mailbox)
            mailbox = step.mailbox
            chosen = {name: part.sample(generator) for name, part in step.distribution.items()}
            observation = world.step(step.actions(chosen, idle)).observation
        return float(world.arrays.state["decisions"].sum()) - before

    return measure(repeats, reset, run)


def learning(trainer: Trainer, worlds: DatacenterSite, repeats: int) -> dict[str, tuple[float, float]]:
    """Decisions a second of updates alone, and of rollouts and updates together."""
    config = trainer.learner.config
    # without the stop by divergence, so that every update has its three epochs
    learner = Learner(trainer.policy, replace(config, ppo=replace(config.ppo, kl_stop=float("inf"))), seed=0)
    instances = worlds.draw("train", 8).instances
    world = worlds.world(len(instances) * learner.config.rows_per_instance)
    rollouts: list[Rollouts] = []

    def collect() -> None:
        rollouts[:] = [learner.collect(world, instances, instances)]

    def update() -> float:
        return float(learner.update(rollouts).decisions)

    def everything() -> float:
        return float(learner.update([learner.collect(world, instances, instances)]).decisions)

    return {"updates": measure(repeats, collect, update), "with rollouts": measure(repeats, rollouts.clear, everything)}


def figures(log: str, repeats: int) -> list[dict[str, Any]]:
    """All figures on one log."""
    trainer, worlds = trainer_on(log)
    found = [("stepping", f"batch {batch}", stepping(worlds, batch, repeats)) for batch in BATCHES]
    found += [("rules", f"batch {batch}", rules(worlds, batch, repeats)) for batch in (1, 64)]
    found += [("acting", f"batch {batch}", acting(trainer, worlds, batch, repeats)) for batch in (64, 256)]
    found += [("learning", name, rates) for name, rates in learning(trainer, worlds, repeats).items()]
    return [
        {"log": log, "what": what, "how": how, "best": best, "median": median, "target": TARGETS[what]}
        for what, how, (best, median) in found
    ]


def main() -> None:
    """Prints and writes all figures."""
    arguments = parser(__doc__, "speed")
    arguments.add_argument("--repeats", type=int, default=5, help="measurements of each figure")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    results = [row for log in LOGS for row in figures(log, options.repeats)]
    keys = ("log", "what", "how", "best", "median", "target")
    table(keys, [[round(row[k]) if isinstance(row[k], float) else row[k] for k in keys] for row in results])
    write(options.out, {"unit": "per CPU second of one core", "results": results})


if __name__ == "__main__":
    main()
