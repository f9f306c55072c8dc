"""Minibatches of decisions, those of one moment together, and with memory those of one chunk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch

from fedsched.agents.decisions import Decisions


class Separable(Protocol):
    """Something about the decisions of one kind, of which some can be taken."""

    @property
    def decisions(self) -> Decisions:
        """The D decisions."""
        ...

    def select(self, chosen: torch.Tensor) -> Self:
        """Some of them, `chosen` int64 [C]."""
        ...


S = TypeVar("S", bound=Separable)


@dataclass(frozen=True)
class Chunks:
    """Which chunk every moment belongs to.

    Attributes:
        chunk: int64 [M], below `count`.
        offset: int64 [M], the moment's step inside its chunk.
        count: Number of chunks.
    """

    chunk: torch.Tensor
    offset: torch.Tensor
    count: int

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, int]], length: int, device: torch.device | str = "cpu") -> "Chunks":
        """Chunks of `length` steps of rollouts with (steps, rows) each; moment = step * rows + row, one after another.

        Rows are episodes: no chunk holds the end of one and the beginning of another.
        """
        chunk, offset, count = [], [], 0
        for steps, rows in shapes:
            step = torch.arange(steps, device=device)[:, None].expand(steps, rows)
            row = torch.arange(rows, device=device).expand(steps, rows)
            part = torch.div(step, length, rounding_mode="floor") * rows + row
            chunk.append((count + part).reshape(-1))
            offset.append((step % length).reshape(-1))
            count += -(-steps // length) * rows
        return cls(torch.cat(chunk), torch.cat(offset), count)


def minibatches(
    experience: Mapping[str, S], moments: int, pieces: int, generator: torch.Generator, chunks: Chunks | None = None
) -> Iterator[dict[str, S]]:
    """Splits experience at random into about equal minibatches, moments kept whole, and chunks where there are.

    Args:
        experience: By kind, with moments below `moments`.
        moments: A bound on them.
        pieces: The number of minibatches; empty ones are left out.
        generator: Of the split.
        chunks: Of the moments, for a policy with memory.
    """
    device = next(iter(experience.values())).decisions.own.device
    piece = torch.randint(pieces, (chunks.count if chunks else moments,), generator=generator, device=device)
    if chunks is not None:
        piece = piece.index_select(0, chunks.chunk)
    assigned = {name: piece.index_select(0, part.decisions.moment) for name, part in experience.items()}
    for number in range(pieces):
        chosen = {name: (line == number).nonzero().squeeze(1) for name, line in assigned.items()}
        if any(index.numel() for index in chosen.values()):
            yield {name: experience[name].select(index) for name, index in chosen.items()}
