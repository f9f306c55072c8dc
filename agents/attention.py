"""Dense attention among the entities of a decision: one round of it, or a transformer with gated features.

Every body maps tokens float32 [T, width] of entities and states [D, width] of the agents that see them to new ones.
Positions mean nothing: a permutation of the entities permutes the result.
"""

import torch
from torch import nn
from torch.nn import functional as F

from fedsched.agents.entities import Entities
from fedsched.agents.layers import Dense, Owners
from fedsched.agents.padding import Bucket, buckets, masked_softmax


class DenseBody(nn.Module):
    """A body that works on padded blocks of decisions."""

    def dense(self, tokens: torch.Tensor, state: torch.Tensor, bucket: Bucket) -> tuple[torch.Tensor, torch.Tensor]:
        """New tokens [L, n, width] and states [L, width] of the decisions of one bucket."""
        raise NotImplementedError

    def forward(
        self, tokens: torch.Tensor, state: torch.Tensor, entities: Entities, owners: Owners | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """New tokens [T, width] and states [D, width] of `entities`."""
        for bucket in buckets(entities, owners):
            block, own = self.dense(bucket.pad(tokens), state.index_select(0, bucket.decisions), bucket)
            tokens = tokens.index_copy(0, bucket.members, bucket.strip(block))
            state = state.index_copy(0, bucket.decisions, own)
        return tokens, state


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017) with queries, keys and values of `inner` units."""

    def __init__(self, width: int, inner: int, heads: int, copies: int = 0) -> None:
        """Tokens of `width` units; `heads` share `inner` equally."""
        super().__init__()
        self.heads = heads
        self.project = Dense(width, 3 * inner, copies, bias=False)
        self.merge = Dense(inner, width, copies)

    def forward(self, tokens: torch.Tensor, bucket: Bucket) -> torch.Tensor:
        """What each token [L, n, width] hears of those that it may look at, [L, n, width]."""
        lines, length, _ = tokens.shape
        shaped = self.project(tokens, bucket.owners).reshape(lines, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = shaped.unbind(0)
        scores = (queries * queries.shape[3] ** -0.5) @ keys.transpose(2, 3)
        heard: torch.Tensor = masked_softmax(scores, bucket.look[:, None]) @ values
        merged: torch.Tensor = self.merge(heard.transpose(1, 2).reshape(lines, length, -1), bucket.owners)
        return merged


class AttentionBody(DenseBody):
    """t' = t + attention(t)."""

    def __init__(self, width: int, inner: int, heads: int, copies: int = 0) -> None:
        """Sizes as in `SelfAttention`."""
        super().__init__()
        self.attention = SelfAttention(width, inner, heads, copies)

    def dense(self, tokens: torch.Tensor, state: torch.Tensor, bucket: Bucket) -> tuple[torch.Tensor, torch.Tensor]:
        """One residual round."""
        return tokens + self.attention(tokens, bucket), state


class TransformerBlock(nn.Module):
    """u = t + attention(norm(t)); t' = u + W2 relu(W1 norm(u)), normalised before each part (Xiong et al. 2020).

    The norms have no weights of their own: the linear layers behind them have.
    """

    def __init__(self, width: int, heads: int, copies: int = 0) -> None:
        """Tokens of `width` units; the feed-forward part has twice as many inside."""
        super().__init__()
        self.before = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, width, heads, copies)
        self.between = nn.LayerNorm(width, elementwise_affine=False)
        self.widen = Dense(width, 2 * width, copies)
        self.narrow = Dense(2 * width, width, copies)

    def forward(self, tokens: torch.Tensor, bucket: Bucket) -> torch.Tensor:
        """Tokens [L, n, width] to tokens."""
        heard = tokens + self.attention(self.before(tokens), bucket)
        wide = F.relu(self.widen(self.between(heard), bucket.owners))
        fed: torch.Tensor = heard + self.narrow(wide, bucket.owners)
        return fed


class SqueezeExcitation(nn.Module):
    """t'_e = t_e * sigmoid(W2 relu(W1 mean_e t_e)): a weight for every feature, by all entities of a decision.

    Source: Hu et al. 2018, with entities in place of pixels; the inner layer has a quarter of the width.
    """

    def __init__(self, width: int, copies: int = 0) -> None:
        """Tokens of `width` units."""
        super().__init__()
        inner = max(4, width // 4)
        self.squeeze = Dense(width, inner, copies)
        self.excite = Dense(inner, width, copies)

    def forward(self, tokens: torch.Tensor, bucket: Bucket) -> torch.Tensor:
        """Tokens [L, n, width] to tokens."""
        count = bucket.live.sum(1).clamp(min=1).to(tokens.dtype)
        mean = (tokens * bucket.live[..., None]).sum(1) / count[:, None]
        squeezed = F.relu(self.squeeze(mean, bucket.owners))
        gate = torch.sigmoid(self.excite(squeezed, bucket.owners))
        return tokens * gate[:, None]


class HierarchicalBody(DenseBody):
    """Attention over entities, then over features: a transformer, and squeeze-and-excitation of what it made."""

    def __init__(self, width: int, heads: int, blocks: int, copies: int = 0) -> None:
        """`blocks` transformer blocks over tokens of `width` units."""
        super().__init__()
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, copies) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.gate = SqueezeExcitation(width, copies)

    def dense(self, tokens: torch.Tensor, state: torch.Tensor, bucket: Bucket) -> tuple[torch.Tensor, torch.Tensor]:
        """All blocks, then the gate."""
        for block in self.blocks:
            tokens = block(tokens, bucket)
        return self.gate(self.norm(tokens), bucket), state
