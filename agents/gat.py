"""Graph attention over the entities of a decision, dense: every pair of a padded block is computed.

The graph of a decision has the agent and its entities as nodes. Entities hear those beside them (all, or those that the
world links), the agent hears all of its entities. `graph` computes the same from lists of edges.
"""

import torch
from torch import nn
from torch.nn import functional as F

from fedsched.agents.attention import DenseBody
from fedsched.agents.layers import Dense, Owners, own_of
from fedsched.agents.padding import Bucket, masked_softmax

SLOPE = 0.2


class GATv2(nn.Module):
    """z_i = sum_j a_ij Wl x_j + b, where a_ij = softmax_j(att . leaky_relu(Wr y_i + Wl x_j)) for each head.

    Source: Brody et al. 2022. Names and shapes of parameters are those of torch-geometric's `GATv2Conv`.
    """

    def __init__(self, width: int, heads: int, copies: int = 0) -> None:
        """Nodes of `width` units, which `heads` share equally; `copies` as in `Dense`."""
        super().__init__()
        stack = (copies,) if copies else ()
        self.heads, self.copies = heads, copies
        self.lin_l = Dense(width, width, copies).start(nn.init.xavier_uniform_)
        self.lin_r = Dense(width, width, copies).start(nn.init.xavier_uniform_)
        self.att = nn.Parameter(torch.empty(*stack, 1, heads, width // heads))
        self.bias = nn.Parameter(torch.zeros(*stack, width))
        for att in self.att.data if copies else (self.att.data,):
            nn.init.xavier_uniform_(att)

    def forward(
        self, heard: torch.Tensor, hearer: torch.Tensor, look: torch.Tensor, owners: Owners | None
    ) -> torch.Tensor:
        """What nodes `hearer` [L, m, width] hear of `heard` [L, n, width] where `look` [L, 1 or m, n] allows it."""
        lines, count, width = hearer.shape
        values, keys = self.lin_l(heard, owners), self.lin_r(hearer, owners)
        both = F.leaky_relu(keys[:, :, None] + values[:, None], SLOPE)
        scores = both.reshape(lines, -1, width) @ self._columns(owners)
        scores = scores.reshape(lines, count, -1, self.heads).permute(0, 3, 1, 2)
        weights = masked_softmax(scores, look[:, None])
        shaped = values.reshape(lines, -1, self.heads, width // self.heads).transpose(1, 2)
        mixed = (weights @ shaped).transpose(1, 2).reshape(lines, count, width)
        bias = own_of(self.bias, owners if self.copies else None, lines)
        return torch.add(mixed, bias[:, None])

    def _columns(self, owners: Owners | None) -> torch.Tensor:
        """`att` as [width, heads], zero outside the units of a head; [L, width, heads] where agents own it."""
        same = torch.eye(self.heads, device=self.att.device)
        columns = (self.att.squeeze(-3)[..., None] * same[:, None]).flatten(-3, -2)
        return columns.index_select(0, owners.owner) if owners and self.copies else columns


class GatBlock(nn.Module):
    """t' = relu(t + beside(t)) for entities, s' = s + seen(t) for the agent."""

    def __init__(self, width: int, heads: int, copies: int = 0) -> None:
        """Sizes as in `GATv2`."""
        super().__init__()
        self.beside = GATv2(width, heads, copies)
        self.seen = GATv2(width, heads, copies)

    def forward(self, tokens: torch.Tensor, state: torch.Tensor, bucket: Bucket) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [L, n, width] and states [L, width] to new ones."""
        beside = self.beside(tokens, tokens, bucket.look, bucket.owners)
        seen = self.seen(tokens, state[:, None], bucket.live[:, None, :], bucket.owners)
        return F.relu(tokens + beside), state + seen[:, 0]


class GatBody(DenseBody):
    """Rounds of graph attention."""

    def __init__(self, width: int, heads: int, blocks: int, copies: int = 0) -> None:
        """`blocks` rounds; sizes as in `GATv2`."""
        super().__init__()
        self.blocks = nn.ModuleList(GatBlock(width, heads, copies) for _ in range(blocks))

    def dense(self, tokens: torch.Tensor, state: torch.Tensor, bucket: Bucket) -> tuple[torch.Tensor, torch.Tensor]:
        """All rounds."""
        for block in self.blocks:
            tokens, state = block(tokens, state, bucket)
        return tokens, state
