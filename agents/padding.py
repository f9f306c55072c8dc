"""Ragged members of decisions as dense blocks, and who may look at whom in them.

Decisions of like length share a block, so that a long one does not make all others wide.
"""

import itertools
from dataclasses import dataclass

import torch

from fedsched.agents.entities import Entities
from fedsched.agents.layers import Owners
from fedsched.agents.segments import rows_of, segment_of

BUCKETS = (8, 16, 32, 64)
# finite, so that a line in which nobody may be looked at has no NaN
_NEVER = -1e9


@dataclass(frozen=True)
class Bucket:
    """L decisions with up to n entities each, padded to n.

    Attributes:
        decisions: int64 [L].
        members: int64 [t], their entities.
        place: int64 [t], where each lies in the flattened [L, n].
        live: bool [L, n].
        look: bool [L, 1 or n, n]; whether the second index may look at the third.
        owners: Whose parameters the decisions use; None where they are shared.
    """

    decisions: torch.Tensor
    members: torch.Tensor
    place: torch.Tensor
    live: torch.Tensor
    look: torch.Tensor
    owners: Owners | None

    def pad(self, values: torch.Tensor) -> torch.Tensor:
        """Values [T, F] of all entities as those of the bucket, [L, n, F]; zero pads."""
        lines, length = self.live.shape
        dense = values.new_zeros(lines * length, values.shape[1])
        chosen = values.index_select(0, self.members)
        return dense.index_copy(0, self.place, chosen).reshape(lines, length, values.shape[1])

    def strip(self, dense: torch.Tensor) -> torch.Tensor:
        """Values [t, F] of the bucket's entities, from [L, n, F]."""
        return dense.flatten(0, 1).index_select(0, self.place)


def buckets(entities: Entities, owners: Owners | None = None) -> list[Bucket]:
    """The decisions by their numbers of entities; each is in one bucket, those without entities too."""
    counts = entities.pointers.diff()
    return [_bucket(entities, owners, counts, low, high) for low, high in _bounds(counts)]


def _bucket(entities: Entities, owners: Owners | None, counts: torch.Tensor, low: int, high: int) -> Bucket:
    decisions = ((counts > low) & (counts <= high)).nonzero().squeeze(1)
    members, pointers = rows_of(entities.pointers, decisions)
    line = segment_of(pointers)
    number = torch.arange(members.shape[0], device=counts.device) - pointers.index_select(0, line)
    live = torch.arange(high, device=counts.device) < counts.index_select(0, decisions)[:, None]
    look = live[:, None, :]
    if entities.links is not None:
        links = entities.links.select(decisions)
        look = torch.diag_embed(live)
        look[segment_of(links.pointers), links.first, links.second] = True
    own = None if owners is None else Owners.of(owners.owner.index_select(0, decisions), owners.copies)
    return Bucket(decisions, members, line * high + number, live, look, own)


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax over the last axis where `mask` is True, zero elsewhere; all zero where nothing is."""
    return scores.masked_fill(~mask, _NEVER).softmax(-1) * mask


def _bounds(counts: torch.Tensor) -> list[tuple[int, int]]:
    """Ranges (low, high] of numbers of entities, none of them empty; the last one ends at the longest decision."""
    if counts.numel() == 0:
        return []
    longest = max(1, int(counts.max()))
    edges = [-1, *(b for b in BUCKETS if b < longest), longest]
    pairs = itertools.pairwise(edges)
    return [(low, high) for low, high in pairs if bool(((counts > low) & (counts <= high)).any())]
