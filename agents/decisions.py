"""Ragged decisions: only the rows that a network has to look at, gathered from padded tokens.

A row is one action with the entity that it concerns; an agent with twelve legal actions has twelve rows, however many
slots the world has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from fedsched.agents.entities import Entities, Look, concatenate_entities, gather_entities
from fedsched.agents.segments import pointers_of, rows_of, segment_of
from fedsched.agents.tables import table
from fedsched.envs.core import KindSpec, Tokens, Ways


class AgentError(ValueError):
    """Agents were asked for something they cannot do: an unknown feature, an unfit world, a foreign state."""


@dataclass(frozen=True)
class Heard:
    """What the K neighbours of D agents last said.

    Attributes:
        neighbours: int64 [D, K], over all agents of all kinds; -1 pads.
        message: float32 [D, K, M], the last message of each.
        age: float32 [D, K], ln(1 + seconds) / 16 since it was sent.
        known: bool [D, K], whether there was one in this episode.
        address: int64 [D, K], under which of its addresses a neighbour speaks to this agent.
    """

    neighbours: torch.Tensor
    message: torch.Tensor
    age: torch.Tensor
    known: torch.Tensor
    address: torch.Tensor

    def select(self, chosen: torch.Tensor) -> "Heard":
        """The lines of some decisions, `chosen` int64 [C]."""
        return Heard(*(getattr(self, f.name).index_select(0, chosen) for f in fields(self)))


@dataclass(frozen=True)
class Speech:
    """What D agents do with their messages.

    Attributes:
        sent: bool [D, L], to which of L addresses they are sent; the others hear again what was last said to them.
        noise: float32 [D, rounds, M], of training, the same for all addresses; None: none, as in use.
    """

    sent: torch.Tensor
    noise: torch.Tensor | None = None

    def select(self, chosen: torch.Tensor) -> "Speech":
        """The lines of some decisions, `chosen` int64 [C]."""
        noise = None if self.noise is None else self.noise.index_select(0, chosen)
        return Speech(self.sent.index_select(0, chosen), noise)

    @staticmethod
    def concatenate(parts: Sequence["Speech"]) -> "Speech | None":
        """One after another; None without parts."""
        if not parts:
            return None
        noise = [part.noise for part in parts if part.noise is not None]
        width = max(part.sent.shape[1] for part in parts)
        sent = [torch.nn.functional.pad(part.sent, (0, width - part.sent.shape[1])) for part in parts]
        return Speech(torch.cat(sent), torch.cat(noise) if noise else None)


@dataclass(frozen=True)
class Decisions:
    """D decisions of agents of one kind over R rows, each a legal action.

    Attributes:
        own: float32 [D, Fo].
        rows: float32 [R, Fe + Fa], features of the entity concerned (zero for none), then of the action; where actions
            are vectors, [R, Fe] of the live entities.
        pointers: int64 [D + 1], where the rows of a decision begin.
        moment: int64 [D]; decisions of one world at one instant share it.
        agent: int64 [D], index over all agents of all kinds.
        heard: The mailbox's view of the neighbours; None without messages.
        critic: float32 [D, Fc], what the critic reads; None without a critic.
        memory: float32 [D, H], what the agents remembered before; None without memory.
        entities: What the agents see; None where no encoder looks at it.
        speech: What they do with their messages; None: everybody sends, without noise.
    """

    own: torch.Tensor
    rows: torch.Tensor
    pointers: torch.Tensor
    moment: torch.Tensor
    agent: torch.Tensor
    heard: Heard | None = None
    critic: torch.Tensor | None = None
    memory: torch.Tensor | None = None
    entities: Entities | None = None
    speech: Speech | None = None

    def __len__(self) -> int:
        """The number of decisions D."""
        return self.own.shape[0]

    def segment(self) -> torch.Tensor:
        """The decision of every row, int64 [R]."""
        return segment_of(self.pointers)

    def with_heard(self, heard: Heard) -> "Decisions":
        """The same decisions with what the neighbours last said."""
        return replace(self, heard=heard)

    def with_memory(self, memory: torch.Tensor) -> "Decisions":
        """The same decisions with other memories [D, H]."""
        return replace(self, memory=memory)

    def with_speech(self, speech: Speech | None) -> "Decisions":
        """The same decisions with what is done with their messages."""
        return replace(self, speech=speech)

    def select(self, chosen: torch.Tensor) -> "Decisions":
        """Some decisions with their rows, `chosen` int64 [C] in any order."""
        rows, pointers = rows_of(self.pointers, chosen)
        return Decisions(
            own=self.own.index_select(0, chosen),
            rows=self.rows.index_select(0, rows),
            pointers=pointers,
            moment=self.moment.index_select(0, chosen),
            agent=self.agent.index_select(0, chosen),
            heard=None if self.heard is None else self.heard.select(chosen),
            critic=None if self.critic is None else self.critic.index_select(0, chosen),
            memory=None if self.memory is None else self.memory.index_select(0, chosen),
            entities=None if self.entities is None else self.entities.select(chosen),
            speech=None if self.speech is None else self.speech.select(chosen),
        )


def row_features(tokens: Tokens, kind: KindSpec, rows: torch.Tensor) -> torch.Tensor:
    """Features of some actions and of what they concern.

    An action that concerns several entities (a phase and its movements) carries the sum over those that are live: twice
    the queues served is twice the reason to serve them.

    Args:
        tokens: Of the kind, from the world.
        kind: Its static description.
        rows: int64 [R], indices into the flattened [B, A, N].

    Returns:
        float32 [R, Fe + Fa].
    """
    actions, slots = tokens.action_mask.shape[2], tokens.entities.shape[2]
    own_action = tokens.actions.flatten(0, 2).index_select(0, rows)
    if slots == 0:
        return torch.cat([own_action.new_zeros(rows.shape[0], len(kind.entity)), own_action], 1)
    if isinstance(kind.relation, str):
        number = rows % actions
        entity = torch.div(rows, actions, rounding_mode="floor") * slots + number.clamp(max=slots - 1)
        concerned = tokens.entities.flatten(0, 2).index_select(0, entity)
        if actions > slots:
            concerned = concerned * (number < slots)[:, None]
    else:
        relation = table(kind.relation, rows.device)
        live = (relation & tokens.entity_mask[:, :, None, :]).to(tokens.entities.dtype)
        concerned = (live @ tokens.entities).flatten(0, 2).index_select(0, rows)
    return torch.cat([concerned, own_action], 1)


def gather(
    tokens: Tokens, kind: KindSpec, first_agent: int, look: Look, central: torch.Tensor | None, ways: Ways | None = None
) -> tuple[Decisions, torch.Tensor, torch.Tensor]:
    """The decisions that the active agents of a kind have to take now.

    Args:
        tokens: Of the kind, from the world; nothing of the result aliases it.
        kind: Its static description.
        first_agent: Index of its first agent over all kinds.
        look: What of the entities is gathered.
        central: float32 [B, A, Fc], what a critic reads; None without one.
        ways: Of the kind, for agents that tell one another of entities that they hand on; None for others.

    Returns:
        The decisions, with the world's row as their moment; where they lie in the flattened [B, A], int64 [D]; and the
        action that every row stands for, int64 [R], or [0] where actions are vectors and rows are entities.
    """
    agents, actions = tokens.active.shape[1], tokens.action_mask.shape[2]
    where = tokens.active.reshape(-1).nonzero().squeeze(1)
    chooses = kind.bounds is None
    mask = (tokens.action_mask if chooses else tokens.entity_mask) & tokens.active[:, :, None]
    rows = mask.reshape(-1).nonzero().squeeze(1)
    counts = mask.sum(2).reshape(-1).index_select(0, where)
    pointers, action = pointers_of(counts), rows % actions if chooses else rows.new_zeros(0)
    decisions = Decisions(
        own=tokens.own.flatten(0, 1).index_select(0, where),
        rows=row_features(tokens, kind, rows) if chooses else tokens.entities.flatten(0, 2).index_select(0, rows),
        pointers=pointers,
        moment=torch.div(where, agents, rounding_mode="floor"),
        agent=first_agent + where % agents,
        critic=None if central is None else central.flatten(0, 1).index_select(0, where),
        entities=None if look == "no" else gather_entities(tokens, kind, where, pointers, action, look == "all", ways),
    )
    return decisions, where, action


def concatenate(parts: Sequence[Decisions], shifts: Sequence[int]) -> Decisions:
    """Decisions of several rollouts as one batch.

    Args:
        parts: At least one.
        shifts: Added to the moments of each, so that no two rollouts share one.
    """
    critic = [p.critic for p in parts if p.critic is not None]
    heard = [p.heard for p in parts if p.heard is not None]
    memory = [p.memory for p in parts if p.memory is not None]
    entities = [p.entities for p in parts if p.entities is not None]
    return Decisions(
        own=torch.cat([p.own for p in parts]),
        rows=torch.cat([p.rows for p in parts]),
        pointers=pointers_of(torch.cat([p.pointers.diff() for p in parts])),
        moment=torch.cat([p.moment + s for p, s in zip(parts, shifts, strict=True)]),
        agent=torch.cat([p.agent for p in parts]),
        heard=concatenate_heard(heard) if heard else None,
        critic=torch.cat(critic) if critic else None,
        memory=torch.cat(memory) if memory else None,
        entities=concatenate_entities(entities) if entities else None,
        speech=Speech.concatenate([p.speech for p in parts if p.speech is not None]),
    )


def concatenate_heard(parts: Sequence[Heard]) -> Heard:
    """One after another, all as wide as the widest; at least one."""
    width = max(p.neighbours.shape[1] for p in parts)
    wide = [_widen(p, width) for p in parts]
    return Heard(*(torch.cat([getattr(p, f.name) for p in wide]) for f in fields(Heard)))


def _widen(heard: Heard, width: int) -> Heard:
    missing = width - heard.neighbours.shape[1]
    if missing == 0:
        return heard
    return replace(
        heard,
        neighbours=torch.nn.functional.pad(heard.neighbours, (0, missing), value=-1),
        message=torch.nn.functional.pad(heard.message, (0, 0, 0, missing)),
        age=torch.nn.functional.pad(heard.age, (0, missing)),
        known=torch.nn.functional.pad(heard.known, (0, missing)),
        address=torch.nn.functional.pad(heard.address, (0, missing)),
    )
