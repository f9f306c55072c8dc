"""The state of an agent that decides: what it knows as a whole, before it looks at single rows."""

import itertools

import torch
from torch import nn

from fedsched.agents.layers import Dense, Owners


class StateEncoder(nn.Module):
    """s = tanh(W_k ... tanh(W_1 inputs)); orthogonal weights, gain sqrt 2 (Yu et al. 2022); no layer: s = inputs.

    Attributes:
        size: Numbers in a state.
    """

    def __init__(self, inputs: int, width: int, layers: int, copies: int = 0) -> None:
        """Sizes: `inputs` features, then `layers` layers of `width` units each; `copies` as in `Dense`."""
        super().__init__()
        sizes = [inputs, *[width] * layers]
        self.layers = nn.ModuleList(
            Dense(a, b, copies).start(lambda weight: nn.init.orthogonal_(weight, 2**0.5))
            for a, b in itertools.pairwise(sizes)
        )
        self.size = sizes[-1]

    def forward(self, inputs: torch.Tensor, owners: Owners | None = None) -> torch.Tensor:
        """States, float32 [D, size], of inputs [D, inputs], each by its owner's layers."""
        state = inputs
        for layer in self.layers:
            state = torch.tanh(layer(state, owners))
        return state
