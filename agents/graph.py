"""Graph attention over lists of edges, by torch-geometric: the cheaper one where entities see few of many others.

A heterogeneous graph of all decisions of a batch: nodes `agent` and `entity`, edges (entity, beside, entity) from each
entity that is seen to the one that sees it, itself included, and (entity, seen, agent). Rows are made of both by sums.
Parameters have the names and shapes of `gat`, and the result is the same.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import GATv2Conv, HeteroConv

from fedsched.agents.entities import Entities
from fedsched.agents.gat import SLOPE
from fedsched.agents.layers import Owners

BESIDE = ("entity", "beside", "entity")
SEEN = ("entity", "seen", "agent")


class GraphBlock(nn.Module):
    """t' = relu(t + beside(t)) for entities, s' = s + seen(t) for agents."""

    def __init__(self, width: int, heads: int) -> None:
        """Nodes of `width` units, which `heads` share equally."""
        super().__init__()
        self.beside, self.seen = (
            GATv2Conv((width, width), width // heads, heads, negative_slope=SLOPE, add_self_loops=False)
            for _ in range(2)
        )

    def forward(
        self, tokens: torch.Tensor, state: torch.Tensor, edges: dict[tuple[str, str, str], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [T, width] and states [D, width] to new ones; `edges` int64 [2, n] by type."""
        # built here: as a part of the block it would hold the same parameters under other names
        both = HeteroConv({BESIDE: self.beside, SEEN: self.seen})
        heard = both({"entity": tokens, "agent": state}, edges)
        return F.relu(tokens + heard["entity"]), state + heard["agent"]


class GraphBody(nn.Module):
    """Rounds of graph attention."""

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        """`blocks` rounds; sizes as in `GraphBlock`."""
        super().__init__()
        self.blocks = nn.ModuleList(GraphBlock(width, heads) for _ in range(blocks))

    def forward(
        self, tokens: torch.Tensor, state: torch.Tensor, entities: Entities, owners: Owners | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """New tokens [T, width] and states [D, width] of `entities`; parameters are always shared."""
        assert owners is None
        seer, seen = entities.seen().flat(entities.pointers, entities.pointers)
        everyone = torch.arange(tokens.shape[0], device=tokens.device)
        edges = {BESIDE: torch.stack([seen, seer]), SEEN: torch.stack([everyone, entities.segment()])}
        for block in self.blocks:
            tokens, state = block(tokens, state, edges)
        return tokens, state
