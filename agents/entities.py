"""Entity tokens: what the agents of a batch see, gathered from padded slots, and what their rows have to do with it.

Everything is ragged and counted inside its decision, so that batches are cut and joined without renumbering.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from fedsched.agents.segments import pointers_of, rows_of, segment_of
from fedsched.agents.tables import table
from fedsched.envs.core import KindSpec, Lists, Tokens, Ways

Look = Literal["no", "alone", "all"]
"""Whether decisions are gathered with what agents see: entities alone, or with which of them see one another."""


@dataclass(frozen=True)
class Pairs:
    """Ragged pairs of D decisions.

    Attributes:
        first: int64 [P], counted inside the decision.
        second: int64 [P], counted inside the decision.
        pointers: int64 [D + 1], where the pairs of a decision begin.
    """

    first: torch.Tensor
    second: torch.Tensor
    pointers: torch.Tensor

    def select(self, chosen: torch.Tensor) -> "Pairs":
        """The pairs of some decisions, `chosen` int64 [C]."""
        lines, pointers = rows_of(self.pointers, chosen)
        return Pairs(self.first.index_select(0, lines), self.second.index_select(0, lines), pointers)

    def flat(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The pairs counted over all decisions, given the pointers [D + 1] of either side."""
        segment = segment_of(self.pointers)
        return self.first + first.index_select(0, segment), self.second + second.index_select(0, segment)


@dataclass(frozen=True)
class Entities:
    """The live entities of D decisions.

    Attributes:
        tokens: float32 [T, Fe].
        pointers: int64 [D + 1], where the entities of a decision begin.
        concerns: Which rows (first) concern which entities (second).
        links: Which entities (first) see which others (second), never themselves; None where each
            sees all.
        source: int64 [T], column of the neighbour that an entity comes from, -1: none of them; None where agents do not
            tell one another of entities.
        target: int64 [T], column of the neighbour that it goes to.
    """

    tokens: torch.Tensor
    pointers: torch.Tensor
    concerns: Pairs
    links: Pairs | None
    source: torch.Tensor | None = None
    target: torch.Tensor | None = None

    def select(self, chosen: torch.Tensor) -> "Entities":
        """The entities of some decisions, `chosen` int64 [C] in any order."""
        lines, pointers = rows_of(self.pointers, chosen)
        return Entities(
            tokens=self.tokens.index_select(0, lines),
            pointers=pointers,
            concerns=self.concerns.select(chosen),
            links=None if self.links is None else self.links.select(chosen),
            source=None if self.source is None else self.source.index_select(0, lines),
            target=None if self.target is None else self.target.index_select(0, lines),
        )

    def segment(self) -> torch.Tensor:
        """The decision of every entity, int64 [T]."""
        return segment_of(self.pointers)

    def row_sums(self, encoded: torch.Tensor, row_pointers: torch.Tensor) -> torch.Tensor:
        """Sums [R, F] of `encoded` [T, F] over the entities that each row concerns; zero for none."""
        row, entity = self.concerns.flat(row_pointers, self.pointers)
        sums = encoded.new_zeros(int(row_pointers[-1]), encoded.shape[1])
        return sums.index_add(0, row, encoded.index_select(0, entity))

    def seen(self) -> Pairs:
        """Which entity (first) sees which (second), itself included."""
        counts = self.pointers.diff()
        if self.links is None:
            return every_pair(counts)
        number = numbers_inside(self.pointers)
        first = torch.cat([self.links.first, number])
        second = torch.cat([self.links.second, number])
        decision = torch.cat([segment_of(self.links.pointers), segment_of(self.pointers)])
        order = decision.argsort(stable=True)
        pointers = self.links.pointers + self.pointers
        return Pairs(first.index_select(0, order), second.index_select(0, order), pointers)


def numbers_inside(pointers: torch.Tensor) -> torch.Tensor:
    """The number of every member inside its decision, int64 [T], from pointers [D + 1]."""
    members = torch.arange(int(pointers[-1]), device=pointers.device)
    return members - pointers.index_select(0, segment_of(pointers))


def every_pair(counts: torch.Tensor) -> Pairs:
    """Each member of a decision with each, itself included, from their numbers [D]."""
    pointers = pointers_of(counts * counts)
    number = numbers_inside(pointers)
    width = counts.index_select(0, segment_of(pointers))
    return Pairs(torch.div(number, width, rounding_mode="floor"), number % width, pointers)


def _every_other(pointers: torch.Tensor) -> Pairs:
    """Each member of a decision with each other one."""
    pairs = every_pair(pointers.diff())
    other = pairs.first != pairs.second
    return Pairs(pairs.first[other], pairs.second[other], pairs.pointers - pointers)


def gather_entities(
    tokens: Tokens,
    kind: KindSpec,
    where: torch.Tensor,
    pointers: torch.Tensor,
    action: torch.Tensor,
    linked: bool = True,
    ways: Ways | None = None,
) -> Entities:
    """The live entities of some agents.

    Args:
        tokens: Of the kind, from the world; nothing of the result aliases it.
        kind: Its static description.
        where: int64 [D], the agents in the flattened [B, A].
        pointers: int64 [D + 1], where their rows begin.
        action: int64 [R], the action of every row; empty where actions are vectors and rows are the entities.
        linked: Whether it matters which of them see one another.
        ways: Of the kind; None where nobody is told of entities.
    """
    live = tokens.entity_mask.flatten(0, 1).index_select(0, where)
    decision, slot = live.nonzero(as_tuple=True)
    features = tokens.entities.flatten(0, 1)[where.index_select(0, decision), slot]
    agent = where % tokens.active.shape[1]
    inside = live.cumsum(1) - 1
    links = None
    if linked and kind.link_lists is not None:
        entity, target = _listed(kind.link_lists, agent.index_select(0, decision) * live.shape[1] + slot)
        other = target != slot.index_select(0, entity)
        entity, target = entity[other], target[other]
        links = _live_pairs(inside[decision, slot], entity, target, decision, live, inside)
    concerns = _concerns(kind, agent, pointers, action, live, inside)
    came, goes = None, None
    if ways is not None:
        owner = agent.index_select(0, decision)
        came, goes = (table(columns, where.device)[owner, slot] for columns in (ways.source, ways.target))
    return Entities(features, pointers_of(live.sum(1)), concerns, links, came, goes)


def _concerns(
    kind: KindSpec,
    agent: torch.Tensor,
    pointers: torch.Tensor,
    action: torch.Tensor,
    live: torch.Tensor,
    inside: torch.Tensor,
) -> Pairs:
    """Which rows concern which live entities; rows of vector actions are these entities."""
    number, decision = numbers_inside(pointers), segment_of(pointers)
    if kind.bounds is not None:
        return Pairs(number, number, pointers)
    if kind.relation_lists is None:
        row = (action < live.shape[1]).nonzero().squeeze(1)
        target = action.index_select(0, row)
    else:
        row, target = _listed(kind.relation_lists, agent.index_select(0, decision) * kind.actions + action)
    return _live_pairs(number, row, target, decision, live, inside)


def _listed(lists: Lists, line: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The members of some lines: to which of those asked for each belongs, and which it is."""
    members, counts = (table(part, line.device) for part in (lists.members, lists.counts))
    places, asked = rows_of(pointers_of(counts), line)
    return segment_of(asked), members.index_select(0, places)


def _live_pairs(
    number: torch.Tensor,
    one: torch.Tensor,
    slot: torch.Tensor,
    decision: torch.Tensor,
    live: torch.Tensor,
    inside: torch.Tensor,
) -> Pairs:
    """Pairs of members `one` (indices into `number` and `decision`) and the live ones among the slots."""
    owner = decision.index_select(0, one)
    there = live[owner, slot]
    owner, slot = owner[there], slot[there]
    counts = torch.bincount(owner, minlength=live.shape[0])
    return Pairs(number.index_select(0, one[there]), inside[owner, slot], pointers_of(counts))


def concatenate_entities(parts: Sequence[Entities]) -> Entities:
    """The entities of several batches as one."""
    linked = any(part.links is not None for part in parts)
    links = [part.links or _every_other(part.pointers) for part in parts] if linked else []
    source = [part.source for part in parts if part.source is not None]
    target = [part.target for part in parts if part.target is not None]
    return Entities(
        tokens=torch.cat([part.tokens for part in parts]),
        pointers=_join([part.pointers for part in parts]),
        concerns=_concatenate_pairs([part.concerns for part in parts]),
        links=_concatenate_pairs(links) if linked else None,
        source=torch.cat(source) if source else None,
        target=torch.cat(target) if target else None,
    )


def _concatenate_pairs(parts: Sequence[Pairs]) -> Pairs:
    first, second = torch.cat([part.first for part in parts]), torch.cat([part.second for part in parts])
    return Pairs(first, second, _join([part.pointers for part in parts]))


def _join(pointers: Sequence[torch.Tensor]) -> torch.Tensor:
    return pointers_of(torch.cat([p.diff() for p in pointers]))
