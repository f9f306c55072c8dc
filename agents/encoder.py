"""Row encoders: what a network makes of every row of a decision before it is scored.

`pointwise` passes each row through one shared network together with what is known about the whole decision; `attention`
lets the rows of a decision look at one another as well. Both take any number of rows.
"""

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from fedsched.agents.decisions import Decisions
from fedsched.agents.layers import SHARED, Dense, Whose

# rows are padded to the longest decision of a bucket; decisions of like length share one
BUCKETS = (8, 16, 32, 64)


class PointwiseEncoder(nn.Module):
    """h_r = relu(W2 relu(Wr row_r + Wo inputs_d + b) + c), the same weights for every row r of decision d."""

    def __init__(self, inputs: int, rows: int, width: int, hidden: int, copies: int = 0) -> None:
        """Sizes: `inputs` and `rows` features, `width` and `hidden` units in its layers; `copies` as in `Dense`."""
        super().__init__()
        self.row = Dense(rows, width, copies, bias=False)
        self.whole = Dense(inputs, width, copies)
        self.mix = Dense(width, hidden, copies)

    def forward(
        self, inputs: torch.Tensor, decisions: Decisions, segment: torch.Tensor, whose: Whose = SHARED
    ) -> torch.Tensor:
        """Encodes rows: `inputs` [D, inputs], `segment` int64 [R]; returns float32 [R, hidden]."""
        whole = self.whole(inputs, whose.decisions).index_select(0, segment)
        return F.relu(self.mix(F.relu(self.row(decisions.rows, whose.rows) + whole), whose.rows))


class AttentionEncoder(nn.Module):
    """The pointwise network with one residual round of multi-head self-attention between its two layers.

    t_r = relu(Wr row_r + Wo inputs_d + b);  h_r = relu(W2 (t_r + attention(t)_r) + c), attention over the rows of d
    (Vaswani et al. 2017, scaled dot product), no positions: a permutation of rows permutes the result.
    """

    def __init__(self, inputs: int, rows: int, width: int, hidden: int, heads: int, copies: int = 0) -> None:
        """Sizes as in `PointwiseEncoder`; queries, keys and values have `hidden` units, a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.row = Dense(rows, width, copies, bias=False)
        self.whole = Dense(inputs, width, copies)
        self.project = Dense(width, 3 * hidden, copies, bias=False)
        self.merge = Dense(hidden, width, copies)
        self.mix = Dense(width, hidden, copies)

    def forward(
        self, inputs: torch.Tensor, decisions: Decisions, segment: torch.Tensor, whose: Whose = SHARED
    ) -> torch.Tensor:
        """Encodes rows: `inputs` [D, inputs], `segment` int64 [R]; returns float32 [R, hidden]."""
        whole = self.whole(inputs, whose.decisions).index_select(0, segment)
        tokens = F.relu(self.row(decisions.rows, whose.rows) + whole)
        mixed = self._attend(self.project(tokens, whose.rows), decisions.pointers, segment)
        return F.relu(self.mix(tokens + self.merge(mixed, whose.rows), whose.rows))

    def _attend(self, projected: torch.Tensor, pointers: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
        counts = pointers.diff()
        place = torch.arange(projected.shape[0], device=projected.device) - pointers.index_select(0, segment)
        row_counts = counts.index_select(0, segment)
        parts, orders = [], []
        for low, high in _bounds(counts):
            rows = ((row_counts > low) & (row_counts <= high)).nonzero().squeeze(1)
            members = (counts > low) & (counts <= high)
            line = (members.cumsum(0) - 1).index_select(0, segment.index_select(0, rows))
            flat = line * high + place.index_select(0, rows)
            chosen = projected.index_select(0, rows)
            parts.append(self._attend_padded(chosen, flat, counts[members], high))
            orders.append(rows)
        merged = projected.new_zeros(projected.shape[0], projected.shape[1] // 3)
        return merged.index_copy(0, torch.cat(orders), torch.cat(parts)) if parts else merged

    def _attend_padded(
        self, projected: torch.Tensor, flat: torch.Tensor, counts: torch.Tensor, length: int
    ) -> torch.Tensor:
        lines, width = counts.shape[0], projected.shape[1]
        dense = projected.new_zeros(lines * length, width).index_copy(0, flat, projected)
        shaped = dense.reshape(lines, length, 3, self.heads, width // (3 * self.heads)).permute(2, 0, 3, 1, 4)
        mask = torch.arange(length, device=counts.device) < counts[:, None]
        queries, keys, values = shaped.unbind(0)
        scores = (queries * queries.shape[3] ** -0.5) @ keys.transpose(2, 3)
        weights = scores.masked_fill(~mask[:, None, None, :], -torch.inf).softmax(3)
        out: torch.Tensor = weights @ values
        return out.transpose(1, 2).reshape(lines * length, width // 3).index_select(0, flat)


def _bounds(counts: torch.Tensor) -> list[tuple[int, int]]:
    """Ranges (low, high] of row counts, none of them empty; the last one ends at the longest decision."""
    if counts.numel() == 0:
        return []
    longest = int(counts.max())
    edges = [0, *(b for b in BUCKETS if b < longest), longest]
    pairs = itertools.pairwise(edges)
    return [(low, high) for low, high in pairs if bool(((counts > low) & (counts <= high)).any())]
