"""Thresholds of the trigger, so that a wanted share of the possible messages is sent.

Both come from recorded steps. The least uncertainty is a weighted quantile; the least distance cannot be one, since it
depends on what was sent before, so the rule is played along every agent's recorded decisions, for many candidates at
once, until its share is the wanted one. Time-outs and first messages are in that share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from fedsched.agents.mailbox import most_among_listeners
from fedsched.agents.policy import Policy
from fedsched.agents.rollout import Rollouts
from fedsched.agents.tables import table
from fedsched.agents.trigger import Trigger, fires, uncertainties

# candidates for the least distance in one pass, and passes: 16^3 distances are told apart
CANDIDATES, PASSES = 16, 3
# decisions that are looked at, roughly: world rows are taken whole
DECISIONS = 20_000
# share of the possible messages with an uncertain listener
UNCERTAIN = 0.5


@dataclass(frozen=True)
class Sequences:
    """What agents of world rows could have said at T recorded decisions, to S addresses in all, padded behind.

    Attributes:
        message: float32 [S, T, M], as it would be sent in use.
        uncertainty: float32 [S, T], before anything is sent.
        weight: float32 [S, T], possible messages that the decision stands for.
        live: bool [S, T], which are decisions.
    """

    message: torch.Tensor
    uncertainty: torch.Tensor
    weight: torch.Tensor
    live: torch.Tensor


def sequences(
    key: torch.Tensor, moment: torch.Tensor, message: torch.Tensor, uncertainty: torch.Tensor, weight: torch.Tensor
) -> Sequences:
    """Decisions [D] in order of their `moment` int64 [D], those of one line, `key` int64 [D], together."""
    order = moment.argsort(stable=True)
    order = order[key[order].argsort(stable=True)]
    _, line, count = torch.unique(key[order], return_inverse=True, return_counts=True)
    start = count.cumsum(0) - count
    place = line, torch.arange(order.shape[0], device=key.device) - start[line]
    shape = count.shape[0], int(count.max()) if count.numel() else 0

    def padded(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros((*shape, *values.shape[1:])).index_put(place, values[order])

    return Sequences(
        padded(message), padded(uncertainty), padded(weight), padded(torch.ones_like(key, dtype=torch.bool))
    )


def concatenate_sequences(parts: Sequence[Sequences]) -> Sequences:
    """Those of several rollouts."""
    longest = max(part.live.shape[1] for part in parts)

    def joined(name: str) -> torch.Tensor:
        values = [getattr(part, name) for part in parts]
        pads = [(0, 0) * (v.dim() - 2) + (0, longest - v.shape[1]) for v in values]
        return torch.cat([F.pad(v, pad) for v, pad in zip(values, pads, strict=True)])

    return Sequences(joined("message"), joined("uncertainty"), joined("weight"), joined("live"))


def played_share(recorded: Sequences, threshold: torch.Tensor, timeout: int) -> torch.Tensor:
    """Share of the possible messages that the rule sends, float32 [G], for thresholds [G, 2]."""
    count, steps, size = recorded.message.shape
    groups = threshold.shape[0]
    last = recorded.message.new_zeros(groups, count, size)
    known = torch.zeros(groups, count, dtype=torch.bool, device=last.device)
    silent = torch.zeros(groups, count, dtype=torch.int64, device=last.device)
    sent = last.new_zeros(groups)
    for step in range(steps):
        offer, live = recorded.message[:, step], recorded.live[:, step]
        distance = (offer - last).norm(dim=2)
        sends = live & fires(threshold, timeout, recorded.uncertainty[:, step], distance, silent, known)
        sent = sent + (sends * recorded.weight[:, step]).sum(1)
        last = torch.where(sends[:, :, None], offer, last)
        silent = (silent + live) * ~sends
        known = known | sends
    return sent / recorded.weight.sum().clamp(min=1e-9)


def upper_quantile(values: torch.Tensor, weights: torch.Tensor, share: float) -> torch.Tensor:
    """The least of `values` [D] from which on at most `share` of the weight lies, the greatest if there is none."""
    distinct, line = torch.unique(values, return_inverse=True)
    weight = weights.new_zeros(distinct.shape[0]).index_add(0, line, weights)
    above = weight.flip(0).cumsum(0).flip(0)
    too_many = int((above > share * weights.sum() * (1 + 1e-6)).sum())
    threshold: torch.Tensor = distinct[min(too_many, distinct.shape[0] - 1)]
    return threshold


@torch.no_grad()
def recorded_sequences(policy: Policy, rollouts: Rollouts) -> Sequences | None:
    """What the agents could have said in some of the sampled rows; None without such decisions or without a trigger."""
    if policy.trigger is None or rollouts.decisions == 0:
        return None
    stride = -(-rollouts.decisions // DECISIONS)
    rows = (~rollouts.greedy).cumsum(0) - 1
    taken = (~rollouts.greedy) & (rows % stride == 0)
    chosen = {name: taken[rollouts.row(name)].nonzero().squeeze(1) for name in rollouts.taken}
    decisions = {name: rollouts.taken[name].decisions.select(index) for name, index in chosen.items()}
    quiet = policy.quiet(decisions)
    assert quiet.message is not None
    agent = torch.cat([part.agent for part in decisions.values()])
    moment = torch.cat([part.moment for part in decisions.values()])
    listeners = table(rollouts.spec.addresses.listeners, agent.device)
    unsure = uncertainties(quiet.distribution, policy.trigger.config.measure)
    unsure = listeners_need(rollouts, moment, agent, unsure)
    line, address = (listeners[agent] > 0).nonzero(as_tuple=True)
    agent, moment = agent[line], moment[line]
    key = (moment % rollouts.batch * listeners.shape[0] + agent) * listeners.shape[1] + address
    weight = listeners[agent, address].to(torch.float32)
    return sequences(key, moment, quiet.message[line, address], unsure[line, address], weight)


def listeners_need(rollouts: Rollouts, moment: torch.Tensor, agent: torch.Tensor, unsure: torch.Tensor) -> torch.Tensor:
    """The greatest uncertainty [D] among the listeners of deciding agents, float32 [D, L], as of its last decision."""
    rows, row = torch.unique(moment % rollouts.batch, return_inverse=True)
    step = torch.div(moment, rollouts.batch, rounding_mode="floor")
    shape = rollouts.times.shape[0], rows.shape[0], len(rollouts.spec.agents)
    steps = torch.zeros(shape, dtype=torch.int64, device=moment.device)
    told = torch.ones(shape, device=moment.device)
    # line 0 is before anybody decided
    steps[step + 1, row, agent] = step + 1
    told[step + 1, row, agent] = unsure
    latest = told.gather(0, steps.cummax(0).values)
    return most_among_listeners(latest, rollouts.spec.addresses)[step + 1, row, agent]


@torch.no_grad()
def calibrate(trigger: Trigger, recorded: Sequences, step: float = 1.0) -> float:
    """Moves the thresholds towards those that send the wanted share; returns the share that they send then.

    Args:
        trigger: Changed; left alone where no message was possible.
        recorded: Recent decisions.
        step: How far, 1 all the way; less averages over the decisions of several calls.
    """
    timeout = trigger.config.timeout
    live = recorded.live & (recorded.weight > 0)
    if not bool(live.any()):
        return 0.0
    least = upper_quantile(recorded.uncertainty[live], recorded.weight[live], UNCERTAIN)
    found = torch.stack([least, least_distance(trigger, recorded, least)])
    trigger.threshold.lerp_(found, step)
    return float(played_share(recorded, trigger.threshold[None], timeout))


def least_distance(trigger: Trigger, recorded: Sequences, least: torch.Tensor) -> torch.Tensor:
    """The least distance that does not send more than the wanted share, given the `least` uncertainty; scalars."""
    low, high = 0.0, 2 * float(recorded.message.norm(dim=2).max()) + 1e-6
    for _ in range(PASSES):
        distance = torch.linspace(low, high, CANDIDATES + 1, device=least.device)
        candidates = torch.stack([least.expand_as(distance), distance], 1)
        shares = played_share(recorded, candidates, trigger.config.timeout)
        best = min(int((shares > trigger.config.share).sum()), CANDIDATES)
        low, high = float(distance[max(0, best - 1)]), float(distance[best])
    return distance[best]
