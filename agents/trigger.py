"""When an agent sends: it has something new to say, the newer the less uncertain its listeners are.

An agent sends if what it would say is far enough from what it last said (Euclidean distance, as in TMC, Zhang et al.
2020), or if it has been silent for too long or never spoke. Where no listener is uncertain, it must be `PATIENCE` times
as far. Uncertain is who would be so by what it heard before (after VBC, Zhang et al. 2019); when it decides it says so
with one bit to those whom it hears. All this is known before anything is sent.
"""

from collections.abc import Mapping

import torch
from torch import nn

from fedsched.agents.config import Measure, TriggerConfig
from fedsched.agents.distribution import Distribution, RaggedCategorical
from fedsched.agents.segments import segment_argmax, segment_max

# how much more news is needed where nobody who listens is uncertain
PATIENCE = 2.0


class Trigger(nn.Module):
    """The rule and its thresholds.

    Attributes:
        config: Aim, measure and time-out.
        threshold: float32 [2], from which uncertainty and from which distance on. A parameter that no gradient moves:
            it travels with the others, is averaged over sites and stored with the policy. At zero, where it starts,
            everything is sent.
    """

    def __init__(self, config: TriggerConfig) -> None:
        """A trigger that is not calibrated yet."""
        super().__init__()
        self.config = config
        self.threshold = nn.Parameter(torch.zeros(2), requires_grad=False)

    def forward(
        self, uncertainty: torch.Tensor, distance: torch.Tensor, silent: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        """Who sends to whom, bool [D, L].

        Args:
            uncertainty: float32 [D, L], in [0, 1], of the listener that is most uncertain.
            distance: float32 [D, L], from the message it would send to the last it sent there.
            silent: int64 [D, L], decisions since.
            known: bool [D, L], whether it has sent in this episode.
        """
        return fires(self.threshold, self.config.timeout, uncertainty, distance, silent, known)


def fires(
    threshold: torch.Tensor,
    timeout: int,
    uncertainty: torch.Tensor,
    distance: torch.Tensor,
    silent: torch.Tensor,
    known: torch.Tensor,
) -> torch.Tensor:
    """The rule, bool [..., D], for thresholds [..., 2] whose axes before the last broadcast with [..., D]."""
    certain = uncertainty < threshold[..., 0, None]
    needed = threshold[..., 1, None] * (1 + (PATIENCE - 1) * certain)
    return (distance >= needed) | (silent >= timeout) | ~known


def uncertainty(distribution: Distribution, measure: Measure) -> torch.Tensor:
    """How unsure each decision is, float32 [D] in [0, 1]; 0 with a single action, 1 for vectors, which have no scale.

    Entropy over its maximum ln n of n actions; or one minus the gap between the two likeliest.
    """
    if not isinstance(distribution, RaggedCategorical):
        return torch.ones_like(distribution.entropy())
    if measure == "entropy":
        most = distribution.pointers.diff().clamp(min=2).log()
        return (distribution.entropy() / most).clamp(0, 1)
    count, segment, probability = distribution.decisions, distribution.segment, distribution.log_probs.exp()
    likeliest = segment_argmax(probability, segment, count).index_select(0, segment)
    others = probability.masked_fill(torch.arange(likeliest.shape[0], device=segment.device) == likeliest, 0.0)
    return 1 - (segment_max(probability, segment, count) - segment_max(others, segment, count))


def uncertainties(distributions: Mapping[str, Distribution], measure: Measure) -> torch.Tensor:
    """`uncertainty` of all kinds, one after another, [D]."""
    return torch.cat([uncertainty(part, measure) for part in distributions.values()])
