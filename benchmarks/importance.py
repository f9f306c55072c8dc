"""Do importance weights help to calibrate the trigger? Thresholds from the last rollouts, plain and weighted.

    OMP_NUM_THREADS=1 python -m benchmarks.importance                  # one policy in the corridor of messages.py

The rollouts of an update come from the policy before it, the thresholds are for the policy after it. Every tenth update
thresholds are calibrated anew from these rollouts alone: each decision counts once (`plain`), by the ratio of its
probability after and before (`sampled`), or, since in use agents act greedily, by one over its probability before if it
is the likeliest after (`greedy`); weights are kept in 0.2 to 5. Told is the share of messages that the new policy then
sends in greedy episodes, and how far it is from the aim in the mean.
"""

from dataclasses import replace

import numpy as np
import torch

from benchmarks import report
from benchmarks.messages import network
from benchmarks.messages_worlds import Setting, corridor
from fedsched.agents import GreedyActor, Learner, Policy, Rollouts, play
from fedsched.agents.calibration import Sequences, calibrate, recorded_sequences, sequences

EVERY = 10
EPISODES = 64
WEIGHTS = (0.2, 5.0)


def ratios(policy: Policy, rollouts: Rollouts, greedy: bool) -> torch.Tensor:
    """Importance weight of every decision, float32 [D]."""
    taken = rollouts.taken
    distributions = policy.judge({name: part.decisions for name, part in taken.items()}).distribution
    parts = []
    for name, part in taken.items():
        after = distributions[name]
        if greedy:
            parts.append((after.mode() == part.choice) * (-part.log_prob).exp())
        else:
            parts.append((after.log_prob(part.choice) - part.log_prob).exp())
    return torch.cat(parts).clamp(*WEIGHTS)


def weighted(rollouts: Rollouts, recorded: Sequences, ratio: torch.Tensor) -> Sequences:
    """Recorded decisions that count by their `ratio` [D]; all of the rollouts are in the record."""
    agent = torch.cat([part.decisions.agent for part in rollouts.taken.values()])
    moment = torch.cat([part.decisions.moment for part in rollouts.taken.values()])
    listeners = torch.as_tensor(rollouts.spec.addresses.listeners)
    line, address = (listeners[agent] > 0).nonzero(as_tuple=True)
    key = (moment[line] % rollouts.batch * listeners.shape[0] + agent[line]) * listeners.shape[1] + address
    value = ratio[line]
    factor = sequences(key, moment[line], value[:, None], value, value).weight
    return replace(recorded, weight=recorded.weight * factor)


@torch.no_grad()
def shares(setting: Setting, learner: Learner, rollouts: Rollouts) -> dict[str, float]:
    """The share that the present policy sends in greedy episodes, by the way of calibrating; changes no threshold."""
    policy = learner.policy
    assert policy.trigger is not None
    recorded, kept = recorded_sequences(policy, rollouts), policy.trigger.threshold.clone()
    assert recorded is not None
    ways = {
        "plain": recorded,
        "sampled": weighted(rollouts, recorded, ratios(policy, rollouts, greedy=False)),
        "greedy": weighted(rollouts, recorded, ratios(policy, rollouts, greedy=True)),
    }
    world, tests, found = setting.world(EPISODES), setting.tests[:EPISODES], {}
    for way, record in ways.items():
        calibrate(policy.trigger, record)
        actor = GreedyActor(policy, world.spec, EPISODES, sending=policy.use("uncertain"))
        play(world, tests, tests, actor)
        found[way] = actor.traffic.share
    policy.trigger.threshold.copy_(kept)
    return found


def main() -> None:
    """Learns, calibrates in three ways, prints the table and writes JSON."""
    chosen = report.parser(__doc__, "importance").parse_args()
    torch.set_num_threads(1)
    setting, lines = corridor(), []
    learner, world = Learner(network(setting, "always", 0), setting.learner, 0), setting.world(setting.copies)
    for update in range(1, setting.learner.ppo.iterations + 1):
        instances = setting.draw(0, update, setting.copies)
        rollouts = learner.collect(world, instances, instances)
        kl = learner.update([rollouts]).approx_kl
        if update % EVERY == 0:
            lines.append({"update": update, "kl": kl, **shares(setting, learner, rollouts)})
    aim = setting.shares["always"]
    ways = ("plain", "sampled", "greedy")
    means = {way: float(np.mean([line[way] for line in lines])) for way in ways}
    away = {way: float(np.mean([abs(line[way] - aim) for line in lines])) for way in ways}
    report.table(["update", "KL", *ways], [list(line.values()) for line in lines])
    report.table(["", *ways], [["mean share", *means.values()], ["mean distance from the aim", *away.values()]])
    report.write(chosen.out, {"aim": aim, "updates": lines, "mean_share": means, "mean_distance": away})


if __name__ == "__main__":
    main()
