"""Exploration by noise on the parameters (Plappert et al. 2018) that is correlated in time.

A few perturbed copies of the networks act, each in its share of the world's rows, so that the rollouts of one instance
differ in what is tried and not in the draws of single actions alone: a whole stretch of time goes by a slightly other
policy. Each number of each copy has its own noise, theta + sigma * e, and e is autoregressive over the steps:

e <- rho e + sqrt(1 - rho^2) epsilon,

standard normal at every step. sigma is adapted so that acting differs by a given divergence. Rollouts hold the
probabilities under the copy that acted, so PPO's ratio corrects for it. Critics and messengers are not perturbed.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fedsched.agents.experience import Experience
from fedsched.agents.mailbox import Mailbox
from fedsched.agents.memory import Memories
from fedsched.agents.network import KindNetwork
from fedsched.agents.policy import Policy
from fedsched.agents.step import Gathered
from fedsched.envs.core import Observation, WorldSpec

STEP = 2.0
"""Sigma changes by this factor at most from one update to the next."""


@dataclass(frozen=True)
class NoiseConfig:
    """How parameters are perturbed.

    Attributes:
        target: KL divergence between acting with noise and without that is aimed at, nats per decision.
        correlation: Rho, from one step of the world to the next; 1: one perturbation for a whole episode.
        sigma: Deviation that the first rollouts are perturbed with.
        members: Perturbed copies; neighbouring rows of the world have different ones.
    """

    target: float = 0.05
    correlation: float = 0.98
    sigma: float = 0.05
    members: int = 8


class Explorer(Policy):
    """A policy that acts through perturbed copies of another one's networks; its values are the other's.

    Made for one collection: `Noise.begin` does that.
    """

    def __init__(self, policy: Policy, config: NoiseConfig, sigma: float, generator: torch.Generator) -> None:
        """Perturbs `policy`; `generator` rules the noise."""
        nn.Module.__init__(self)
        self.__dict__.update({name: value for name, value in policy.__dict__.items() if name != "_modules"})
        self._modules = dict(policy._modules)
        self._origin = (policy,)  # in a tuple, so that it is no part of this module
        self._correlation, self._sigma, self._noise = config.correlation, sigma, generator
        self.kinds = nn.ModuleDict({name: stacked(part, config.members + 1) for name, part in policy.kinds.items()})
        origin = dict(policy.kinds.named_parameters())
        self._perturbed = dict(self.kinds.named_parameters())
        self._centre = torch.cat([origin[name].detach().reshape(-1) for name in self._perturbed])
        self._sizes = [origin[name].numel() for name in self._perturbed]
        self._state = self._draw(config.members)
        self._write()

    def assign(self, greedy: torch.Tensor) -> None:
        """Gives every row of the world its copy, bool [B]; greedy rows act without noise."""
        members = self._state.shape[0]
        member = torch.arange(greedy.shape[0], device=greedy.device) % members
        for network in self.kinds.values():
            assert isinstance(network, KindNetwork)
            network.members = torch.where(greedy, members, member)

    def gather(
        self, spec: WorldSpec, observation: Observation, mailbox: Mailbox, memory: Memories | None = None
    ) -> dict[str, Gathered]:
        """Moves the noise on to this step, and gathers."""
        rho = self._correlation
        if rho < 1.0:
            self._state = rho * self._state + (1.0 - rho * rho) ** 0.5 * self._draw(self._state.shape[0])
            self._write()
        return super().gather(spec, observation, mailbox, memory)

    def values(self, decisions: Mapping[str, Any]) -> dict[str, torch.Tensor] | None:
        """The unperturbed critic's."""
        return self._origin[0].values(decisions)

    def values_of_all(self, observation: Observation, memory: Memories | None = None) -> dict[str, torch.Tensor] | None:
        """The unperturbed critic's."""
        return self._origin[0].values_of_all(observation, memory)

    def _draw(self, members: int) -> torch.Tensor:
        shape = (members, self._centre.shape[0])
        return torch.randn(shape, generator=self._noise, device=self._centre.device)

    @torch.no_grad()
    def _write(self) -> None:
        """Moves all copies but the last, which has no noise."""
        moved = torch.split(torch.add(self._centre, self._state, alpha=self._sigma), self._sizes, 1)
        for parameter, part in zip(self._perturbed.values(), moved, strict=True):
            inner = parameter.shape[1:]
            parameter[: part.numel() // inner.numel()].copy_(part.reshape(-1, *inner))


class Noise:
    """The noise of a learner.

    Attributes:
        sigma: Present deviation of the parameters.
        distance: Divergence that the last rollouts had; zero before any.
    """

    def __init__(self, config: NoiseConfig) -> None:
        """Starts with the deviation of the configuration."""
        self._config = config
        self.sigma, self.distance = config.sigma, 0.0

    def begin(self, policy: Policy, greedy: torch.Tensor, generator: torch.Generator) -> Explorer:
        """Fresh perturbed copies for episodes in as many rows as `greedy` bool [B]; greedy rows act without noise."""
        explorer = Explorer(policy, self._config, self.sigma, generator)
        explorer.assign(greedy)
        return explorer

    def adapt(self, policy: Policy, experience: Mapping[str, Experience]) -> float:
        """Returns the divergence of fresh experience, and moves sigma towards the one that gives the target.

        The divergence grows with the square of a small sigma. Plappert et al. change sigma by one per cent; there are
        far fewer updates here.
        """
        if not any(len(part.decisions) for part in experience.values()):
            return 0.0
        self.distance = distance(policy, experience)
        wanted = (self._config.target / max(self.distance, 1e-12)) ** 0.5
        self.sigma *= min(STEP, max(1.0 / STEP, wanted))
        return self.distance

    def state(self) -> dict[str, float]:
        """What `load` needs to go on; noise itself is drawn anew for every collection."""
        return {"sigma": self.sigma, "distance": self.distance}

    def load(self, state: Mapping[str, float]) -> None:
        """Continues from a state."""
        self.sigma, self.distance = state["sigma"], state["distance"]


@torch.no_grad()
def distance(policy: Policy, experience: Mapping[str, Experience]) -> float:
    """KL(acting policy || policy), nats per decision, estimated by E[r - 1 - ln r], r = policy / acting policy."""
    judged = policy.judge({name: part.decisions for name, part in experience.items()})
    now = torch.cat([judged.distribution[name].log_prob(part.choice) for name, part in experience.items()])
    difference = now - torch.cat([part.log_prob for part in experience.values()])
    return float((difference.exp() - 1 - difference).mean())


def stacked(network: nn.Module, members: int) -> nn.Module:
    """Copies of a network in stacked layers, without its critic; where agents own copies, each then owns several."""
    assert isinstance(network, KindNetwork)
    kept, network.critic = network.critic, None
    twin = copy.deepcopy(network)
    network.critic = kept
    owned = network.copies
    for module in twin.modules():
        if "copies" in module.__dict__:
            module.__dict__["copies"] = members * max(1, owned)
        for name, parameter in module._parameters.items():
            if parameter is not None:
                own = parameter.detach() if owned else parameter.detach()[None]
                module._parameters[name] = nn.Parameter(own.repeat(members, *[1] * (own.dim() - 1)), False)
    return twin
