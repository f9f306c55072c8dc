"""The networks of one kind of agent, and how they start.

score_r = 10 * sum_g gate_g(own_d) * (w_g . row_r)  +  network(own_d, context_d, entities_d, row_r)

The first term is linear and starts as a soft dispatching rule (`SoftRule`); the network's last layer starts near zero,
so that learning begins at the rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from fedsched.agents.config import EncoderConfig, PolicyConfig
from fedsched.agents.critic import Critic
from fedsched.agents.decisions import AgentError, Decisions
from fedsched.agents.distribution import RaggedCategorical
from fedsched.agents.encoder import make_encoder
from fedsched.agents.layers import SHARED, Dense, Owners, Whose, linear
from fedsched.agents.memory import Memory
from fedsched.agents.scoring import AdditiveScore, DotScore
from fedsched.agents.segments import segment_mean
from fedsched.agents.state import StateEncoder
from fedsched.envs.core import KindSpec

# skip weights are stored divided by this: one Adam step then moves a soft rule as far as it needs
SKIP_SCALE = 10.0


@dataclass(frozen=True)
class SoftRule:
    """A dispatching rule as the start of a kind's linear term.

    Attributes:
        weights: Score per unit of an entity or action feature, such as `{"log_area": -40.0}`; zero for the others.
        gates: Own features that the linear weights depend on, such as a stage flag; they start without effect.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    gates: tuple[str, ...] = ()


class KindNetwork(nn.Module):
    """What the networks of all kinds of agents have: owners of parameters, a summary to tell, a critic.

    Attributes:
        copies: Agents that own their parameters; zero where the kind shares them. While exploring, times the members.
        members: int64 [B], which perturbed copy acts in each row of a world, see `noise`; None: there is none.
        inputs: Own features, numbers heard from others, and those remembered.
        first: The kind's first agent over all kinds.
        looks: Whether decisions are gathered with the entities that agents see.
        summary: None without messages.
        critic: None without one.
        memory: None without.
    """

    summary: Dense | None
    critic: Critic | None
    memory: Memory | None
    looks: bool = False

    def __init__(self, kind: KindSpec, config: PolicyConfig, first: int) -> None:
        """Sizes; `first` is the kind's first agent over all kinds. Subclasses end with `add_common`."""
        super().__init__()
        self.copies = self._owned = len(kind.agents) if config.sharing == "agent" else 0
        self.members: torch.Tensor | None = None
        self.inputs = len(kind.own) + (config.messages.latent if config.messages else 0) + config.memory
        self.first = first

    def add_common(self, kind: KindSpec, rows: int, config: PolicyConfig, critic_features: int) -> None:
        """Adds summary and critic; `rows` is the number of features of a row."""
        told = config.messages.latent if config.messages else 0
        self.summary = Dense(len(kind.own) + rows + config.memory, told, self.copies) if told else None
        self.critic = None
        if config.critic != "none":
            orthogonal = config.critic_start == "orthogonal"
            self.critic = Critic(critic_features, config.critic_width, self.copies, orthogonal)
        remembered = config.memory
        self.memory = Memory(self.inputs - remembered, remembered, self.copies) if remembered else None

    def owners(self, decisions: Decisions) -> Owners | None:
        """Whose parameters each decision uses; None where the kind shares them."""
        if not self.copies:
            return None
        owner = decisions.agent - self.first if self._owned else torch.zeros_like(decisions.agent)
        if self.members is not None:
            owner = owner + self.members.index_select(0, decisions.moment) * max(1, self._owned)
        return Owners.of(owner, self.copies)

    def whose(self, decisions: Decisions, segment: torch.Tensor) -> Whose:
        """Whose parameters each decision and each row uses."""
        owners = self.owners(decisions)
        return Whose(owners, owners.over(decisions.pointers, segment)) if owners else SHARED

    def seen(self, decisions: Decisions, context: torch.Tensor | None) -> torch.Tensor:
        """Own features, what was heard (`context` [D, M]) and what is remembered, float32 [D, inputs]."""
        parts = [part for part in (decisions.own, context, decisions.memory) if part is not None]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def remember(self, decisions: Decisions, context: torch.Tensor | None) -> torch.Tensor:
        """Memories [D, H] after these decisions; what the agents do depends on them already."""
        if self.memory is None or decisions.memory is None:
            raise AgentError("this policy has no memory, or the decisions were gathered without")
        inputs = decisions.own if context is None else torch.cat([decisions.own, context], 1)
        remembered: torch.Tensor = self.memory(inputs, decisions.memory, self.owners(decisions))
        return remembered

    def summarise(self, decisions: Decisions, segment: torch.Tensor) -> torch.Tensor:
        """What an agent can tell others, float32 [D, M]: own features, the mean of its rows, its memory."""
        if self.summary is None:
            raise AgentError("this policy sends no messages")
        mean = segment_mean(decisions.rows, decisions.pointers, segment)
        parts = [decisions.own, mean, *([] if decisions.memory is None else [decisions.memory])]
        return torch.tanh(self.summary(torch.cat(parts, 1), self.owners(decisions)))


class ChoiceNetwork(KindNetwork):
    """The network of a kind that chooses among rows: linear term, row encoder, score."""

    gate: torch.Tensor

    def __init__(
        self, kind: KindSpec, config: PolicyConfig, rule: SoftRule, critic_features: int, first: int = 0
    ) -> None:
        """Builds the parts.

        Args:
            kind: Features, and with `sharing: agent` the number of agents.
            config: Sizes.
            rule: To start from.
            critic_features: What a critic reads, Fc.
            first: The kind's first agent over all kinds, for `sharing: agent`.

        Raises:
            AgentError: The rule names an unknown feature.
        """
        super().__init__(kind, config, first)
        copies, encoder = self.copies, config.encoder
        rows = len(kind.entity) + len(kind.action)
        start = _start(kind, rule)
        self.skip = nn.Parameter(start.repeat(copies, 1, 1) if copies else start)
        self.register_buffer("gate", torch.tensor([_index(kind.own, g) for g in rule.gates], dtype=torch.int64), False)
        self.state = StateEncoder(self.inputs, encoder.width, encoder.layers, copies)
        self.encoder = make_encoder(kind, encoder, self.state.size, copies)
        self.score = _score(encoder, self.state.size, self.encoder.size, copies)
        self.looks = self.encoder.looks
        self.add_common(kind, rows, config, critic_features)

    def forward(self, decisions: Decisions, segment: torch.Tensor, context: torch.Tensor | None) -> RaggedCategorical:
        """Scores the rows of decisions, given what the agents have heard (`context` [D, M])."""
        whose = self.whose(decisions, segment)
        state = self.state(self.seen(decisions, context), whose.decisions)
        scores = self.score(state, self.encoder(state, decisions, segment, whose), segment, whose)
        skipped = linear(decisions.rows, self.skip * SKIP_SCALE, None, whose.rows)
        scores = scores + skipped[:, 0]
        if self.gate.numel():
            gates = decisions.own.index_select(1, self.gate).index_select(0, segment)
            scores = scores + (skipped[:, 1:] * gates).sum(1)
        return RaggedCategorical(scores, decisions.pointers, segment)


def _score(config: EncoderConfig, state: int, features: int, copies: int) -> AdditiveScore | DotScore:
    if config.scoring == "additive":
        return AdditiveScore(features, copies)
    return DotScore(state, features, None if config.layers else config.width, copies)


def _index(names: tuple[str, ...], name: str) -> int:
    if name not in names:
        raise AgentError(f"unknown feature {name!r}; there are {', '.join(names)}")
    return names.index(name)


def _start(kind: KindSpec, rule: SoftRule) -> torch.Tensor:
    """Skip weights [1 + gates, Fe + Fa]: the rule in the first line, zero in those of the gates."""
    names = (*kind.entity, *kind.action)
    weights = torch.zeros(1 + len(rule.gates), len(names))
    for name, weight in rule.weights.items():
        weights[0, _index(names, name)] = weight / SKIP_SCALE
    return weights
