"""When do messages pay? Agents without, with, and with compressed messages; sent always, at random, when it pays.

    OMP_NUM_THREADS=1 python -m benchmarks.messages                    # two worlds, three seeds each: 55 CPU minutes
    python -m benchmarks.messages --train --worlds corridor --seeds 0  # only what is named; what is there is kept
    python -m benchmarks.messages --evaluate                           # only asks the policies that are there

`none`: without messages; `told`: so too, but everybody sees at once what everybody else sees of itself (clusters only);
`always`: float32 messages; `dropped`: a fifth of them dropped in training; `vae`: besides Gaussian with a charge for
each nat, int8 in use. Every policy acts greedily on the same 200 instances, on which nothing was trained or tried. What
talks sends in three ways: always, when its trigger fires, and by chance at the rate of the trigger; and for
comparison never. Costs are compared instance by instance; the 95 % intervals are of the ratio of means, by bootstrap
over instances.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import report
from benchmarks.messages_worlds import TESTS, Setting, clusters, corridor
from fedsched.agents import GreedyActor, Learner, MessageConfig, Policy, Traffic, TriggerConfig, play
from fedsched.agents.speech import SendingKind
from fedsched.envs.core import World

WORLDS = {"corridor": corridor, "clusters": clusters}
VARIANTS: Mapping[str, MessageConfig | None] = {
    "none": None,
    "told": None,
    "always": MessageConfig(heads=4),
    "dropped": MessageConfig(heads=4, dropout=0.2),
    "vae": MessageConfig(heads=4, kl=3e-4, quantised=True, dropout=0.2),
}
RESAMPLES = 10_000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What a policy did on the test instances.

    Attributes:
        cost: float64 [N], mean over seeds where it stands for several policies.
        traffic: Between its agents, in all episodes.
        episodes: How many.
    """

    cost: Floats
    traffic: Traffic
    episodes: int


def worlds(setting: Setting, variant: str) -> Callable[[int], World]:
    """What makes the worlds of a variant."""
    return setting.told if variant == "told" and setting.told else setting.world


def possible(setting: Setting, wanted: Sequence[str]) -> list[str]:
    """The variants that can be measured there."""
    return [variant for variant in wanted if variant != "told" or setting.told]


def network(setting: Setting, variant: str, seed: int) -> Policy:
    """The policy of a variant as it begins; in training its trigger does nothing but follow its thresholds."""
    messages = VARIANTS[variant]
    if messages is not None:
        messages = replace(messages, trigger=TriggerConfig(setting.shares[variant], timeout=40))
    config = replace(setting.policy, messages=messages)
    return Policy(worlds(setting, variant)(1).spec, config, setting.rules, seed)


def train(setting: Setting, variant: str, seed: int) -> dict[str, Any]:
    """Learns; gives the averaged parameters, CPU seconds, and how the cost in training went."""
    world, begin = worlds(setting, variant)(setting.copies), time.process_time()
    learner = Learner(network(setting, variant, seed), setting.learner, seed)
    count, curve, share = setting.copies // setting.learner.rollouts, [], 1.0
    for update in range(setting.learner.ppo.iterations):
        instances = setting.draw(seed, update, count)
        rollouts = learner.collect(world, instances, instances)
        curve.append(float(setting.cost(rollouts.metrics).mean()))
        share = learner.update([rollouts]).sent_share
    spent = time.process_time() - begin
    return {"policy": learner.averaged.state_dict(), "cpu_s": spent, "curve": curve, "calibrated_share": share}


def outcomes(setting: Setting, world: World, policy: Policy) -> dict[str, Outcome]:
    """A policy on the test instances, by the way of sending."""

    def outcome(how: SendingKind, share: float | None = None) -> Outcome:
        sending = None if policy.messenger is None else policy.use(how, share, seed=1)
        actor = GreedyActor(policy, world.spec, TESTS, sending=sending)
        cost = setting.cost(play(world, setting.tests, setting.tests, actor))
        return Outcome(cost.numpy(), actor.traffic, TESTS)

    always = outcome("always")
    if policy.messenger is None:
        return {"always": always}
    trigger = outcome("uncertain")
    return {
        "always": always,
        "trigger": trigger,
        "random": outcome("random", trigger.traffic.share),
        "never": outcome("random", 0.0),
    }


def change(cost: Floats, reference: Floats) -> dict[str, float]:
    """By what share the mean cost is above the reference's on the same instances, with the 95 % interval."""
    drawn = np.random.default_rng(0).integers(len(cost), size=(RESAMPLES, len(cost)))
    ratios = cost[drawn].mean(1) / reference[drawn].mean(1) - 1
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {"change": float(cost.mean() / reference.mean() - 1), "low": float(low), "high": float(high)}


def summary(outcome: Outcome) -> dict[str, float]:
    """Cost and traffic of a mean episode."""
    traffic = outcome.traffic
    return {
        "cost": float(outcome.cost.mean()),
        "messages": traffic.messages / outcome.episodes,
        "share": traffic.share,
        "bytes": traffic.payload_bytes / outcome.episodes,
    }


def compared(found: Mapping[str, Outcome]) -> dict[str, Any]:
    """What the ways of sending of one policy cost against one another."""
    if "trigger" not in found:
        return {}
    cost = {way: outcome.cost for way, outcome in found.items()}
    return {
        "bytes_saved": 1 - found["trigger"].traffic.payload_bytes / found["always"].traffic.payload_bytes,
        "trigger_against_always": change(cost["trigger"], cost["always"]),
        "trigger_against_random": change(cost["trigger"], cost["random"]),
        "always_against_never": change(cost["always"], cost["never"]),
    }


def pooled(runs: Sequence[Mapping[str, Outcome]]) -> dict[str, Outcome]:
    """Several seeds' policies as one: the mean cost of each instance, and all that was sent."""
    together = {}
    for way in runs[0]:
        parts = [run[way] for run in runs]
        traffic = sum((part.traffic for part in parts), Traffic())
        cost = np.mean([part.cost for part in parts], axis=0)
        together[way] = Outcome(cost, traffic, sum(part.episodes for part in parts))
    return together


def across(found: Mapping[str, Outcome], silent: Outcome, loud: Outcome | None) -> dict[str, Any]:
    """What a variant's ways of sending cost against agents without messages, and against float32 messages sent always.

    Args:
        found: By way of sending, all seeds.
        silent: Without messages.
        loud: Float32 messages, always.
    """
    against = {f"{way}_against_none": change(outcome.cost, silent.cost) for way, outcome in found.items()}
    if loud is None or "trigger" not in found:
        return against
    trigger = found["trigger"]
    return {
        **against,
        "trigger_against_float32_always": change(trigger.cost, loud.cost),
        "bytes_saved_against_float32_always": 1 - trigger.traffic.payload_bytes / loud.traffic.payload_bytes,
    }


def checkpoint(folder: Path, world: str, variant: str, seed: int) -> Path:
    """Where a trained policy lies."""
    return folder / f"{world}-{variant}-{seed}.pt"


def trained(folder: Path, world: str, seeds: Sequence[int], wanted: Sequence[str]) -> None:
    """Trains what is missing in a folder."""
    setting = WORLDS[world]()
    for seed in seeds:
        for variant in possible(setting, wanted):
            path = checkpoint(folder, world, variant, seed)
            if path.exists():
                continue
            state = train(setting, variant, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, path)
            ends = state["curve"][0], float(np.mean(state["curve"][-5:]))
            print(f"{path.stem}: {state['cpu_s']:.0f} CPU s, cost {ends[0]:.2f} -> {ends[1]:.2f}", flush=True)


def judged(folder: Path, world: str, seeds: Sequence[int], wanted: Sequence[str]) -> dict[str, Any]:
    """Asks the policies of a folder; gives runs and comparisons, by variant."""
    setting, found, runs = WORLDS[world](), {}, []
    for variant in possible(setting, wanted):
        by_seed = []
        for seed in seeds:
            state = torch.load(checkpoint(folder, world, variant, seed), weights_only=True)
            policy = network(setting, variant, seed)
            policy.load_state_dict(state["policy"])
            outcome = outcomes(setting, worlds(setting, variant)(TESTS), policy)
            by_seed.append(outcome)
            ways = {way: summary(one) for way, one in outcome.items()}
            runs.append({"variant": variant, "seed": seed, "cpu_s": state["cpu_s"], "ways": ways, **compared(outcome)})
        found[variant] = pooled(by_seed)
    loud = found["always"]["always"] if "always" in found else None
    whole = {
        variant: {
            "ways": {way: summary(one) for way, one in ways.items()},
            **compared(ways),
            **(across(ways, found["none"]["always"], loud) if "none" in found and variant != "none" else {}),
        }
        for variant, ways in found.items()
    }
    return {"unit": setting.unit, "instances": TESTS, "runs": runs, "all_seeds": whole}


def show(world: str, result: Mapping[str, Any]) -> None:
    """Prints the tables of a world."""
    print(f"\n{world}: {result['unit']}, mean of {result['instances']} instances")
    lines = [(str(run["seed"]), run["variant"], run) for run in result["runs"]]
    lines += [("all", variant, whole) for variant, whole in result["all_seeds"].items()]
    rows = [
        [variant, seed, way, *(part[name] for name in ("cost", "messages", "share", "bytes"))]
        for seed, variant, line in lines
        for way, part in line["ways"].items()
    ]
    report.table(["variant", "seed", "sends", "cost", "messages", "share", "bytes"], rows)
    told = [
        [variant, seed, name.replace("_", " "), *(f"{100 * value:+.2f} %" for value in _numbers(figure))]
        for seed, variant, line in lines
        for name, figure in line.items()
        if "against" in name or name == "bytes_saved"
    ]
    report.table(["variant", "seed", "comparison", "change", "from", "to"], told)


def _numbers(figure: Mapping[str, float] | float) -> tuple[float, float, float]:
    """Change and bounds; a plain number has none."""
    return (figure, figure, figure) if isinstance(figure, float) else (figure["change"], figure["low"], figure["high"])


def main() -> None:
    """Trains and asks what it is told to, prints tables and writes JSON."""
    parser = report.parser(__doc__, "messages")
    parser.add_argument("--train", action="store_true", help="train what is missing; without --evaluate, only this")
    parser.add_argument("--evaluate", action="store_true", help="only ask policies that are there")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--policies", type=Path, default=report.NEW / "messages", help="folder, %(default)s")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.train or not chosen.evaluate:
        for world in chosen.worlds:
            trained(chosen.policies, world, chosen.seeds, chosen.variants)
    if chosen.evaluate or not chosen.train:
        results = {world: judged(chosen.policies, world, chosen.seeds, chosen.variants) for world in chosen.worlds}
        for world, result in results.items():
            show(world, result)
        report.write(chosen.out, results)


if __name__ == "__main__":
    main()
