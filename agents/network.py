"""The networks of one kind of agent, and how they start.

score_r = 10 * sum_g gate_g(own_d) * (w_g . row_r)  +  network(own_d, context_d, entities_d, row_r)

The first term is linear and starts as a soft dispatching rule (`SoftRule`); the network's last layer starts near zero,
so that learning begins at the rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.nn import functional as F

from fedsched.agents.config import EncoderConfig, PolicyConfig
from fedsched.agents.critic import Critic
from fedsched.agents.decisions import AgentError, Decisions
from fedsched.agents.distribution import RaggedCategorical
from fedsched.agents.encoder import make_encoder
from fedsched.agents.entities import Entities, Look
from fedsched.agents.layers import SHARED, Dense, Owners, Whose, linear
from fedsched.agents.memory import Memory
from fedsched.agents.messages import Understood
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
        looks: What decisions are gathered with of the entities that agents see.
        summary: None without messages.
        tells: What is told of entities; None where agents say the same to all.
        hears: What is made of entities and the words of who hands them on; None likewise.
        critic: None without one.
        memory: None without.
    """

    summary: Dense | None
    tells: "Tells | None"
    hears: Dense | None
    critic: Critic | None
    memory: Memory | None
    looks: Look = "no"

    def __init__(self, kind: KindSpec, config: PolicyConfig, first: int, addressed: bool) -> None:
        """Sizes; `first` is the kind's first agent over all kinds. Subclasses end with `add_common`.

        `addressed` says whether agents have something else to say to each neighbour.
        """
        super().__init__()
        self.addressed = addressed and config.messages is not None
        self.extra = config.encoder.width if self.addressed and kind.entity else 0
        self.copies = self._owned = len(kind.agents) if config.sharing == "agent" else 0
        self.members: torch.Tensor | None = None
        self.inputs = len(kind.own) + (config.messages.latent if config.messages else 0) + config.memory
        self.first = first

    def add_common(self, kind: KindSpec, rows: int, config: PolicyConfig, critic_features: int) -> None:
        """Adds what messages, critic and memory need; `rows` is the number of features of a row."""
        told = config.messages.latent if config.messages else 0
        self.summary = Dense(len(kind.own) + rows + config.memory, told, self.copies) if told else None
        self.critic = None
        if config.critic != "none":
            orthogonal = config.critic_start == "orthogonal"
            self.critic = Critic(critic_features, config.critic_width, self.copies, orthogonal)
        remembered = config.memory
        self.memory = Memory(self.inputs - remembered, remembered, self.copies) if remembered else None
        self.tells, self.hears = None, None
        if self.extra:
            self.looks = "alone" if self.looks == "no" else self.looks
            self.tells = Tells(len(kind.entity), self.extra, told, self.copies)
            self.hears = Dense(len(kind.entity) + 2 * (told + 2), self.extra, self.copies)

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

    def seen(self, decisions: Decisions, heard: Understood | None) -> torch.Tensor:
        """Own features, what was heard on the whole and what is remembered, float32 [D, inputs]."""
        context = None if heard is None else heard.context
        parts = [part for part in (decisions.own, context, decisions.memory) if part is not None]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def remember(self, decisions: Decisions, heard: Understood | None) -> torch.Tensor:
        """Memories [D, H] after these decisions; what the agents do depends on them already."""
        if self.memory is None or decisions.memory is None:
            raise AgentError("this policy has no memory, or the decisions were gathered without")
        inputs = decisions.own if heard is None else torch.cat([decisions.own, heard.context], 1)
        remembered: torch.Tensor = self.memory(inputs, decisions.memory, self.owners(decisions))
        return remembered

    def summarise(self, decisions: Decisions, segment: torch.Tensor) -> torch.Tensor:
        """What an agent can tell each address, float32 [D, L, M].

        That is its own features, the mean of its rows and its memory; and to a neighbour what there is to say of the
        entities that go there, and of those that come from there.
        """
        if self.summary is None or decisions.heard is None:
            raise AgentError("this policy sends no messages")
        owners = self.owners(decisions)
        mean = segment_mean(decisions.rows, decisions.pointers, segment)
        parts = [decisions.own, mean, *([] if decisions.memory is None else [decisions.memory])]
        general = self.summary(torch.cat(parts, 1), owners)[:, None]
        neighbours = decisions.heard.neighbours.shape[1]
        if self.addressed:
            general = general.expand(-1, 1 + neighbours, -1)
        if self.tells is not None:
            general = general + F.pad(self.tells(_seen(decisions), neighbours, owners), (0, 0, 1, 0))
        return torch.tanh(general)

    def with_words(self, decisions: Decisions, heard: Understood | None) -> Decisions:
        """Decisions whose rows hold besides what was said of the entities that they concern, [R, extra] more."""
        if self.hears is None or heard is None:
            return decisions
        entities, decision = _seen(decisions), _seen(decisions).segment()
        assert entities.source is not None
        assert entities.target is not None
        words = [heard.of(decision, entities.source), heard.of(decision, entities.target)]
        owners = self.owners(decisions)
        members = owners.over(entities.pointers, decision) if owners else None
        encoded = F.relu(self.hears(torch.cat([entities.tokens, *words], 1), members))
        rows = torch.cat([decisions.rows, entities.row_sums(encoded, decisions.pointers)], 1)
        return replace(decisions, rows=rows)


class Tells(nn.Module):
    """What agents tell each neighbour of entities: Wg sum relu(We e + b) over those that go there, Wc over the others.

    The others are those that come from there.
    """

    def __init__(self, entity: int, width: int, told: int, copies: int) -> None:
        """Sizes: features of an entity, units, numbers in a message; `copies` as in `Dense`."""
        super().__init__()
        self.entity = Dense(entity, width, copies)
        self.goes = Dense(width, told, copies, bias=False)
        self.comes = Dense(width, told, copies, bias=False)

    def forward(self, entities: Entities, neighbours: int, owners: Owners | None) -> torch.Tensor:
        """For each of so many neighbours, float32 [D, K, M]."""
        assert entities.source is not None
        assert entities.target is not None
        decision, count = entities.segment(), len(entities.pointers) - 1
        members = owners.over(entities.pointers, decision) if owners else None
        encoded = F.relu(self.entity(entities.tokens, members))

        def summed(column: torch.Tensor) -> torch.Tensor:
            there = (column >= 0).nonzero().squeeze(1)
            line = (decision * neighbours + column).index_select(0, there)
            sums = encoded.new_zeros(count * neighbours, encoded.shape[1])
            sums = sums.index_add(0, line, encoded.index_select(0, there))
            return sums.reshape(count, neighbours, encoded.shape[1])

        told: torch.Tensor = self.goes(summed(entities.target), owners) + self.comes(summed(entities.source), owners)
        return told


class ChoiceNetwork(KindNetwork):
    """The network of a kind that chooses among rows: linear term, row encoder, score."""

    gate: torch.Tensor

    def __init__(
        self,
        kind: KindSpec,
        config: PolicyConfig,
        rule: SoftRule,
        critic_features: int,
        first: int = 0,
        addressed: bool = False,
    ) -> None:
        """Builds the parts.

        Args:
            kind: Features, and with `sharing: agent` the number of agents.
            config: Sizes.
            rule: To start from.
            critic_features: What a critic reads, Fc.
            first: The kind's first agent over all kinds, for `sharing: agent`.
            addressed: Whether agents have something else to say to each neighbour.

        Raises:
            AgentError: The rule names an unknown feature.
        """
        super().__init__(kind, config, first, addressed)
        copies, encoder = self.copies, config.encoder
        rows = len(kind.entity) + len(kind.action)
        start = _start(kind, rule)
        self.skip = nn.Parameter(start.repeat(copies, 1, 1) if copies else start)
        self.register_buffer("gate", torch.tensor([_index(kind.own, g) for g in rule.gates], dtype=torch.int64), False)
        self.state = StateEncoder(self.inputs, encoder.width, encoder.layers, copies)
        self.encoder = make_encoder(kind, encoder, self.state.size, copies, self.extra)
        self.score = _score(encoder, self.state.size, self.encoder.size, copies)
        self.looks = self.encoder.looks
        self.add_common(kind, rows, config, critic_features)

    def forward(self, decisions: Decisions, segment: torch.Tensor, heard: Understood | None) -> RaggedCategorical:
        """Scores the rows of decisions, given what the agents have heard."""
        whose = self.whose(decisions, segment)
        state = self.state(self.seen(decisions, heard), whose.decisions)
        encoded = self.encoder(state, self.with_words(decisions, heard), segment, whose)
        scores = self.score(state, encoded, segment, whose)
        skipped = linear(decisions.rows, self.skip * SKIP_SCALE, None, whose.rows)
        scores = scores + skipped[:, 0]
        if self.gate.numel():
            gates = decisions.own.index_select(1, self.gate).index_select(0, segment)
            scores = scores + (skipped[:, 1:] * gates).sum(1)
        return RaggedCategorical(scores, decisions.pointers, segment)


def _seen(decisions: Decisions) -> Entities:
    if decisions.entities is None or decisions.entities.source is None:
        raise AgentError("these decisions were gathered without the entities that agents tell one another of")
    return decisions.entities


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
