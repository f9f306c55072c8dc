"""Sizes and kinds of a policy's parts."""

from dataclasses import dataclass, field
from typing import Literal

EncoderKind = Literal["pointwise", "attention", "hierarchical", "gat", "graph"]
Scoring = Literal["additive", "dot"]
CriticKind = Literal["none", "independent", "central"]
Sharing = Literal["kind", "agent", "all"]
Measure = Literal["entropy", "gap"]


@dataclass(frozen=True)
class EncoderConfig:
    """What a network makes of the rows of a decision before it is scored.

    Attributes:
        kind: `pointwise` (a shared network per row), `attention` (the entities that an agent sees look at one another
            first), `hierarchical` (they pass a transformer, and their features are weighted), `gat` (graph attention)
            or `graph` (the same by torch-geometric, for large graphs with few links).
        width: Units of the first layer of the row network.
        hidden: Units of its second layer.
        heads: Attention heads over entities.
        layers: Layers of `width` units on the agent's own features and what it heard, before rows are looked at.
        blocks: Rounds of `hierarchical`, `gat` and `graph`.
        scoring: `additive` (a linear layer on what was made of row and state) or `dot` (the product of the state and
            what was made of the row; with `pointwise`, of the row itself).
    """

    kind: EncoderKind = "pointwise"
    width: int = 32
    hidden: int = 16
    heads: int = 2
    layers: int = 0
    blocks: int = 1
    scoring: Scoring = "additive"


@dataclass(frozen=True)
class TriggerConfig:
    """When an agent sends in use, if not always.

    Attributes:
        share: Share of the possible messages that shall be sent; the thresholds are calibrated to it.
        measure: Of uncertainty: normalised `entropy`, or `gap`, one minus the gap between the two likeliest actions.
        timeout: Decisions without sending after which an agent sends in any case.
    """

    share: float = 0.18
    measure: Measure = "entropy"
    timeout: int = 20


@dataclass(frozen=True)
class MessageConfig:
    """What agents tell one another inside a decision, in stages; all but the first can be off.

    Attributes:
        rounds: Rounds of messages, at least one.
        latent: Numbers in a message.
        heads: Attention heads over what is heard.
        kl: Weight in the loss of the nats by which a Gaussian message differs from its prior; None: not variational.
        quantised: Whether messages are sent as int8 in use instead of float32.
        trigger: When messages are sent in use; None: always.
        dropout: Share of the messages in training that are not sent.
    """

    rounds: int = 1
    latent: int = 16
    heads: int = 2
    kl: float | None = None
    quantised: bool = False
    trigger: TriggerConfig | None = None
    dropout: float = 0.0


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
        critic_start: How its weights begin: `uniform` as PyTorch has it, or `orthogonal` (gain sqrt 2, last layer 1).
        memory: Numbers that an agent remembers from one decision to the next; 0: none.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    messages: MessageConfig | None = field(default_factory=MessageConfig)
    sharing: Sharing = "kind"
    critic: CriticKind = "none"
    critic_width: int = 64
    critic_start: Literal["uniform", "orthogonal"] = "uniform"
    memory: int = 0
