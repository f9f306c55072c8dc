"""The learner: acts in worlds, turns rollouts into experience and improves its policy; resumes exactly."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from fedsched.agents.calibration import calibrate, concatenate_sequences, recorded_sequences
from fedsched.agents.collect import collect
from fedsched.agents.constraint import Constraint, Multiplier, greedy_ratio, step_costs
from fedsched.agents.decisions import AgentError
from fedsched.agents.experience import Discount, Experience, gae_experience, group_experience, merge
from fedsched.agents.minibatches import Chunks
from fedsched.agents.noise import Noise, NoiseConfig
from fedsched.agents.parameters import move_towards, require_same_shapes
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import Losses, Optimiser, PpoConfig
from fedsched.agents.rollout import Reference, Rollouts
from fedsched.envs.core import World


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
        noise: On the parameters while collecting; None: actions are drawn from the policy itself.
        ppo: Of the updates.
    """

    weights: Mapping[str, float]
    advantage: Literal["gae", "group"] = "group"
    rollouts: int = 8
    gamma: float = 1.0
    tau_s: float | None = None
    trace: float = 0.95
    constraint: Constraint | None = None
    noise: NoiseConfig | None = None
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
        noise: On the parameters while collecting; None without.
    """

    def __init__(self, policy: Policy, config: LearnerConfig, seed: int) -> None:
        """Prepares a learner; `seed` rules action noise and minibatches.

        Raises:
            AgentError: `gae` without a critic, `group` with a single rollout, noise on parameters of a `graph` encoder.
        """
        if config.advantage == "gae" and policy.config.critic == "none":
            raise AgentError("advantage gae needs a critic: set critic in the policy's configuration, or use group")
        if config.advantage == "group" and config.rollouts < 2:
            raise AgentError("advantage group compares rollouts of one instance: rollouts must be at least 2")
        if config.noise is not None and policy.config.encoder.kind == "graph":
            raise AgentError("the graph encoder has no copies to perturb: take gat, or explore without noise")
        self.policy, self.config = policy, config
        self.averaged = copy.deepcopy(policy)
        self.multiplier = None if config.constraint is None else Multiplier(config.constraint)
        self.noise = None if config.noise is None else Noise(config.noise)
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
            AgentError: A batch that does not fit, or a constraint without a reference.
        """
        rows = self.config.rows_per_instance
        count = instances.shape[0]
        if world.batch != count * rows:
            raise AgentError(f"{count} instances of {rows} rows each need a world of batch {count * rows}")
        if self.config.constraint is not None and reference is None:
            raise AgentError("a constraint needs the reference rule's total for every instance")
        place = torch.arange(world.batch, device=instances.device)
        greedy = (place % rows == 0) & (self.multiplier is not None)
        acting = self.policy if self.noise is None else self.noise.begin(self.policy, greedy, self._generator)
        return collect(
            acting,
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
            found = [greedy_ratio(part, self.config.constraint) for part in rollouts]
            ratios = [r for r in found if r is not None]
            if ratios:
                ratio = sum(ratios) / len(ratios)
                self.multiplier.observe(ratio)
        parts = [self._experience(part) for part in rollouts]
        experience = merge(parts, [part.moments for part in rollouts])
        self.policy.observe_returns({n: part.returns for n, part in experience.items() if part.returns is not None})
        chunks = None
        if self.policy.config.memory:
            shapes = [(part.times.shape[0] - 1, part.batch) for part in rollouts]
            chunks = Chunks.of(shapes, self.config.ppo.chunk, self._generator.device)
        away = 0.0 if self.noise is None else self.noise.adapt(self.policy, experience)
        losses = self._optimiser.update(experience, sum(part.moments for part in rollouts), chunks, away)
        move_towards(self.averaged, self.policy, self.config.ppo.average)
        if self.noise is not None:
            losses = replace(losses, noise=self.noise.sigma, noise_kl=self.noise.distance)
        return replace(losses, multiplier=self._lambda, greedy_ratio=ratio, sent_share=self._calibrate(rollouts))

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to go on exactly; picklable."""
        return {
            "policy": copy.deepcopy(self.policy.state_dict()),
            "averaged": copy.deepcopy(self.averaged.state_dict()),
            "adam": copy.deepcopy(self._optimiser.adam.state_dict()),
            "updates": self._optimiser.updates,
            "generator": self._generator.get_state(),
            "multiplier": None if self.multiplier is None else self.multiplier.state(),
            "noise": None if self.noise is None else self.noise.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of a learner with the same configuration.

        Raises:
            AgentError: The state lacks something, or is of another policy; nothing is changed then.
        """
        missing = {"policy", "averaged", "adam", "updates", "generator", "multiplier", "noise"} - state.keys()
        parts = {"multiplier": self.multiplier, "noise": self.noise}
        unlike = sorted(missing) or [n for n, part in parts.items() if (state[n] is None) != (part is None)]
        if unlike:
            raise AgentError(f"not the state of such a learner: {', '.join(unlike)} differs")
        for policy, part in ((self.policy, "policy"), (self.averaged, "averaged")):
            require_same_shapes(policy.state_dict(), state[part])
        self.policy.load_state_dict(state["policy"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimiser.adam.load_state_dict(copy.deepcopy(state["adam"]))
        self._optimiser.updates = state["updates"]
        self._generator.set_state(state["generator"])
        if self.multiplier is not None:
            self.multiplier.load(state["multiplier"])
        if self.noise is not None:
            self.noise.load(state["noise"])

    def _calibrate(self, rollouts: Sequence[Rollouts]) -> float:
        """Moves the triggers of both policies; returns the share that the averaged one sends."""
        share, step = 1.0, max(self.config.ppo.average, 1 / self._optimiser.updates)
        for policy in (self.policy, self.averaged):
            if policy.trigger is not None:
                found = [recorded_sequences(policy, part) for part in rollouts]
                present = [part for part in found if part is not None]
                if present:
                    share = calibrate(policy.trigger, concatenate_sequences(present), step)
        return share

    @property
    def _lambda(self) -> float:
        return 0.0 if self.multiplier is None else self.multiplier.value

    def _experience(self, rollouts: Rollouts) -> dict[str, Experience]:
        config = self.config
        costs = step_costs(rollouts, config.weights, config.constraint, self._lambda)
        if config.advantage == "group":
            return group_experience(rollouts, costs)
        return gae_experience(rollouts, costs, Discount(config.gamma, config.tau_s, config.trace))
