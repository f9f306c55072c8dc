"""What a policy may do: the protocol of its distributions, and the choice among the legal rows of every decision."""

from typing import Protocol

import torch

from fedsched.agents.segments import segment_argmax, segment_log_softmax, segment_sum


class Distribution(Protocol):
    """What agents of one kind may do in D decisions: choose a row, int64 [D], or a vector, float32 [D, K]."""

    @property
    def decisions(self) -> int:
        """The number of decisions D."""
        ...

    def sample(self, generator: torch.Generator, greedy: torch.Tensor | None = None) -> torch.Tensor:
        """One choice for every decision; where `greedy` bool [D], the likeliest, with the same noise drawn."""
        ...

    def mode(self) -> torch.Tensor:
        """The likeliest choice of every decision."""
        ...

    def log_prob(self, choice: torch.Tensor) -> torch.Tensor:
        """Logarithm of the probability or density of a choice for every decision, [D]."""
        ...

    def entropy(self) -> torch.Tensor:
        """Entropy of every decision in nats, [D]."""
        ...

    def total(self) -> torch.Tensor:
        """The sum of its numbers, [], finite where they all are."""
        ...


class RaggedCategorical:
    """D categorical distributions over the R rows of their decisions.

    Attributes:
        log_probs: float32 [R], normalised inside each decision.
        pointers: int64 [D + 1], where the rows of a decision begin.
        segment: int64 [R], the decision of a row.
    """

    def __init__(self, scores: torch.Tensor, pointers: torch.Tensor, segment: torch.Tensor) -> None:
        """Normalises scores.

        Args:
            scores: float32 [R].
            pointers: int64 [D + 1].
            segment: int64 [R].
        """
        self.pointers, self.segment = pointers, segment
        self.log_probs = segment_log_softmax(scores, segment, self.decisions)

    @property
    def decisions(self) -> int:
        """The number of decisions D."""
        return self.pointers.shape[0] - 1

    def sample(self, generator: torch.Generator, greedy: torch.Tensor | None = None) -> torch.Tensor:
        """One row of every decision, int64 [D], by the Gumbel-max trick; rows count inside the decision.

        Args:
            generator: Of the noise.
            greedy: bool [D], decisions that take their likeliest row instead; the noise drawn is the same.
        """
        uniform = torch.rand(self.log_probs.shape, generator=generator, device=self.log_probs.device)
        exponential = -torch.log1p(-uniform)
        gumbel = -torch.log(exponential.clamp(min=1e-20))
        if greedy is not None:
            gumbel = gumbel.masked_fill(greedy.index_select(0, self.segment), 0.0)
        return self._best(self.log_probs.detach() + gumbel)

    def mode(self) -> torch.Tensor:
        """The likeliest row of every decision, int64 [D], the first of equals; rows count inside the decision."""
        return self._best(self.log_probs.detach())

    def log_prob(self, choice: torch.Tensor) -> torch.Tensor:
        """Log-probability [D] of `choice` [D], rows counted inside the decision."""
        return self.log_probs.index_select(0, self.pointers[:-1] + choice)

    def entropy(self) -> torch.Tensor:
        """Entropy of every decision in nats, [D]."""
        return -segment_sum(self.log_probs.exp() * self.log_probs, self.segment, self.decisions)

    def total(self) -> torch.Tensor:
        """The sum of all log-probabilities, []."""
        return self.log_probs.sum()

    def _best(self, keys: torch.Tensor) -> torch.Tensor:
        return segment_argmax(keys, self.segment, self.decisions) - self.pointers[:-1]
