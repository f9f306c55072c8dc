"""What the future is worth to agents that were stopped without having terminated."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from fedsched.agents.inputs import check_last
from fedsched.agents.policy import Policy
from fedsched.envs.core import Observation, Transition, WorldSpec


class LastValues:
    """The critic's value of every agent at the last observation of its own, however long the others go on.

    An agent that terminated is worth zero. One that was cut off, alone or with its world, is worth what the critic says
    of the observation with which it left. What a world pays to either of them later counts for nothing.

    Attributes:
        value: float32 [B, A] by kind, zero but for the agents that were cut off.
        end: int64 [B, A] by kind, the number of steps until an agent stopped; the largest int64 for the others.
    """

    def __init__(self, policy: Policy, spec: WorldSpec, observation: Observation) -> None:
        """Starts with the agents that are alive in the first observation."""
        self._policy, self._spec = policy, spec
        self._alive = {name: tokens.alive.clone() for name, tokens in observation.kinds.items()}
        self.value = {name: torch.zeros_like(alive, dtype=torch.float32) for name, alive in self._alive.items()}
        longest = torch.iinfo(torch.int64).max
        self.end = {name: torch.full_like(a, longest, dtype=torch.int64) for name, a in self._alive.items()}

    def observe(self, transition: Transition, running: torch.Tensor, steps: int) -> None:
        """Takes note of a step of the worlds that were `running` [B] before it, `steps` in all until now."""
        seen, cut, here = transition.observation.kinds, transition.truncated[:, None], running[:, None]
        stopped = {n: a & here & (cut | ~seen[n].alive | transition.terminated[n]) for n, a in self._alive.items()}
        if not any(bool(gone.any()) for gone in stopped.values()):
            return
        lived = {name: alive & ~transition.terminated[name] for name, alive in self._alive.items()}
        values = self._values(transition.observation, lived)
        for name, gone in stopped.items():
            self.value[name] = torch.where(gone & lived[name], values[name], self.value[name])
            self.end[name] = self.end[name].masked_fill(gone, steps)
            self._alive[name] = self._alive[name] & ~gone
        check_last(self._spec, transition.observation, self.value, steps)

    def _values(self, observation: Observation, lived: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        # who leaves now still counts among those who are there: a world that is cut off as a whole is not empty
        kinds = {name: replace(tokens, alive=lived[name]) for name, tokens in observation.kinds.items()}
        values = self._policy.values_of_all(replace(observation, kinds=kinds))
        assert values is not None, "there are last values of a critic only"
        return values
