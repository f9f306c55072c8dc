"""Vector actions: a Gaussian head, and what becomes of its samples in the world.

The head knows no units: x = 0 is the middle of the bounds of an action and 1 half their distance.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fedsched.agents.layers import Dense, Owners, own_of

LOG_STD_START = math.log(0.5)
"""Exploration starts with a deviation of a quarter of the range: wide, and few samples are cut at the bounds."""

MEAN_GAIN = 0.01
"""The means start near the middle whatever is observed, as Andrychowicz et al. 2021 advise."""

Bounds = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
Scale = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class DiagonalGaussian:
    """D Gaussian distributions over vectors of K independent dimensions.

    Attributes:
        mean: float32 [D, K].
        log_std: float32 [D, K].
    """

    def __init__(self, mean: torch.Tensor, log_std: torch.Tensor) -> None:
        """Both [D, K]."""
        self.mean, self.log_std = mean, log_std

    @property
    def decisions(self) -> int:
        """The number of decisions D."""
        return self.mean.shape[0]

    def sample(self, generator: torch.Generator, greedy: torch.Tensor | None = None) -> torch.Tensor:
        """One vector of every decision, float32 [D, K].

        Args:
            generator: Of the noise.
            greedy: bool [D], decisions that take their mean instead; the noise drawn is the same.
        """
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        if greedy is not None:
            noise = noise.masked_fill(greedy[:, None], 0.0)
        return self.mean.detach() + self.log_std.detach().exp() * noise

    def mode(self) -> torch.Tensor:
        """The mean of every decision, float32 [D, K]."""
        return self.mean.detach()

    def log_prob(self, choice: torch.Tensor) -> torch.Tensor:
        """Logarithm of the density [D] at `choice` [D, K]."""
        standard = (choice - self.mean) * (-self.log_std).exp()
        return -(standard.square() / 2 + self.log_std + math.log(2 * math.pi) / 2).sum(1)

    def entropy(self) -> torch.Tensor:
        """Differential entropy of every decision in nats, [D]; negative for narrow distributions."""
        return (self.log_std + (1 + math.log(2 * math.pi)) / 2).sum(1)

    def total(self) -> torch.Tensor:
        """The sum of all means and log standard deviations, []."""
        return self.mean.sum() + self.log_std.sum()


class GaussianHead(nn.Module):
    """Means from what an agent knows; log standard deviations are parameters that depend on nothing."""

    def __init__(self, inputs: int, dimensions: int, copies: int = 0) -> None:
        """Sizes; `copies` as in `Dense`."""
        super().__init__()
        self.mean = Dense(inputs, dimensions, copies).start(lambda weight: nn.init.orthogonal_(weight, MEAN_GAIN))
        self.log_std = nn.Parameter(torch.full((*((copies,) if copies else ()), dimensions), LOG_STD_START))

    def forward(self, inputs: torch.Tensor, owners: Owners | None = None) -> DiagonalGaussian:
        """Distributions of D decisions of `inputs` [D, inputs]."""
        return DiagonalGaussian(self.mean(inputs, owners), own_of(self.log_std, owners, inputs.shape[0]))


def within(sample: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    """Actions for the world, float32 [..., K], of samples [..., K].

    middle + half range * x, cut at the bounds; x itself, cut at the other bound, where one of them is infinite. PPO
    learns from the density of x before the cut, as CleanRL and Stable-Baselines3 do: the action after it has point
    masses at the bounds, and a tanh in place of the cut would need a corrected density and has no closed entropy.
    """
    return scaled(sample, scale_of(bounds, sample.device))


def scaled(sample: torch.Tensor, scale: Scale) -> torch.Tensor:
    """The same, by the `scale_of` bounds."""
    middle, half, low, high = scale
    return torch.minimum(torch.maximum(middle + half * sample, low), high)


def sample_of(action: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    """The sample [..., K] that becomes an action [..., K] inside the bounds, see `within`."""
    middle, half, _, _ = scale_of(bounds, action.device)
    return (action - middle) / half


def scale_of(bounds: Bounds, device: torch.device) -> Scale:
    """Where x = 0 lies, how far 1 is from there, and the bounds, each [K]."""
    low, high = (torch.from_numpy(np.ascontiguousarray(bound, dtype=np.float32)).to(device) for bound in bounds)
    finite = low.isfinite() & high.isfinite()
    # a range of no width has one action, whatever x is
    half = torch.where(finite & (high > low), (high - low) / 2, 1.0)
    return torch.where(finite, (low + high) / 2, 0.0), half, low, high
