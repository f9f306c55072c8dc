"""Sizes and kinds of a policy's parts."""

from dataclasses import dataclass, field
from typing import Literal

EncoderKind = Literal["pointwise", "attention"]
CriticKind = Literal["none", "independent", "central"]
Sharing = Literal["kind", "agent", "all"]


@dataclass(frozen=True)
class EncoderConfig:
    """What a network makes of the rows of a decision before it is scored.

    Attributes:
        kind: `pointwise` (a shared network per row) or `attention` (rows look at one another as well).
        width: Units of the first layer of the row network.
        hidden: Units of its second layer.
        heads: Attention heads over rows.
        layers: Layers of `width` units on the agent's own features and what it heard, before rows are looked at.
    """

    kind: EncoderKind = "pointwise"
    width: int = 32
    hidden: int = 16
    heads: int = 2
    layers: int = 0


@dataclass(frozen=True)
class MessageConfig:
    """What agents tell one another inside a decision.

    Attributes:
        rounds: Rounds of messages, at least one.
        latent: Numbers in a message.
        heads: Attention heads over what is heard.
    """

    rounds: int = 1
    latent: int = 16
    heads: int = 2


@dataclass(frozen=True)
class PolicyConfig:
    """The parts of a policy.

    Attributes:
        encoder: Of the rows.
        messages: Between the agents; None: none.
        sharing: Whose parameters an agent uses: `kind` (agents of a kind have theirs in common; messages are one
            language of all), `agent` (every agent of the world that the policy is built for owns all of its own) or
            `all` (one network for all kinds, see `Union`).
        critic: `none` (the `group` advantage needs none), `independent` (IPPO: own features and entities) or `central`
            (MAPPO: besides, what all agents of a world see of themselves).
        critic_width: Units of both its hidden layers.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    messages: MessageConfig | None = field(default_factory=MessageConfig)
    sharing: Sharing = "kind"
    critic: CriticKind = "none"
    critic_width: int = 64
