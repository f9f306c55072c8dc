"""Sums, maxima and softmax over the rows of ragged decisions.

A batch of D decisions holds R rows, those of one decision next to one another. `segment [R]` says which decision a row
belongs to, `pointers [D + 1]` where the rows of a decision begin.
"""

import torch


def pointers_of(counts: torch.Tensor) -> torch.Tensor:
    """Where each segment begins, int64 [D + 1], from the numbers of rows [D]."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def segment_of(pointers: torch.Tensor) -> torch.Tensor:
    """The segment of every row, int64 [R], from `pointers` [D + 1]."""
    counts = pointers.diff()
    return torch.repeat_interleave(torch.arange(counts.shape[0], device=pointers.device), counts)


def segment_sum(values: torch.Tensor, segment: torch.Tensor, segments: int) -> torch.Tensor:
    """Sums of `values` [R, ...] over each segment, [segments, ...]; zero for an empty one."""
    return values.new_zeros((segments, *values.shape[1:])).index_add(0, segment, values)


def segment_mean(values: torch.Tensor, pointers: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
    """Means of `values` [R, F] over each segment, [D, F]; zero for an empty one."""
    counts = pointers.diff().clamp(min=1).to(values.dtype)
    return segment_sum(values, segment, pointers.shape[0] - 1) / counts[:, None]


def segment_max(values: torch.Tensor, segment: torch.Tensor, segments: int) -> torch.Tensor:
    """Maxima of `values` [R] over each segment, [segments]; -inf for an empty one. Not differentiated."""
    lowest = torch.full((segments,), -torch.inf, dtype=values.dtype, device=values.device)
    return lowest.scatter_reduce(0, segment, values.detach(), "amax")


def segment_argmax(values: torch.Tensor, segment: torch.Tensor, segments: int) -> torch.Tensor:
    """The first row [segments] that reaches its segment's maximum; R for an empty segment."""
    rows = torch.arange(values.shape[0], device=values.device)
    top = segment_max(values, segment, segments).index_select(0, segment)
    candidates = torch.where(values >= top, rows, values.shape[0])
    last = torch.full((segments,), values.shape[0], dtype=torch.int64, device=values.device)
    return last.scatter_reduce(0, segment, candidates, "amin")


def segment_log_softmax(scores: torch.Tensor, segment: torch.Tensor, segments: int) -> torch.Tensor:
    """Logarithm of the softmax of `scores` [R] inside each segment, [R]."""
    shifted = scores - segment_max(scores, segment, segments).index_select(0, segment)
    total = segment_sum(shifted.exp(), segment, segments)
    return shifted - total.log().index_select(0, segment)


def rows_of(pointers: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of some segments.

    Args:
        pointers: int64 [D + 1].
        chosen: int64 [C], segments in any order.

    Returns:
        The rows, int64 [R'], segment after segment, and the new pointers [C + 1].
    """
    starts = pointers.index_select(0, chosen)
    counts = pointers.index_select(0, chosen + 1) - starts
    fresh = pointers_of(counts)
    shift = torch.repeat_interleave(starts - fresh[:-1], counts)
    return torch.arange(shift.shape[0], device=pointers.device) + shift, fresh
