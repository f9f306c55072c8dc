"""Learning from branches: the policy moves towards the actions that cost least in copies of the world.

For every tried decision the costs of all its legal actions are known, so the gradient of the expected cost
sum_a pi(a | s) A(s, a) needs no sampling of actions (the all-action policy gradient; A is the cost less the mean over
the actions). Costs of the last updates are kept and learned from again: they change slowly with the policy.
"""

import copy
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fedsched.agents.branches import Branches, Tried, branch_out, merge_branches, require_forgetful
from fedsched.agents.decisions import AgentError
from fedsched.agents.distribution import RaggedCategorical
from fedsched.agents.gradient import descend, message_charge
from fedsched.agents.labelled import record_from, to_plain
from fedsched.agents.minibatches import minibatches
from fedsched.agents.parameters import move_towards
from fedsched.agents.policy import Policy
from fedsched.envs.core import Branching

# costs are cut at this many mean deviations: one jam must not rule a step
COST_LIMIT = 5.0


@dataclass(frozen=True)
class VineConfig:
    """How a policy learns from branches.

    Attributes:
        every: Steps of an episode from one moment of trying to the next.
        horizon_s: How long a branch is driven, s.
        keep: Updates whose branches are learned from.
        iterations: Number of updates planned.
        lr: Adam's step size at the beginning; it falls linearly over `iterations`.
        lr_end: Its share that is left at the end.
        epochs: Passes over all kept branches in an update.
        minibatch: Decisions per gradient step, roughly: decisions of one moment stay together.
        entropy: Weight of the entropy, so that no action is given up early.
        grad_norm: Bound on the norm of the gradient.
        average: Weight of the newest parameters in the running average that is evaluated.
    """

    every: int = 4
    horizon_s: float = 90.0
    keep: int = 8
    iterations: int = 20
    lr: float = 2e-3
    lr_end: float = 0.1
    epochs: int = 4
    minibatch: int = 256
    entropy: float = 0.01
    grad_norm: float = 1.0
    average: float = 0.2


@dataclass(frozen=True)
class VineLosses:
    """Diagnostics of an update.

    Attributes:
        cost: Expected cost of a tried decision under the policy, in mean deviations of the costs, last epoch; less than
            0 is better than choosing at random.
        deviation: Mean deviation of the costs, in the unit of the domain.
        entropy: Nats per decision, last epoch.
        decisions: Tried ones learned from.
    """

    cost: float
    deviation: float
    entropy: float
    decisions: int


class Vine:
    """Improves a policy by branches.

    Attributes:
        policy: Learns.
        averaged: Running average of its parameters; may be another learner's.
        updates: Made so far.
    """

    def __init__(self, policy: Policy, averaged: Policy, config: VineConfig, seed: int) -> None:
        """Prepares the first update; `seed` rules which decisions are tried, and the minibatches.

        Raises:
            AgentError: A policy with memory.
        """
        require_forgetful(policy)
        self.policy, self.averaged, self._config = policy, averaged, config
        self._generator = torch.Generator(next(policy.parameters()).device).manual_seed(seed)
        self._adam = torch.optim.Adam(policy.parameters(), lr=config.lr, eps=1e-5)
        self._kept: deque[Tried] = deque(maxlen=config.keep)
        self.updates = 0

    @property
    def done(self) -> bool:
        """Whether all planned updates have been made."""
        return self.updates >= self._config.iterations

    def collect(self, world: Branching, copies: Branching, instances: torch.Tensor, seeds: torch.Tensor) -> Tried:
        """Plays the episodes of `instances` and `seeds`, int64 [B], for the next update; see `branch_out`."""
        settings = self._config
        return branch_out(
            self.policy, world, copies, instances, seeds, settings.every, settings.horizon_s, self._generator
        )

    def update(self, tried: Sequence[Tried]) -> VineLosses:
        """Learns from what was tried in one or several worlds, and from the updates before.

        Raises:
            AgentError: Nothing has ever been tried, or a gradient that is not finite.
        """
        branches, moments = merge_branches(tried)
        self._kept.append(Tried(branches, moments, {}))
        branches, moments = merge_branches(list(self._kept))
        count = sum(int(part.tried.sum()) for part in branches.values())
        if not count:
            raise AgentError("no decision had a choice: there is nothing to learn from")
        deviation = _deviation(branches)
        scaled = {name: _scaled(part, deviation) for name, part in branches.items()}
        self._set_rate()
        pieces = max(1, round(count / self._config.minibatch))
        steps: list[tuple[torch.Tensor, torch.Tensor]] = []
        for _ in range(self._config.epochs):
            steps = [self._step(piece) for piece in minibatches(scaled, moments, pieces, self._generator)]
        self.updates += 1
        move_towards(self.averaged, self.policy, self._config.average)
        if self.done:
            self._kept.clear()
        cost, entropy = (float(torch.stack(column).mean()) for column in zip(*steps, strict=True))
        return VineLosses(cost, deviation, entropy, count)

    def state(self) -> dict[str, Any]:
        """Everything beside the policies that `load` needs to go on exactly, the kept branches among it."""
        return {
            "adam": copy.deepcopy(self._adam.state_dict()),
            "generator": self._generator.get_state(),
            "updates": self.updates,
            "kept": [
                {"moments": one.moments, "branches": {name: to_plain(part) for name, part in one.branches.items()}}
                for one in self._kept
            ],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of a learner with the same configuration."""
        self._adam.load_state_dict(copy.deepcopy(state["adam"]))
        self._generator.set_state(state["generator"])
        self.updates = state["updates"]
        self._kept.clear()
        for one in state["kept"]:
            branches = {name: record_from(Branches, part) for name, part in one["branches"].items()}
            self._kept.append(Tried(branches, one["moments"], {}))

    def _set_rate(self) -> None:
        config = self._config
        left = max(0.0, 1.0 - self.updates / max(1, config.iterations))
        for group in self._adam.param_groups:
            group["lr"] = config.lr * (config.lr_end + (1.0 - config.lr_end) * left)

    def _step(self, piece: Mapping[str, Branches]) -> tuple[torch.Tensor, torch.Tensor]:
        """One step; the expected cost and the entropy before it."""
        judged = self.policy.judge({name: part.decisions for name, part in piece.items()})
        costs, entropies = [], []
        for name, part in piece.items():
            chances = judged.distribution[name]
            assert isinstance(chances, RaggedCategorical)
            costs.append((chances.log_probs.exp() * part.cost).sum())
            entropies.append(chances.entropy()[part.tried])
        entropy = torch.cat(entropies)
        cost = torch.stack(costs).sum() / max(1, len(entropy))
        loss = cost - self._config.entropy * entropy.sum() / max(1, len(entropy))
        loss = loss + message_charge(self.policy, judged)
        descend(self.policy, self._adam, loss, self._config.grad_norm, f"update {self.updates + 1}")
        return cost.detach(), entropy.mean().detach() if len(entropy) else cost.detach() * 0.0


def _deviation(branches: Mapping[str, Branches]) -> float:
    """Mean absolute cost over the rows of all tried decisions; 1 where all actions cost the same."""
    total = sum(float(part.cost.abs().sum()) for part in branches.values())
    rows = sum(int(part.decisions.pointers.diff()[part.tried].sum()) for part in branches.values())
    return total / max(1, rows) or 1.0


def _scaled(branches: Branches, deviation: float) -> Branches:
    cost = (branches.cost / deviation).clamp(-COST_LIMIT, COST_LIMIT)
    return Branches(branches.decisions, cost, branches.tried)
