"""The policy: gather live rows, exchange messages, score every row, choose one.

Parameters have the same names and shapes for every site of a domain, whatever its numbers of agents, neighbours,
entities and actions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from fedsched.agents.config import PolicyConfig
from fedsched.agents.critic import Critic, critic_features
from fedsched.agents.decisions import AgentError, Decisions, gather
from fedsched.agents.distribution import Distribution
from fedsched.agents.gaussian import within
from fedsched.agents.layers import Owners
from fedsched.agents.memory import Memories
from fedsched.agents.messages import Mailbox, Messenger, Traffic, concatenate_heard, listeners
from fedsched.agents.network import ChoiceNetwork, KindNetwork, SoftRule
from fedsched.agents.sharing import Union, build_networks, require_same_agents
from fedsched.envs.core import Observation, WorldSpec


@dataclass(frozen=True)
class Judged:
    """What a policy thinks of a batch of decisions.

    Attributes:
        distribution: By kind.
        message: float32 [D, M] over all kinds in order, the last one of each agent; None without messages.
        memory: float32 [D, H] by kind, what the agents remember from now on; None without memory.
    """

    distribution: Mapping[str, Distribution]
    message: torch.Tensor | None
    memory: Mapping[str, torch.Tensor] | None = None


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


class Policy(nn.Module):
    """A token policy for all kinds of a world."""

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
        self._agents = {kind.name: kind.agents for kind in spec.kinds}
        self._check(spec)
        self._union = Union(spec) if config.sharing == "all" and len(spec.kinds) > 1 else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.kinds, self._part = build_networks(self._united(spec), config, rules)
            copies = sum(map(len, self._agents.values())) if config.sharing == "agent" else 0
            self.messenger = Messenger(config.messages, copies) if config.messages else None

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

    def mailbox(self, spec: WorldSpec, batch: int, device: torch.device | str = "cpu") -> Mailbox:
        """An empty mailbox for `batch` worlds."""
        self._check(spec)
        agents = sum(len(kind.agents) for kind in spec.kinds)
        return Mailbox.empty(batch, agents, self.messenger.size if self.messenger else 0, device)

    def memory(self, spec: WorldSpec, batch: int, device: torch.device | str = "cpu") -> Memories | None:
        """The memory of every agent at the start of an episode, zeros [B, A, H] by kind; None without memory."""
        size = self.config.memory
        if not size:
            return None
        return {kind.name: torch.zeros(batch, len(kind.agents), size, device=device) for kind in spec.kinds}

    def judge(self, decisions: Mapping[str, Decisions]) -> Judged:
        """Distributions for decisions of any number of moments; messages are exchanged inside each moment."""
        segments = {name: part.segment() for name, part in decisions.items()}
        contexts, message = self._exchange(decisions, segments)
        memory = None
        if self.config.memory:
            memory = {name: self.network(name).remember(part, contexts.get(name)) for name, part in decisions.items()}
            decisions = {name: part.with_memory(memory[name]) for name, part in decisions.items()}
        distributions = {
            name: self.network(name)(part, segments[name], contexts.get(name)) for name, part in decisions.items()
        }
        return Judged(distributions, message, memory)

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
        seen = observation if self._union is None else self._union.observe(observation)
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
        if self._union is not None:
            spec, observation = self._union.spec(spec), self._union.observe(observation)
        central: Mapping[str, torch.Tensor] = {}
        if self.config.critic != "none":
            central = self._with_memory(critic_features(observation, self.config.critic), memory)
        neighbours = torch.from_numpy(spec.neighbours).to(observation.time_s.device)
        gathered, first = {}, 0
        for kind in spec.kinds:
            tokens = observation.kinds[kind.name]
            look = self.network(kind.name).looks
            found, place, action = gather(tokens, kind, first, look, central.get(kind.name))
            if memory is not None:
                found = found.with_memory(memory[kind.name].flatten(0, 1).index_select(0, place))
            if self.messenger is not None:
                now = observation.time_s.index_select(0, found.moment)
                heard = mailbox.heard(found.moment, neighbours.index_select(0, found.agent), now)
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
    ) -> PolicyStep:
        """Distributions and values for the agents that must decide now.

        Args:
            spec: Of the world observed.
            observation: Its tokens; the result does not alias them.
            memory: What agents remember, from `memory` or the last step; None for a feed-forward policy.
            mailbox: What agents said before; the step returns the next one.
        """
        gathered = self.gather(spec, observation, mailbox, memory)
        decisions = {name: part.decisions for name, part in gathered.items()}
        judged = self.judge(decisions)
        traffic = Traffic()
        if self.messenger is not None and judged.message is not None:
            rows = torch.cat([part.moment for part in decisions.values()])
            agents = torch.cat([part.agent for part in decisions.values()])
            mailbox = mailbox.post(rows, agents, judged.message, observation.time_s.index_select(0, rows))
            heard_by = listeners(torch.from_numpy(spec.neighbours)).to(agents.device)
            sent = int(heard_by.index_select(0, agents).sum()) * self.messenger.rounds
            traffic = Traffic(sent, sent * 4 * self.messenger.size)
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

    def _check(self, spec: WorldSpec) -> None:
        if not any(kind.agents for kind in spec.kinds):
            raise AgentError(f"{spec.name}: a world without agents has nobody to decide")
        if self.config.sharing == "agent":
            require_same_agents(spec, self._agents)

    def _united(self, spec: WorldSpec) -> WorldSpec:
        return spec if self._union is None else self._union.spec(spec)

    def _values(self, kind: str, features: torch.Tensor) -> torch.Tensor:
        """Values [B, A] of all agents of a kind from critic features [B, A, Fc]."""
        (batch, agents), copies = features.shape[:2], self.network(kind).copies
        owner = torch.arange(agents, device=features.device).repeat(batch)
        owners = Owners.of(owner, copies) if copies else None
        return self.critic(kind).values(features.flatten(0, 1), owners).reshape(batch, agents)

    def _exchange(
        self, decisions: Mapping[str, Decisions], segments: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        if self.messenger is None:
            return {}, None
        summaries = [self.network(name).summarise(part, segments[name]) for name, part in decisions.items()]
        context, message = self.messenger(
            torch.cat(summaries),
            torch.cat([part.moment for part in decisions.values()]),
            torch.cat([part.agent for part in decisions.values()]),
            concatenate_heard([part.heard for part in decisions.values() if part.heard is not None]),
        )
        split = context.split([len(part) for part in decisions.values()])
        return dict(zip(decisions, split, strict=True)), message


def critic_input(decisions: Decisions) -> torch.Tensor:
    """What the critic reads of decisions, float32 [D, Fc]; raises AgentError if it was not gathered."""
    if decisions.critic is None:
        raise AgentError("these decisions were gathered without a critic")
    return decisions.critic
