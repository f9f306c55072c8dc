"""The policy: gather live rows, exchange messages, score every row, choose one.

Parameters have the same names and shapes for every site of a domain, whatever its numbers of agents, neighbours,
entities and actions.
"""

from collections.abc import Mapping

import torch
from torch import nn

from fedsched.agents.config import PolicyConfig
from fedsched.agents.critic import Critic, critic_features
from fedsched.agents.decisions import AgentError, Decisions, Speech, concatenate_heard, gather
from fedsched.agents.layers import Owners
from fedsched.agents.mailbox import Mailbox, Traffic, count_traffic
from fedsched.agents.memory import Memories
from fedsched.agents.messages import Exchange, Messenger, concatenate_summaries
from fedsched.agents.network import ChoiceNetwork, KindNetwork, SoftRule
from fedsched.agents.sharing import Union, build_networks, require_same_agents, require_same_features, sizes_of
from fedsched.agents.speech import Always, Instant, InTraining, Judged, Sending, SendingKind, in_use
from fedsched.agents.step import Gathered, PolicyStep
from fedsched.agents.tables import table
from fedsched.agents.trigger import Trigger
from fedsched.envs.core import Observation, WorldSpec


class Policy(nn.Module):
    """A token policy for all kinds of a world.

    Attributes:
        config: Sizes.
        union: The features of all kinds as those of one; None unless they share a network.
        addressed: Whether agents say something else to each neighbour.
        messenger: None without messages.
        trigger: When messages are sent in use; None: always.
    """

    def __init__(
        self, spec: WorldSpec, config: PolicyConfig, start: Mapping[str, SoftRule] | None = None, seed: int = 0
    ) -> None:
        """Builds a policy for every world whose kinds have the features of `spec`.

        Args:
            spec: Of one such world; its numbers of agents, entities and actions do not matter, but that with `sharing:
                agent` a policy belongs to the agents of this one.
            config: Sizes.
            start: Soft rules by kind to start from.
            seed: Of the initial parameters.

        Raises:
            AgentError: A world without agents, kinds that cannot share as they are told to, or a rule that names an
                unknown feature or is for a kind with vector actions.
            WorldError: A rule for an unknown kind.
        """
        super().__init__()
        self.config = config
        rules = dict(start or {})
        for name in rules:
            spec.kind(name)
        self._agents, self._features = {kind.name: kind.agents for kind in spec.kinds}, sizes_of(spec)
        self.addressed = bool(spec.addresses.ways)
        self._check(spec)
        self.union = Union(spec) if config.sharing == "all" and len(spec.kinds) > 1 else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.kinds, self._part = build_networks(self.united(spec), config, rules)
            copies = sum(map(len, self._agents.values())) if config.sharing == "agent" else 0
            messages = config.messages
            self.messenger = Messenger(messages, copies) if messages else None
        self.trigger = Trigger(messages.trigger) if messages and messages.trigger else None

    def network(self, kind: str) -> KindNetwork:
        """The part of one kind; raises AgentError for an unknown one."""
        if kind not in self._part:
            raise AgentError(f"the policy has no kind {kind!r}; it has {', '.join(self._part)}")
        network = self.kinds[self._part[kind]]
        assert isinstance(network, KindNetwork)
        return network

    def choosing(self, kind: str) -> ChoiceNetwork:
        """The part of one kind that chooses; raises AgentError for an unknown one or one with vector actions."""
        network = self.network(kind)
        if not isinstance(network, ChoiceNetwork):
            raise AgentError(f"kind {kind!r} has vector actions: it has no linear scores")
        return network

    def united(self, spec: WorldSpec) -> WorldSpec:
        """The spec with the features that decisions are gathered in: the world's own, or those of all its kinds."""
        return spec if self.union is None else self.union.spec(spec)

    def mailbox(self, spec: WorldSpec, batch: int, device: torch.device | str = "cpu") -> Mailbox:
        """An empty mailbox for `batch` worlds."""
        self._check(spec)
        size = self.messenger.size if self.messenger else 0
        return Mailbox.empty(batch, len(spec.agents), size, spec.addresses.count, device)

    def memory(self, spec: WorldSpec, batch: int, device: torch.device | str = "cpu") -> Memories | None:
        """The memory of every agent at the start of an episode, zeros [B, A, H] by kind; None without memory."""
        size = self.config.memory
        if not size:
            return None
        return {kind.name: torch.zeros(batch, len(kind.agents), size, device=device) for kind in spec.kinds}

    def use(self, how: SendingKind | None = None, share: float | None = None, seed: int = 0) -> Sending:
        """Who sends in use.

        Args:
            how: `always`, by the trigger (`uncertain`), or at `random`; None: as configured.
            share: That sends at random.
            seed: Of chance.

        Raises:
            AgentError: No trigger to ask, or chance without its share.
        """
        return in_use(self.trigger, how, share, torch.Generator(next(self.parameters()).device).manual_seed(seed))

    def practise(self, generator: torch.Generator, greedy: torch.Tensor | None = None) -> Sending:
        """Who sends in training; in rows that are `greedy`, bool [B], everybody without noise."""
        if self.messenger is None or self.config.messages is None:
            return Always()
        return InTraining(self.messenger, self.config.messages.dropout, generator, greedy)

    def judge(self, decisions: Mapping[str, Decisions]) -> Judged:
        """Distributions for decisions of any number of moments; messages are exchanged inside each moment."""
        segments = {name: part.segment() for name, part in decisions.items()}
        told = self._exchange(decisions, segments)
        heard = {} if told is None else told.shared_out({name: len(part) for name, part in decisions.items()})
        memory = None
        if self.config.memory:
            memory = {name: self.network(name).remember(part, heard.get(name)) for name, part in decisions.items()}
            decisions = {name: part.with_memory(memory[name]) for name, part in decisions.items()}
        distributions = {
            name: self.network(name)(part, segments[name], heard.get(name)) for name, part in decisions.items()
        }
        message, nats = (None, None) if told is None else (told.message, told.kl)
        return Judged(distributions, message, nats, memory)

    def quiet(self, decisions: Mapping[str, Decisions]) -> Judged:
        """The same if nobody sends now: what agents do by what they heard before, and what they would say in use."""
        silent = {name: part.with_speech(_silence(part, self.addressed)) for name, part in decisions.items()}
        return self.judge(silent)

    def values(self, decisions: Mapping[str, Decisions]) -> dict[str, torch.Tensor] | None:
        """Values float32 [D] by kind, in the units of the returns; None without a critic."""
        if self.config.critic == "none":
            return None
        return {
            name: self.critic(name).values(critic_input(part), self.network(name).owners(part))
            for name, part in decisions.items()
        }

    def values_of_all(self, observation: Observation, memory: Memories | None = None) -> dict[str, torch.Tensor] | None:
        """Values float32 [B, A] by kind of all agents, deciding or not; None without a critic.

        Args:
            observation: The worlds'.
            memory: Of the agents, [B, A, H] by kind; None for a feed-forward policy.
        """
        if self.config.critic == "none":
            return None
        seen = observation if self.union is None else self.union.observe(observation)
        features = self._with_memory(critic_features(seen, self.config.critic), memory)
        return {name: self._values(name, part) for name, part in features.items()}

    def observe_returns(self, returns: Mapping[str, torch.Tensor]) -> None:
        """Shows every critic the returns [D] by kind that it is to predict."""
        shared: dict[Critic, list[torch.Tensor]] = {}
        for name, part in returns.items():
            shared.setdefault(self.critic(name), []).append(part)
        for critic, parts in shared.items():
            critic.observe(torch.cat(parts))

    def critic(self, kind: str) -> Critic:
        """The critic of one kind; raises AgentError without one."""
        critic = self.network(kind).critic
        if critic is None:
            raise AgentError("this policy has no critic: set critic in its configuration")
        return critic

    def gather(
        self,
        spec: WorldSpec,
        observation: Observation,
        mailbox: Mailbox,
        memory: Memories | None = None,
    ) -> dict[str, Gathered]:
        """The decisions that active agents have to take, by kind."""
        self._check(spec)
        addresses = spec.addresses
        if self.union is not None:
            spec, observation = self.united(spec), self.union.observe(observation)
        central: Mapping[str, torch.Tensor] = {}
        if self.config.critic != "none":
            central = self._with_memory(critic_features(observation, self.config.critic), memory)
        device = observation.time_s.device
        neighbours = table(addresses.neighbours, device)
        address = table(addresses.address, device)
        gathered, first = {}, 0
        for kind in spec.kinds:
            tokens = observation.kinds[kind.name]
            look = self.network(kind.name).looks
            found, place, action = gather(
                tokens, kind, first, look, central.get(kind.name), addresses.ways.get(kind.name)
            )
            if memory is not None:
                found = found.with_memory(memory[kind.name].flatten(0, 1).index_select(0, place))
            if self.messenger is not None:
                now = observation.time_s.index_select(0, found.moment)
                hears, as_whom = (table.index_select(0, found.agent) for table in (neighbours, address))
                heard = mailbox.heard(found.moment, hears, as_whom, now)
                found = found.with_heard(heard)
            gathered[kind.name] = Gathered(found, place, action)
            first += len(kind.agents)
        return gathered

    def forward(
        self,
        spec: WorldSpec,
        observation: Observation,
        memory: Memories | None,
        mailbox: Mailbox,
        sending: Sending | None = None,
    ) -> PolicyStep:
        """Distributions and values for the agents that must decide now.

        Args:
            spec: Of the world observed.
            observation: Its tokens; the result does not alias them.
            memory: What agents remember, from `memory` or the last step; None for a feed-forward policy.
            mailbox: What agents said before; the step returns the next one.
            sending: Who sends; None: as in use.
        """
        gathered = self.gather(spec, observation, mailbox, memory)
        decisions, traffic = {name: part.decisions for name, part in gathered.items()}, Traffic()
        if self.messenger is None:
            judged = self.judge(decisions)
        else:
            instant = Instant(decisions, mailbox, lambda: self.quiet(instant.decisions), spec.addresses)
            sending = sending or self.use()
            speech, mailbox = sending(instant)
            decisions = _with_speech(decisions, speech)
            judged = self.judge(decisions)
            mailbox = _posted(mailbox, instant, judged, speech, observation.time_s)
            traffic = self._count(instant, sending, speech)
        return PolicyStep(
            spec=spec,
            distribution=judged.distribution,
            value=self.values(decisions),
            memory=None if memory is None else self._updated(memory, gathered, judged),
            mailbox=mailbox,
            decisions=decisions,
            place={name: part.place for name, part in gathered.items()},
            action={name: part.action for name, part in gathered.items()},
            traffic=traffic,
        )

    def _with_memory(self, features: Mapping[str, torch.Tensor], memory: Memories | None) -> Mapping[str, torch.Tensor]:
        """Critic features [B, A, Fc] by kind, and behind them what agents remember."""
        if (memory is None) != (self.config.memory == 0):
            raise AgentError("a policy with memory is asked with its memory, one without is asked without")
        if memory is None:
            return features
        return {name: torch.cat([part, memory[name]], 2) for name, part in features.items()}

    def _updated(self, memory: Memories, gathered: Mapping[str, Gathered], judged: Judged) -> dict[str, torch.Tensor]:
        """Memories [B, A, H] by kind after the decisions; who did not decide keeps its own."""
        assert judged.memory is not None
        return {
            name: table.flatten(0, 1).index_copy(0, gathered[name].place, judged.memory[name]).reshape(table.shape)
            for name, table in memory.items()
        }

    def _count(self, instant: Instant, sending: Sending, speech: Speech | None) -> Traffic:
        assert self.messenger is not None
        _, agents = instant.place
        addresses, device = instant.addresses, agents.device
        possible = table(addresses.listeners, device).index_select(0, agents) * self.messenger.rounds
        hears = table(addresses.neighbours, device).index_select(0, agents) >= 0
        asked = int(hears.sum()) if sending.asks else 0
        told = asked + (int(possible.sum()) if sending.masked else 0)
        if speech is None:
            return count_traffic(possible, None, self.messenger.bits, told)
        bits = self.messenger.bits if speech.noise is None else 32 * self.messenger.size
        return count_traffic(possible, speech.sent, bits, told)

    def _check(self, spec: WorldSpec) -> None:
        if not any(kind.agents for kind in spec.kinds):
            raise AgentError(f"{spec.name}: a world without agents has nobody to decide")
        require_same_features(spec, self._features, self.config.critic == "central")
        if self.config.messages is not None and bool(spec.addresses.ways) != self.addressed:
            says, here = ("something else", "nothing flows") if self.addressed else ("the same", "entities flow")
            told = f"the policy says {says} to each neighbour, but {here} from agent to agent"
            raise AgentError(f"{spec.name}: {told}: train one for this world")
        if self.config.sharing == "agent":
            require_same_agents(spec, self._agents)

    def _values(self, kind: str, features: torch.Tensor) -> torch.Tensor:
        """Values [B, A] of all agents of a kind from critic features [B, A, Fc]."""
        (batch, agents), copies = features.shape[:2], self.network(kind).copies
        owner = torch.arange(agents, device=features.device).repeat(batch)
        owners = Owners.of(owner, copies) if copies else None
        return self.critic(kind).values(features.flatten(0, 1), owners).reshape(batch, agents)

    def _exchange(self, decisions: Mapping[str, Decisions], segments: Mapping[str, torch.Tensor]) -> Exchange | None:
        if self.messenger is None:
            return None
        summaries = [self.network(name).summarise(part, segments[name]) for name, part in decisions.items()]
        told: Exchange = self.messenger(
            concatenate_summaries(summaries),
            torch.cat([part.moment for part in decisions.values()]),
            torch.cat([part.agent for part in decisions.values()]),
            concatenate_heard([part.heard for part in decisions.values() if part.heard is not None]),
            Speech.concatenate([part.speech for part in decisions.values() if part.speech is not None]),
        )
        return told


def _silence(decisions: Decisions, addressed: bool) -> Speech:
    assert decisions.heard is not None
    shape = len(decisions), 1 + decisions.heard.neighbours.shape[1] * addressed
    return Speech(torch.zeros(shape, dtype=torch.bool, device=decisions.own.device))


def _with_speech(decisions: Mapping[str, Decisions], speech: Speech | None) -> dict[str, Decisions]:
    """Hands each kind its part of the speech over all kinds."""
    if speech is None:
        return dict(decisions)
    order = torch.arange(speech.sent.shape[0], device=speech.sent.device)
    parts = torch.split(order, [len(part) for part in decisions.values()])
    return {
        name: part.with_speech(speech.select(chosen))
        for (name, part), chosen in zip(decisions.items(), parts, strict=True)
    }


def _posted(mailbox: Mailbox, instant: Instant, judged: Judged, speech: Speech | None, time_s: torch.Tensor) -> Mailbox:
    assert judged.message is not None
    rows, agents = instant.place
    sent = None if speech is None else speech.sent
    return mailbox.post(rows, agents, judged.message, time_s.index_select(0, rows), sent)


def critic_input(decisions: Decisions) -> torch.Tensor:
    """What the critic reads of decisions, float32 [D, Fc]; raises AgentError if it was not gathered."""
    if decisions.critic is None:
        raise AgentError("these decisions were gathered without a critic")
    return decisions.critic
