"""Costs of a rollout: weighted reward parts, divided by their level, plus a bounded part times its multiplier."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fedsched.agents.decisions import AgentError
from fedsched.agents.rollout import Rollouts
from fedsched.envs.core import WorldSpec

# an instance on which the rule hardly waits must not outweigh all others
LIMIT_FLOOR = 0.1


@dataclass(frozen=True)
class Constraint:
    """A bound on the total of one reward part, relative to a reference rule's.

    Attributes:
        part: Name of the reward part, such as `wait`; its total is a cost, so never positive.
        bound: Allowed ratio to the reference's total.
        start: Multiplier at the beginning.
        integral: Step of the dual ascent per unit of violation.
        proportional: Immediate answer to the smoothed violation.
        smoothing: Weight of the newest ratio in the smoothed one.
    """

    part: str = "wait"
    bound: float = 1.0
    start: float = 0.5
    integral: float = 0.1
    proportional: float = 4.0
    smoothing: float = 0.3


class Multiplier:
    """Lagrange multiplier of a constraint, driven by the greedy policy.

    The sampled policy must not drive it: greedy idles where sampling starts something, and so waits longer.
    """

    def __init__(self, constraint: Constraint) -> None:
        """Starts at `constraint.start`."""
        self._constraint = constraint
        self._integral = constraint.start
        self._smoothed: float | None = None

    @property
    def value(self) -> float:
        """The multiplier, never negative."""
        excess = 0.0 if self._smoothed is None else self._smoothed - self._constraint.bound
        return max(0.0, self._integral + self._constraint.proportional * excess)

    def observe(self, ratio: float) -> None:
        """Takes the greedy policy's ratio to the reference into account."""
        rule = self._constraint
        before = ratio if self._smoothed is None else self._smoothed
        self._smoothed = before + rule.smoothing * (ratio - before)
        self._integral = max(0.0, self._integral + rule.integral * (ratio - rule.bound))

    def state(self) -> dict[str, float | None]:
        """What `load` needs to go on."""
        return {"integral": self._integral, "smoothed": self._smoothed}

    def load(self, state: Mapping[str, float | None]) -> None:
        """Continues from a state; raises AgentError for one that is not of a multiplier."""
        integral = state.get("integral")
        if integral is None:
            raise AgentError("not the state of a multiplier: integral is missing")
        self._integral, self._smoothed = integral, state.get("smoothed")


def part_index(spec: WorldSpec, part: str) -> int:
    """The place of a reward part; raises AgentError for an unknown one."""
    if part not in spec.reward_parts:
        raise AgentError(f"{spec.name} has no reward part {part!r}; it has {', '.join(spec.reward_parts)}")
    return spec.reward_parts.index(part)


def greedy_ratio(rollouts: Rollouts, constraint: Constraint) -> float | None:
    """Total of the constrained part over the greedy rows, relative to the reference's; the mean over agents.

    None where the reference's total is zero: nothing can be compared with it.

    Raises:
        AgentError: No greedy rows or no reference.
    """
    if rollouts.reference is None or not bool(rollouts.greedy.any()):
        raise AgentError("a constraint needs greedy rows and the reference's totals")
    allowed = float(rollouts.reference.limit[rollouts.greedy].sum())
    if allowed == 0:
        return None
    part = part_index(rollouts.spec, constraint.part)
    totals = torch.cat([r[..., part].sum(0, dtype=torch.float64) for r in rollouts.rewards.values()], 1)
    spent = -totals.mean(1)[rollouts.greedy].sum()
    return float(spent) / allowed


def step_costs(
    rollouts: Rollouts, weights: Mapping[str, float], constraint: Constraint | None, multiplier: float
) -> dict[str, torch.Tensor]:
    """Costs that accrue in every step to every agent, float64 [T, B, A] by kind.

    cost = -(weights . reward) / level_group + multiplier * (-reward_part) / limit_row. The level is the mean absolute
    total over the sampled rows of the group plus the reference's offset; without a reference costs are not divided.
    A limit counts as at least `LIMIT_FLOOR` of the mean limit; where all are zero the bound is left out.

    Raises:
        AgentError: An unknown reward part, or a constraint without a reference.
    """
    mix = torch.zeros(len(rollouts.spec.reward_parts), dtype=torch.float64, device=rollouts.times.device)
    for part, weight in weights.items():
        mix[part_index(rollouts.spec, part)] = weight
    costs = {}
    for name, reward in rollouts.rewards.items():
        cost = -(reward.to(torch.float64) @ mix)
        if rollouts.reference is not None:
            cost = cost / _levels(cost.sum(0), rollouts)
        if constraint is not None:
            if rollouts.reference is None:
                raise AgentError("a constraint needs the reference's totals")
            bounded = reward[..., part_index(rollouts.spec, constraint.part)]
            limit = rollouts.reference.limit.clamp(min=LIMIT_FLOOR * float(rollouts.reference.limit.mean()))
            cost = cost - multiplier * bounded / limit[:, None].masked_fill(limit[:, None] == 0, torch.inf)
        costs[name] = cost
    return costs


def _levels(totals: torch.Tensor, rollouts: Rollouts) -> torch.Tensor:
    """Level of the cost of each row's group, [B, 1], from totals [B, A]."""
    assert rollouts.reference is not None
    _, line = torch.unique(rollouts.group, return_inverse=True)
    sampled = (~rollouts.greedy).to(totals.dtype)
    groups = int(line.max()) + 1
    summed = totals.new_zeros(groups).index_add(0, line, totals.mean(1).abs() * sampled)
    count = totals.new_zeros(groups).index_add(0, line, sampled).clamp(min=1)
    return ((summed / count)[line] + rollouts.reference.offset)[:, None].clamp(min=1e-9)
