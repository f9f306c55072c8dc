"""The learner: acts in worlds, turns rollouts into experience and improves its policy; resumes exactly."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from fedsched.agents.advantage import between, gae, group_advantage
from fedsched.agents.collect import collect
from fedsched.agents.constraint import Constraint, Multiplier, greedy_ratio, step_costs
from fedsched.agents.decisions import AgentError, concatenate
from fedsched.agents.parameters import move_towards
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import Experience, Losses, Optimiser, PpoConfig
from fedsched.agents.rollout import Reference, Rollouts
from fedsched.envs.core.world import World


@dataclass(frozen=True)
class LearnerConfig:
    """How a policy learns.

    Attributes:
        weights: Weight of each reward part in the objective; the others count nothing.
        advantage: `gae` (needs a critic) or `group` (needs at least two rollouts of every instance).
        rollouts: Sampled rollouts of every instance.
        gamma: Discount per decision (`gae` only).
        tau_s: Where set, discounts exp(-elapsed / tau_s) by the clock as well (`gae` only).
        trace: Decay lambda of `gae`.
        constraint: Bound on one reward part; adds one greedy row to the rollouts of every instance.
        ppo: Of the updates.
    """

    weights: Mapping[str, float]
    advantage: Literal["gae", "group"] = "group"
    rollouts: int = 8
    gamma: float = 1.0
    tau_s: float | None = None
    trace: float = 0.95
    constraint: Constraint | None = None
    ppo: PpoConfig = field(default_factory=PpoConfig)

    @property
    def rows_per_instance(self) -> int:
        """World rows that one instance takes: its sampled rollouts, and a greedy one under a constraint."""
        return self.rollouts + (self.constraint is not None)


class Learner:
    """Improves one policy on one site's worlds.

    Attributes:
        policy: Learns.
        averaged: Running average of its parameters over updates; the one to evaluate.
        multiplier: Of the constraint; None without one.
    """

    def __init__(self, policy: Policy, config: LearnerConfig, seed: int) -> None:
        """Prepares a learner; `seed` rules action noise and minibatches.

        Raises:
            AgentError: `gae` without a critic, `group` with a single rollout.
        """
        if config.advantage == "gae" and not policy.config.critic:
            raise AgentError("advantage gae needs a critic: set critic in the policy's configuration, or use group")
        if config.advantage == "group" and config.rollouts < 2:
            raise AgentError("advantage group compares rollouts of one instance: rollouts must be at least 2")
        self.policy, self.config = policy, config
        self.averaged = copy.deepcopy(policy)
        self.multiplier = None if config.constraint is None else Multiplier(config.constraint)
        self._generator = torch.Generator(next(policy.parameters()).device).manual_seed(seed)
        self._optimiser = Optimiser(policy, config.ppo, self._generator)

    def collect(
        self, world: World, instances: torch.Tensor, seeds: torch.Tensor, reference: Reference | None = None
    ) -> Rollouts:
        """Acts in `rows_per_instance` neighbouring rows of a world for every instance, until all have ended.

        Args:
            world: Of batch n * rows_per_instance.
            instances: int64 [n].
            seeds: int64 [n], the randomness inside an instance; its rollouts differ in action noise alone.
            reference: Per instance [n]; needed under a constraint.

        Raises:
            AgentError: A batch that does not fit, or a constraint without a positive reference.
        """
        rows = self.config.rows_per_instance
        count = instances.shape[0]
        if world.batch != count * rows:
            raise AgentError(f"{count} instances of {rows} rows each need a world of batch {count * rows}")
        if self.config.constraint is not None and (reference is None or not bool((reference.limit > 0).all())):
            raise AgentError("a constraint needs the reference rule's total, above zero, for every instance")
        place = torch.arange(world.batch, device=instances.device)
        greedy = (place % rows == 0) & (self.multiplier is not None)
        return collect(
            self.policy,
            world,
            instances.repeat_interleave(rows),
            seeds.repeat_interleave(rows),
            self._generator,
            greedy,
            torch.div(place, rows, rounding_mode="floor"),
            None if reference is None else reference.repeat(rows),
        )

    def update(self, rollouts: Sequence[Rollouts]) -> Losses:
        """Learns from rollouts of one or several worlds, all collected since the last update.

        Raises:
            AgentError: Nothing to learn from.
        """
        ratio = 0.0
        if self.multiplier is not None and self.config.constraint is not None:
            ratio = sum(greedy_ratio(part, self.config.constraint) for part in rollouts) / max(1, len(rollouts))
            self.multiplier.observe(ratio)
        parts = [self._experience(part) for part in rollouts]
        experience = merge(parts, [part.moments for part in rollouts])
        for name, part in experience.items():
            if part.returns is not None:
                self.policy.critic(name).observe(part.returns)
        losses = self._optimiser.update(experience, sum(part.moments for part in rollouts))
        move_towards(self.averaged, self.policy, self.config.ppo.average)
        return replace(losses, multiplier=self._lambda, greedy_ratio=ratio)

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to go on exactly; picklable."""
        return {
            "policy": copy.deepcopy(self.policy.state_dict()),
            "averaged": copy.deepcopy(self.averaged.state_dict()),
            "adam": copy.deepcopy(self._optimiser.adam.state_dict()),
            "updates": self._optimiser.updates,
            "generator": self._generator.get_state(),
            "multiplier": None if self.multiplier is None else self.multiplier.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of a learner with the same configuration.

        Raises:
            AgentError: The state lacks something.
        """
        missing = {"policy", "averaged", "adam", "updates", "generator", "multiplier"} - state.keys()
        if missing or (state["multiplier"] is None) != (self.multiplier is None):
            raise AgentError(f"not the state of such a learner: {', '.join(sorted(missing)) or 'multiplier'} differs")
        self.policy.load_state_dict(state["policy"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimiser.adam.load_state_dict(copy.deepcopy(state["adam"]))
        self._optimiser.updates = state["updates"]
        self._generator.set_state(state["generator"])
        if self.multiplier is not None:
            self.multiplier.load(state["multiplier"])

    @property
    def _lambda(self) -> float:
        return 0.0 if self.multiplier is None else self.multiplier.value

    def _experience(self, rollouts: Rollouts) -> dict[str, Experience]:
        costs = step_costs(rollouts, self.config.weights, self.config.constraint, self._lambda)
        experience = {}
        for name, taken in rollouts.taken.items():
            learnt = (~rollouts.greedy)[rollouts.row(name)].nonzero().squeeze(1)
            if self.config.advantage == "group":
                advantage, returns = group_advantages(rollouts, name, costs[name], learnt), None
            else:
                advantage, returns = self._gae(rollouts, name, costs[name], learnt)
            whole = Experience(taken.decisions, taken.choice, taken.log_prob, taken.log_prob, taken.value)
            part = whole.select(learnt)
            value = None if returns is None else part.value
            experience[name] = replace(part, advantage=advantage, value=value, returns=returns)
        return experience

    def _gae(
        self, rollouts: Rollouts, kind: str, costs: torch.Tensor, learnt: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages and returns, float32 [L] each, of the decisions `learnt` [L] of one kind."""
        taken = rollouts.taken[kind]
        if taken.value is None or rollouts.last_value is None:
            raise AgentError("these rollouts were collected without a critic")
        agents = costs.shape[2]
        step, row = rollouts.step(kind)[learnt], rollouts.row(kind)[learnt]
        column = row * agents + rollouts.agent(kind)[learnt]
        clock = rollouts.times[:, :, None].expand(-1, -1, agents)
        elapsed = between(clock.reshape(clock.shape[0], -1), step, column)
        discount = torch.full_like(elapsed, self.config.gamma)
        if self.config.tau_s is not None:
            discount = discount * torch.exp(-elapsed / self.config.tau_s)
        bootstrap = rollouts.last_value[kind].masked_fill(rollouts.terminated[kind], 0.0).reshape(-1)
        value = taken.value[learnt]
        reward = -between(running_sum(costs), step, column)
        advantage = gae(reward.float(), value, discount.float(), column, bootstrap, self.config.trace)
        return advantage, advantage + value


def running_sum(costs: torch.Tensor) -> torch.Tensor:
    """Accrued costs before each step and at the end, float64 [T + 1, B * A], from those of each step [T, B, A]."""
    flat = costs.reshape(costs.shape[0], -1)
    return torch.cat([flat.new_zeros(1, flat.shape[1]), flat.cumsum(0)])


def group_advantages(rollouts: Rollouts, kind: str, costs: torch.Tensor, learnt: torch.Tensor) -> torch.Tensor:
    """Clock-aligned advantages, float32 [L], of the decisions `learnt` [L] of one kind, greedy rows left out."""
    agents = costs.shape[2]
    step, row = rollouts.step(kind)[learnt], rollouts.row(kind)[learnt]
    kept = (~rollouts.greedy).nonzero().squeeze(1)
    line = torch.cumsum(~rollouts.greedy, 0) - 1
    clock = rollouts.times[:, kept].repeat_interleave(agents, 1)
    group = (rollouts.group[kept, None] * agents + torch.arange(agents, device=kept.device)).reshape(-1)
    column = line[row] * agents + rollouts.agent(kind)[learnt]
    time = rollouts.times[step, row]
    return group_advantage(clock, running_sum(costs[:, kept]), group, column, time).float()


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
