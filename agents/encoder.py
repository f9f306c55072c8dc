"""Row encoders: what a network makes of every row of a decision before it is scored.

`pointwise` passes each row through one shared network together with what is known about the whole decision. The others
let the entities that an agent sees look at one another first; a row then gets the sum of what became of the entities
that it concerns. All take any number of rows and entities.
"""

import torch
from torch import nn
from torch.nn import functional as F

from fedsched.agents.attention import AttentionBody, HierarchicalBody
from fedsched.agents.config import EncoderConfig
from fedsched.agents.decisions import AgentError, Decisions
from fedsched.agents.entities import Look
from fedsched.agents.gat import GatBody
from fedsched.agents.layers import SHARED, Dense, Whose
from fedsched.envs.core import KindSpec


class PointwiseEncoder(nn.Module):
    """h_r = relu(W2 relu(Wr row_r + Wo state_d + b) + c), the same weights for every row r of decision d."""

    looks: Look = "no"

    def __init__(self, state: int, rows: int, config: EncoderConfig, copies: int = 0) -> None:
        """Sizes: `state` and `rows` features, units of `config`; `copies` as in `Dense`."""
        super().__init__()
        self.row = Dense(rows, config.width, copies, bias=False)
        self.whole = Dense(state, config.width, copies)
        self.mix = Dense(config.width, config.hidden, copies)
        self.size = config.hidden

    def forward(
        self, state: torch.Tensor, decisions: Decisions, segment: torch.Tensor, whose: Whose = SHARED
    ) -> torch.Tensor:
        """Encodes rows: `state` [D, state], `segment` int64 [R]; returns float32 [R, hidden]."""
        whole = self.whole(state, whose.decisions).index_select(0, segment)
        return F.relu(self.mix(F.relu(self.row(decisions.rows, whose.rows) + whole), whose.rows))


class EntityEncoder(nn.Module):
    """Entities look at one another before rows are made of them.

    t_e = relu(We entity_e + Ws state_d + b);  t', o = body(t, Wo state_d + c)
    h_r = relu(W2 relu(Wr row_r + o_d + Wc sum t'_e over the entities e that r concerns) + d)
    """

    looks: Look = "all"

    def __init__(self, state: int, rows: int, entity: int, config: EncoderConfig, copies: int = 0) -> None:
        """Sizes: `state`, `rows` and `entity` features, units of `config`; `copies` as in `Dense`."""
        super().__init__()
        self.entity = Dense(entity, config.width, copies, bias=False)
        self.sees = Dense(state, config.width, copies)
        self.row = Dense(rows, config.width, copies, bias=False)
        self.whole = Dense(state, config.width, copies)
        self.body = _body(config, copies)
        self.concerned = Dense(config.width, config.width, copies, bias=False)
        self.mix = Dense(config.width, config.hidden, copies)
        self.size = config.hidden

    def forward(
        self, state: torch.Tensor, decisions: Decisions, segment: torch.Tensor, whose: Whose = SHARED
    ) -> torch.Tensor:
        """Encodes rows: `state` [D, state], `segment` int64 [R]; returns float32 [R, hidden]."""
        entities = decisions.entities
        if entities is None:
            raise AgentError("these decisions were gathered without the entities that the encoder looks at")
        owners, member = whose.decisions, entities.segment()
        members = owners.over(entities.pointers, member) if owners else None
        sees = self.sees(state, owners).index_select(0, member)
        tokens = F.relu(self.entity(entities.tokens, members) + sees)
        tokens, whole = self.body(tokens, self.whole(state, owners), entities, owners)
        concerned = entities.row_sums(self.concerned(tokens, members), decisions.pointers)
        row = self.row(decisions.rows, whose.rows) + whole.index_select(0, segment) + concerned
        return F.relu(self.mix(F.relu(row), whose.rows))


class BareRows(nn.Module):
    """h_r = row_r: where the score is a product with the state, rows need not hold it."""

    looks: Look = "no"

    def __init__(self, rows: int) -> None:
        """`rows` features."""
        super().__init__()
        self.size = rows

    def forward(
        self, state: torch.Tensor, decisions: Decisions, segment: torch.Tensor, whose: Whose = SHARED
    ) -> torch.Tensor:
        """The rows [R, Fe + Fa] as they are."""
        del state, segment, whose
        return decisions.rows


Encoder = PointwiseEncoder | EntityEncoder | BareRows


def make_encoder(kind: KindSpec, config: EncoderConfig, state: int, copies: int = 0, extra: int = 0) -> Encoder:
    """The encoder of a kind whose states have `state` numbers; without entities there is nothing to look at.

    Rows hold `extra` numbers besides the features of the kind.

    Raises:
        AgentError: Every agent is to own a `graph` encoder, or heads that do not share its units equally.
    """
    rows = len(kind.entity) + (len(kind.action) if kind.bounds is None else 0) + extra
    if config.kind != "pointwise" and kind.entity:
        return EntityEncoder(state, rows, len(kind.entity), config, copies)
    return BareRows(rows) if config.scoring == "dot" else PointwiseEncoder(state, rows, config, copies)


def _body(config: EncoderConfig, copies: int) -> nn.Module:
    units = config.hidden if config.kind == "attention" else config.width
    if config.heads < 1 or units % config.heads:
        raise AgentError(f"encoder {config.kind}: {config.heads} heads cannot share {units} units equally")
    if config.kind == "attention":
        return AttentionBody(config.width, config.hidden, config.heads, copies)
    if config.kind == "hierarchical":
        return HierarchicalBody(config.width, config.heads, config.blocks, copies)
    if config.kind == "gat":
        return GatBody(config.width, config.heads, config.blocks, copies)
    if copies:
        raise AgentError("the graph encoder has no parameters of each agent's own: take gat, or share by kind")
    from fedsched.agents.graph import GraphBody  # torch-geometric takes seconds to import

    return GraphBody(config.width, config.heads, config.blocks)
