"""Scores of rows: how likely a policy is to choose each of them, before the softmax over a decision."""

import torch
from torch import nn

from fedsched.agents.layers import SHARED, Dense, Whose, linear


class AdditiveScore(nn.Module):
    """score_r = w . h_r, where the encoder has already put the agent's state into h_r; starts near zero."""

    def __init__(self, features: int, copies: int = 0) -> None:
        """`features` numbers h of a row; `copies` as in `Dense`."""
        super().__init__()
        layer = Dense(features, 1, copies, bias=False)
        self.weight = layer.start(lambda weight: nn.init.normal_(weight, std=0.01)).weight

    def forward(
        self, state: torch.Tensor, features: torch.Tensor, segment: torch.Tensor, whose: Whose = SHARED
    ) -> torch.Tensor:
        """Scores [R] of `features` [R, F]."""
        del state, segment
        return linear(features, self.weight, None, whose.rows).squeeze(1)


class DotScore(nn.Module):
    """score_r = q(state_d) . K h_r: attention of the agent's state (query) to action tokens (keys).

    The query is the state itself where layers have made one, otherwise a linear map of the inputs. There is no factor
    1 / sqrt(width): keys start near zero (orthogonal, gain 0.01) and may become as long as they need, and without it
    the score of one-hot tokens is the linear head of an MLP in every respect, the size of an Adam step included. It is
    computed as (K^T q) . h, which costs a head for every feature of a row, once for each decision, and no key at all.
    """

    def __init__(self, state: int, features: int, width: int | None, copies: int = 0) -> None:
        """Sizes of states, rows and the query's map (None: the state itself); `copies` as in `Dense`."""
        super().__init__()
        self.query = None if width is None else Dense(state, width, copies)
        key = Dense(features, state if width is None else width, copies, bias=False)
        self.key = key.start(lambda weight: nn.init.orthogonal_(weight, 0.01))

    def forward(
        self, state: torch.Tensor, features: torch.Tensor, segment: torch.Tensor, whose: Whose = SHARED
    ) -> torch.Tensor:
        """Scores [R] of `features` [R, F], given `state` [D, S] and the decision of every row, `segment` [R]."""
        query = state if self.query is None else self.query(state, whose.decisions)
        turned = linear(query, self.key.weight.transpose(-1, -2), None, whose.decisions)
        return (turned.index_select(0, segment) * features).sum(1)
