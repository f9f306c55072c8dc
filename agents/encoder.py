"""Row encoders: what a network makes of every row of a decision before it is scored.

`pointwise` passes each row through one shared network together with what is known about the whole decision. The others
let the entities that an agent sees look at one another first; a row then gets the sum of what became of the entities
that it concerns. All take any number of rows and entities.
"""

import torch
from torch import nn
from torch.nn import functional as F

from fedsched.agents.attention import AttentionBody, DenseBody, HierarchicalBody
from fedsched.agents.config import EncoderConfig
from fedsched.agents.decisions import AgentError, Decisions
from fedsched.envs.core import KindSpec


class PointwiseEncoder(nn.Module):
    """h_r = relu(W2 relu(Wr row_r + Wo state_d + b) + c), the same weights for every row r of decision d."""

    looks = False

    def __init__(self, state: int, rows: int, width: int, hidden: int) -> None:
        """Sizes: `state` and `rows` features, `width` units in the first layer, `hidden` in the second."""
        super().__init__()
        self.row = nn.Linear(rows, width, bias=False)
        self.whole = nn.Linear(state, width)
        self.mix = nn.Linear(width, hidden)
        self.size = hidden

    def forward(self, state: torch.Tensor, decisions: Decisions, segment: torch.Tensor) -> torch.Tensor:
        """Encodes rows: `state` [D, state], `segment` int64 [R]; returns float32 [R, hidden]."""
        whole = self.whole(state).index_select(0, segment)
        return F.relu(self.mix(F.relu(self.row(decisions.rows) + whole)))


class EntityEncoder(nn.Module):
    """Entities look at one another before rows are made of them.

    t_e = relu(We entity_e + Ws state_d + b);  t', o = body(t, Wo state_d + c)
    h_r = relu(W2 relu(Wr row_r + o_d + Wc sum t'_e over the entities e that r concerns) + d)
    """

    looks = True

    def __init__(self, state: int, rows: int, entity: int, config: EncoderConfig, body: DenseBody) -> None:
        """Sizes: `state`, `rows` and `entity` features; the body maps tokens and states of `config.width` units."""
        super().__init__()
        self.entity = nn.Linear(entity, config.width, bias=False)
        self.sees = nn.Linear(state, config.width)
        self.row = nn.Linear(rows, config.width, bias=False)
        self.whole = nn.Linear(state, config.width)
        self.body = body
        self.concerned = nn.Linear(config.width, config.width, bias=False)
        self.mix = nn.Linear(config.width, config.hidden)
        self.size = config.hidden

    def forward(self, state: torch.Tensor, decisions: Decisions, segment: torch.Tensor) -> torch.Tensor:
        """Encodes rows: `state` [D, state], `segment` int64 [R]; returns float32 [R, hidden]."""
        entities = decisions.entities
        if entities is None:
            raise AgentError("these decisions were gathered without the entities that the encoder looks at")
        seen = self.sees(state).index_select(0, entities.segment())
        tokens, whole = self.body(F.relu(self.entity(entities.tokens) + seen), self.whole(state), entities)
        concerned = entities.row_sums(self.concerned(tokens), decisions.pointers)
        return F.relu(self.mix(F.relu(self.row(decisions.rows) + whole.index_select(0, segment) + concerned)))


def make_encoder(kind: KindSpec, config: EncoderConfig, state: int) -> PointwiseEncoder | EntityEncoder:
    """The encoder of a kind whose states have `state` numbers; without entities there is nothing to look at."""
    rows = len(kind.entity) + len(kind.action)
    if config.kind == "pointwise" or not kind.entity:
        return PointwiseEncoder(state, rows, config.width, config.hidden)
    return EntityEncoder(state, rows, len(kind.entity), config, _body(config))


def _body(config: EncoderConfig) -> DenseBody:
    if config.kind == "attention":
        return AttentionBody(config.width, config.hidden, config.heads)
    return HierarchicalBody(config.width, config.heads, config.blocks)
