"""Linear layers that are shared by all agents, or of which every agent owns a copy.

The copies are stacked. Lines of a batch are brought together by owner and cut into tiles of equal length, each with the
weights of one owner; one batched product computes them all. Nothing loops over agents, and however unequally they
share the lines, at most twice as many are computed as there are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Owners:
    """Who owns the n lines of one ragged axis of a batch, and where each lies in tiles of lines with one owner.

    Attributes:
        owner: int64 [n], below `copies`.
        copies: The number of owners.
        place: int64 [n], the slot of each line, in order of owners.
        line: int64 [tiles * length], the line in each slot; any line in those left over, which are not read.
        tile: int64 [tiles], the owner of each tile; None where each owner has exactly one.
        length: Slots in a tile.
    """

    owner: torch.Tensor
    copies: int
    place: torch.Tensor
    line: torch.Tensor
    tile: torch.Tensor | None
    length: int

    @classmethod
    def of(cls, owner: torch.Tensor, copies: int) -> "Owners":
        """The layout of lines with these owners, int64 [n] below `copies`."""
        counts = torch.bincount(owner, minlength=copies)
        order = torch.argsort(owner, stable=True)
        rank = torch.empty_like(owner).index_copy_(0, order, torch.arange(owner.shape[0], device=owner.device))
        return cls._laid(owner, rank, counts)

    def over(self, pointers: torch.Tensor, segment: torch.Tensor) -> "Owners":
        """The layout of a finer axis, such as the rows of decisions, without sorting again.

        Args:
            pointers: int64 [n + 1], where the finer lines of each line begin.
            segment: int64 [m], the line that each finer one belongs to; ascending.
        """
        finer = pointers.diff()
        slots = finer.new_zeros(self.line.shape[0]).index_copy_(0, self.place, finer)
        before = (slots.cumsum(0) - slots).index_select(0, self.place)
        rank = (before - pointers[:-1]).index_select(0, segment) + torch.arange(segment.shape[0], device=segment.device)
        counts = finer.new_zeros(self.copies).index_add_(0, self.owner, finer)
        return self._laid(self.owner.index_select(0, segment), rank, counts)

    @classmethod
    def _laid(cls, owner: torch.Tensor, rank: torch.Tensor, counts: torch.Tensor) -> "Owners":
        """Cuts lines, of which `rank` [n] says the place in order of owners and `counts` [copies] how many each has."""
        copies, lines = counts.shape[0], owner.shape[0]
        length = max(1, -(-lines // copies))
        tiles = torch.div(counts + length - 1, length, rounding_mode="floor")
        shift = (tiles.cumsum(0) - tiles) * length - (counts.cumsum(0) - counts)
        place = rank + shift.index_select(0, owner)
        tile = torch.repeat_interleave(torch.arange(copies, device=owner.device), tiles)
        line = torch.zeros(tile.shape[0] * length, dtype=torch.int64, device=owner.device)
        line.index_copy_(0, place, torch.arange(lines, device=owner.device))
        return cls(owner, copies, place, line, None if bool((tiles == 1).all()) else tile, length)


@dataclass(frozen=True)
class Whose:
    """Owners of the decisions of a batch and of their rows; None where parameters are shared."""

    decisions: Owners | None = None
    rows: Owners | None = None


SHARED = Whose()


def linear(lines: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, owners: Owners | None) -> torch.Tensor:
    """Lines [n, ..., outputs] = lines [n, ..., inputs] @ weight.T + bias, each with the weights of its owner.

    Args:
        lines: float32 [n, ..., inputs].
        weight: [outputs, inputs], or with owners [copies, outputs, inputs].
        bias: [outputs], or with owners [copies, outputs]; None for none.
        owners: Of the n lines; None for shared weights.
    """
    if owners is None:
        return F.linear(lines, weight, bias)
    if owners.tile is not None:
        weight = weight.index_select(0, owners.tile)
        bias = None if bias is None else bias.index_select(0, owners.tile)
    inner = lines.shape[1:-1]
    # not inner.numel(): that is a constant in an exported graph
    each = owners.length * math.prod(inner)
    table = lines.index_select(0, owners.line).reshape(weight.shape[0], each, lines.shape[-1])
    turned = weight.transpose(1, 2)
    product = torch.bmm(table, turned) if bias is None else torch.baddbmm(bias[:, None], table, turned)
    return product.reshape(owners.line.shape[0], *inner, weight.shape[1]).index_select(0, owners.place)


def own_of(parameter: torch.Tensor, owners: Owners | None, lines: int) -> torch.Tensor:
    """A parameter for each of `lines` lines, [lines, ...]: the shared one [...], or its owner's of [copies, ...]."""
    if owners is None:
        return parameter.expand(lines, *parameter.shape)
    return parameter.index_select(0, owners.owner)


class Dense(nn.Module):
    """A linear layer: one for all, or a stack of independent copies; names, shapes and start of `nn.Linear`.

    Copies start from draws of their own: agents that begin alike and see alike would stay alike, while games of
    coordination need them to differ.
    """

    def __init__(self, inputs: int, outputs: int, copies: int = 0, bias: bool = True) -> None:
        """Sizes; `copies` 0 is one shared layer, otherwise weights are [copies, outputs, inputs]."""
        super().__init__()
        self.copies = copies
        stack = (copies,) if copies else ()
        self.weight = nn.Parameter(torch.empty(*stack, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(*stack, outputs)) if bias else None
        parts = [nn.Linear(inputs, outputs, bias) for _ in range(max(1, copies))]
        with torch.no_grad():
            self.weight.copy_(torch.stack([p.weight for p in parts]).reshape(self.weight.shape))
            if self.bias is not None:
                self.bias.copy_(torch.stack([p.bias for p in parts]).reshape(self.bias.shape))

    def start(self, draw: Callable[[torch.Tensor], object]) -> "Dense":
        """Draws each copy's weights [outputs, inputs] again, in place, and sets biases to zero; returns the layer."""
        with torch.no_grad():
            for weight in self.weight if self.copies else (self.weight,):
                draw(weight)
            if self.bias is not None:
                self.bias.zero_()
        return self

    def forward(self, lines: torch.Tensor, owners: Owners | None = None) -> torch.Tensor:
        """Outputs [n, ..., outputs] of lines [n, ..., inputs]; `owners` of the n lines where the layer has copies."""
        return linear(lines, self.weight, self.bias, owners if self.copies else None)
