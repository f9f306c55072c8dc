"""What an agent remembers: a gated recurrent unit, from one of its decisions to the next inside an episode."""

from collections.abc import Mapping

import torch
from torch import nn

from fedsched.agents.layers import Dense, Owners

Memories = Mapping[str, torch.Tensor]
"""What all agents of all worlds remember, float32 [B, A, H] by kind."""


class Memory(nn.Module):
    """m' = (1 - z) n + z m of a memory m and of e = tanh(We inputs + be) (GRU, Cho et al. 2014, in PyTorch's form).

    r = sigmoid(Wr e + Ur m);  z = sigmoid(Wz e + Uz m);  n = tanh(Wn e + r (Un m)), biases on both sides. An episode
    starts with m = 0. Weights are orthogonal, as in Yu et al. 2022.

    Attributes:
        size: Numbers in a memory H.
    """

    def __init__(self, inputs: int, size: int, copies: int = 0) -> None:
        """Sizes; `copies` as in `Dense`."""
        super().__init__()
        self.size = size
        self.embed = Dense(inputs, size, copies).start(lambda weight: nn.init.orthogonal_(weight, 2**0.5))
        self.new = Dense(size, 3 * size, copies).start(_orthogonal_gates)
        self.old = Dense(size, 3 * size, copies).start(_orthogonal_gates)

    def forward(self, inputs: torch.Tensor, memory: torch.Tensor, owners: Owners | None = None) -> torch.Tensor:
        """Memories [D, H] after decisions with `inputs` [D, inputs], given those before, `memory` [D, H]."""
        embedded = torch.tanh(self.embed(inputs, owners))
        reset, keep, fresh = self.new(embedded, owners).chunk(3, 1)
        reset_old, keep_old, fresh_old = self.old(memory, owners).chunk(3, 1)
        gate = torch.sigmoid(keep + keep_old)
        proposed = torch.tanh(fresh + torch.sigmoid(reset + reset_old) * fresh_old)
        return torch.lerp(proposed, memory, gate)


def _orthogonal_gates(weight: torch.Tensor) -> None:
    for gate in weight.chunk(3):
        nn.init.orthogonal_(gate)
