"""From rollouts to experience: which decisions are learned from, and with which advantage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from fedsched.agents.advantage import between, gae, group_advantage
from fedsched.agents.decisions import AgentError, Decisions, concatenate
from fedsched.agents.rollout import Rollouts


@dataclass(frozen=True)
class Experience:
    """Decisions of one kind with what is to be learned from them.

    Attributes:
        decisions: D decisions.
        choice: int64 [D], or float32 [D, K] for vectors.
        log_prob: float32 [D], under the policy that chose.
        advantage: float32 [D].
        value: float32 [D], the critic's when it was taken; None without a critic.
        returns: float32 [D]; None without a critic.
    """

    decisions: Decisions
    choice: torch.Tensor
    log_prob: torch.Tensor
    advantage: torch.Tensor
    value: torch.Tensor | None = None
    returns: torch.Tensor | None = None

    def select(self, chosen: torch.Tensor) -> "Experience":
        """Some decisions, `chosen` int64 [C]."""
        return Experience(
            decisions=self.decisions.select(chosen),
            choice=self.choice.index_select(0, chosen),
            log_prob=self.log_prob.index_select(0, chosen),
            advantage=self.advantage.index_select(0, chosen),
            value=None if self.value is None else self.value.index_select(0, chosen),
            returns=None if self.returns is None else self.returns.index_select(0, chosen),
        )


@dataclass(frozen=True)
class Discount:
    """How the future counts in `gae`.

    Attributes:
        gamma: Per decision.
        tau_s: Where set, times exp(-elapsed / tau_s) by the clock.
        trace: Decay lambda of the estimator.
    """

    gamma: float
    tau_s: float | None
    trace: float


def running_sum(costs: torch.Tensor) -> torch.Tensor:
    """Accrued costs before each step and at the end, float64 [T + 1, B * A], from those of each step [T, B, A]."""
    flat = costs.reshape(costs.shape[0], -1)
    return torch.cat([flat.new_zeros(1, flat.shape[1]), flat.cumsum(0)])


def group_experience(rollouts: Rollouts, costs: Mapping[str, torch.Tensor]) -> dict[str, Experience]:
    """Experience with clock-aligned advantages over the sampled rows of each group.

    Args:
        rollouts: Of one world.
        costs: float64 [T, B, A] by kind, accrued in each step.
    """
    kept = (~rollouts.greedy).nonzero().squeeze(1)
    line = torch.cumsum(~rollouts.greedy, 0) - 1
    experience = {}
    for name, cost in costs.items():
        if name not in rollouts.taken:
            continue
        agents = cost.shape[2]
        learnt = sampled(rollouts, name)
        step, row = rollouts.step(name)[learnt], rollouts.row(name)[learnt]
        group = rollouts.group[kept, None] * agents + torch.arange(agents, device=kept.device)
        advantage = group_advantage(
            rollouts.times[:, kept].repeat_interleave(agents, 1),
            running_sum(cost[:, kept]),
            group.reshape(-1),
            line[row] * agents + rollouts.agent(name)[learnt],
            rollouts.times[step, row],
        )
        taken = rollouts.taken[name]
        chosen = taken.choice[learnt], taken.log_prob[learnt]
        experience[name] = Experience(taken.decisions.select(learnt), *chosen, advantage.float())
    return experience


def gae_experience(rollouts: Rollouts, costs: Mapping[str, torch.Tensor], discount: Discount) -> dict[str, Experience]:
    """Experience with advantages and returns from the critic; rewards are summed from decision to decision.

    Args:
        rollouts: Of one world, collected with a critic.
        costs: float64 [T, B, A] by kind, accrued in each step.
        discount: How the future counts.

    Raises:
        AgentError: The rollouts hold no values.
    """
    experience = {}
    for name, taken in rollouts.taken.items():
        if taken.value is None or rollouts.last is None:
            raise AgentError("these rollouts were collected without a critic")
        agents = costs[name].shape[2]
        learnt = sampled(rollouts, name)
        step = rollouts.step(name)[learnt]
        column = rollouts.row(name)[learnt] * agents + rollouts.agent(name)[learnt]
        clock = rollouts.times.repeat_interleave(agents, 1)
        end = rollouts.last.end[name].reshape(-1).clamp(max=clock.shape[0] - 1)
        factor = torch.full_like(step, 1, dtype=torch.float64) * discount.gamma
        if discount.tau_s is not None:
            factor = factor * torch.exp(-between(clock, step, column, end) / discount.tau_s)
        reward = -between(running_sum(costs[name]), step, column, end)
        value, bootstrap = taken.value[learnt], rollouts.last.value[name].reshape(-1)
        advantage = gae(reward.float(), value, factor.float(), column, bootstrap, discount.trace)
        decisions, choice, log_prob = taken.decisions.select(learnt), taken.choice[learnt], taken.log_prob[learnt]
        experience[name] = Experience(decisions, choice, log_prob, advantage, value, advantage + value)
    return experience


def sampled(rollouts: Rollouts, kind: str) -> torch.Tensor:
    """The decisions of the rows that did not act greedily, int64 [L]; only these are learned from."""
    return (~rollouts.greedy)[rollouts.row(kind)].nonzero().squeeze(1)


def merge(parts: Sequence[Mapping[str, Experience]], moments: Sequence[int]) -> dict[str, Experience]:
    """Experience of several rollouts by kind, with the moments of later ones behind those of earlier ones.

    Raises:
        AgentError: No decision at all.
    """
    names = sorted({name for part in parts for name in part})
    if not names:
        raise AgentError("there are no decisions to learn from")
    merged = {}
    for name in names:
        present = [(part[name], shift) for part, shift in zip(parts, shifts(moments), strict=True) if name in part]
        several = [part for part, _ in present]
        value = [part.value for part in several if part.value is not None]
        returns = [part.returns for part in several if part.returns is not None]
        merged[name] = Experience(
            decisions=concatenate([part.decisions for part in several], [shift for _, shift in present]),
            choice=torch.cat([part.choice for part in several]),
            log_prob=torch.cat([part.log_prob for part in several]),
            advantage=torch.cat([part.advantage for part in several]),
            value=torch.cat(value) if value else None,
            returns=torch.cat(returns) if returns else None,
        )
    return merged


def shifts(moments: Sequence[int]) -> list[int]:
    """By how much the moments of each rollout move so that none are shared."""
    return [sum(moments[:i]) for i in range(len(moments))]
