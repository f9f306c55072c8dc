"""The state of an agent that decides: what it knows as a whole, before it looks at single rows."""

import itertools

import torch
from torch import nn


class StateEncoder(nn.Module):
    """s = tanh(W_k ... tanh(W_1 inputs)); orthogonal weights, gain sqrt 2 (Yu et al. 2022); no layer: s = inputs.

    Attributes:
        size: Numbers in a state.
    """

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        """Sizes: `inputs` features, then `layers` layers of `width` units each."""
        super().__init__()
        sizes = [inputs, *[width] * layers]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.orthogonal_(layer.weight, 2**0.5)
            nn.init.zeros_(layer.bias)
        self.size = sizes[-1]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """States, float32 [D, size], of inputs [D, inputs]."""
        state = inputs
        for layer in self.layers:
            state = torch.tanh(layer(state))
        return state
