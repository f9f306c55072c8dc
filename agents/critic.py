"""The critic: the value of a decision from the agent's own features, its live entities and, if central, all agents."""

from functools import partial

import torch
from torch import nn

from fedsched.agents.config import CriticKind
from fedsched.agents.layers import Dense, Owners
from fedsched.envs.core import KindSpec, Observation, Tokens, WorldSpec


def critic_features(observation: Observation, critic: CriticKind = "central") -> dict[str, torch.Tensor]:
    """What a critic reads of every agent, by kind.

    Own features; of a central critic the mean own features of the living agents of every kind; mean and maximum of the
    live entities' features (zero without any). Masked sums only, so the numbers of agents and entities are free.

    Returns:
        float32 [B, A, Fc] by kind, with Fc from `critic_width`; new memory.
    """
    everyone = []
    if critic == "central":
        everyone = [torch.cat([_mean_own(tokens) for tokens in observation.kinds.values()], 1)[:, None]]
    features = {}
    for name, tokens in observation.kinds.items():
        shared = [part.expand(-1, tokens.own.shape[1], -1) for part in everyone]
        features[name] = torch.cat([tokens.own, *shared, *_pooled_entities(tokens)], 2)
    return features


def critic_width(spec: WorldSpec, kind: KindSpec, critic: CriticKind = "central") -> int:
    """The number of critic features Fc of a kind."""
    everyone = sum(len(k.own) for k in spec.kinds) if critic == "central" else 0
    return len(kind.own) + everyone + 2 * len(kind.entity)


def _mean_own(tokens: Tokens) -> torch.Tensor:
    alive = tokens.alive[:, :, None].to(tokens.own.dtype)
    return (tokens.own * alive).sum(1) / alive.sum(1).clamp(min=1)


def _pooled_entities(tokens: Tokens) -> list[torch.Tensor]:
    if tokens.entities.shape[2] == 0:
        return [tokens.entities.new_zeros(*tokens.entities.shape[:2], 2 * tokens.entities.shape[3])]
    # slots behind the last one in use are left out: most are empty most of the time, and pooling was most of acting
    used = tokens.entity_mask.any(0).any(0).nonzero()
    slots = int(used[-1]) + 1 if used.numel() else 1
    mask, entities = tokens.entity_mask[:, :, :slots, None], tokens.entities[:, :, :slots]
    mean = (entities * mask).sum(2) / mask.sum(2).clamp(min=1)
    top = entities.masked_fill(~mask, -torch.inf).amax(2)
    return [mean, top.masked_fill(~mask.any(2), 0.0)]


class Critic(nn.Module):
    """Value of a decision in the units of the returns, through a running normaliser.

    The network predicts normalised returns; mean and deviation are buffers of this site and never averaged.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    seen: torch.Tensor

    def __init__(self, features: int, width: int, copies: int = 0, orthogonal: bool = False) -> None:
        """Sizes: critic features and units in both hidden layers; `copies` as in `Dense`; how weights begin."""
        super().__init__()
        self.first = Dense(features, width, copies)
        self.second = Dense(width, width, copies)
        self.value = Dense(width, 1, copies)
        if orthogonal:
            for layer, gain in ((self.first, 2**0.5), (self.second, 2**0.5), (self.value, 1.0)):
                layer.start(partial(nn.init.orthogonal_, gain=gain))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, features: torch.Tensor, owners: Owners | None = None) -> torch.Tensor:
        """Normalised value, float32 [...] of features [..., Fc]; `owners` of the first axis."""
        hidden = torch.tanh(self.second(torch.tanh(self.first(features, owners)), owners))
        value: torch.Tensor = self.value(hidden, owners)
        return value.squeeze(-1)

    def values(self, features: torch.Tensor, owners: Owners | None = None) -> torch.Tensor:
        """Value in the units of the returns."""
        return self.forward(features, owners) * self.deviation + self.mean

    def normalise(self, returns: torch.Tensor) -> torch.Tensor:
        """Returns in the network's units."""
        return (returns - self.mean) / self.deviation

    @torch.no_grad()
    def observe(self, returns: torch.Tensor, weight: float = 0.1) -> None:
        """Moves the statistics towards those of new returns, and corrects the last layer so that values stay.

        Preserving outputs is the second half of PopArt (van Hasselt et al. 2016). The first returns set them; without
        any they stay.
        """
        if not returns.numel():
            return
        step = weight if float(self.seen) else 1.0
        mean = torch.lerp(self.mean, returns.mean(), step)
        deviation = torch.lerp(self.deviation, returns.std(correction=0), step).clamp(min=1e-4)
        self.value.weight.mul_(self.deviation / deviation)
        assert self.value.bias is not None
        self.value.bias.copy_((self.value.bias * self.deviation + self.mean - mean) / deviation)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.seen.fill_(1.0)
