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
from fedsched.agents.segments import segment_argmax, segment_max, segment_sum

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
        """Who sends, bool [D].

        Args:
            uncertainty: float32 [D], in [0, 1], of the listener that is most uncertain.
            distance: float32 [D], from the message it would send to the last it sent.
            silent: int64 [D], decisions since.
            known: bool [D], whether it has sent in this episode.
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
    """How unsure each decision is, float32 [D] in [0, 1]; 0 with a single action.

    Entropy over its maximum ln n, n actions being legal; or one minus the gap between the two likeliest.
    """
    if not isinstance(distribution, RaggedCategorical):
        return distribution.entropy().detach() * 0 + 1
    count, segment = distribution.decisions, distribution.segment
    probability = distribution.log_probs.exp()
    if measure == "entropy":
        legal = segment_sum((distribution.log_probs > -1e8).to(torch.float32), segment, count)
        return (distribution.entropy() / legal.clamp(min=2).log()).clamp(0, 1)
    top = segment_max(probability, segment, count).clamp(min=0)
    first = segment_argmax(probability, segment, count)
    rest = probability.index_fill(0, first[first < probability.shape[0]], 0.0)
    return 1 - (top - segment_max(rest, segment, count).clamp(min=0))


def uncertainties(distributions: Mapping[str, Distribution], measure: Measure) -> torch.Tensor:
    """`uncertainty` of all kinds, one after another, [D]."""
    return torch.cat([uncertainty(part, measure) for part in distributions.values()])
