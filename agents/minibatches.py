"""Minibatches of decisions, those of one moment together."""

from collections.abc import Iterator, Mapping
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


def minibatches(
    experience: Mapping[str, S], moments: int, pieces: int, generator: torch.Generator
) -> Iterator[dict[str, S]]:
    """Splits experience at random into about equal minibatches, moments kept whole.

    Args:
        experience: By kind, with moments below `moments`.
        moments: A bound on them.
        pieces: The number of minibatches; empty ones are left out.
        generator: Of the split.
    """
    device = next(iter(experience.values())).decisions.own.device
    piece = torch.randint(pieces, (moments,), generator=generator, device=device)
    assigned = {name: piece.index_select(0, part.decisions.moment) for name, part in experience.items()}
    for number in range(pieces):
        chosen = {name: (line == number).nonzero().squeeze(1) for name, line in assigned.items()}
        if any(index.numel() for index in chosen.values()):
            yield {name: experience[name].select(index) for name, index in chosen.items()}
