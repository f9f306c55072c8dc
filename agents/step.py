"""What a policy makes of one observation."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fedsched.agents.decisions import Decisions
from fedsched.agents.distribution import Distribution
from fedsched.agents.gaussian import within
from fedsched.agents.mailbox import Mailbox, Traffic
from fedsched.agents.memory import Memories
from fedsched.envs.core import WorldSpec


@dataclass(frozen=True)
class PolicyStep:
    """What a policy makes of one observation.

    Attributes:
        spec: Of the world observed.
        distribution: Over the rows of each decision, or over vectors, by kind.
        value: float32 [D] by kind; None without a critic.
        memory: For the next step, float32 [B, A, H] by kind; None for a feed-forward policy.
        mailbox: For the next step.
        decisions: The decisions by kind, as a rollout stores them.
        place: Where they lie in the flattened [B, A], int64 [D] by kind.
        action: The action of every row, int64 [R] by kind; [0] for vector actions.
        traffic: What was sent.
    """

    spec: WorldSpec
    distribution: Mapping[str, Distribution]
    value: Mapping[str, torch.Tensor] | None
    memory: Memories | None
    mailbox: Mailbox
    decisions: Mapping[str, Decisions]
    place: Mapping[str, torch.Tensor]
    action: Mapping[str, torch.Tensor]
    traffic: Traffic

    def actions(self, choice: Mapping[str, torch.Tensor], idle: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Actions for the world.

        Args:
            choice: int64 [D] by kind, rows counted inside each decision, or float32 [D, K] as drawn.
            idle: int64 [B, A] or float32 [B, A, K] by kind, what inactive agents do; not changed.
        """
        actions = {}
        for name, chosen in choice.items():
            bounds = self.spec.kind(name).bounds
            if bounds is None:
                picked = self.action[name].index_select(0, self.decisions[name].pointers[:-1] + chosen)
            else:
                picked = within(chosen, bounds)
            flat = idle[name].flatten(0, 1).index_copy(0, self.place[name], picked)
            actions[name] = flat.reshape(idle[name].shape)
        return actions


@dataclass(frozen=True)
class Gathered:
    """Decisions of a kind, where they lie in the flattened [B, A], and the action of every row."""

    decisions: Decisions
    place: torch.Tensor
    action: torch.Tensor
