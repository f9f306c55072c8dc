"""What the server makes of the sites' updates: a mean, and a step along it.

The two halves are apart because secure aggregation hands the server the mean and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedsched.federation.participant import Parameters, SettingError, Update

Mean = dict[str, NDArray[np.float64]]
"""A weighted mean of deltas by name, float64 until it is added to the parameters."""


@dataclass(frozen=True)
class Aggregate:
    """What came of asking the sites: the mean, who is in it, their metrics, and who failed after being counted."""

    mean: Mean
    took_part: tuple[str, ...]
    metrics: dict[str, dict[str, float]]
    late: dict[str, str]


class Strategy(Protocol):
    """How updates become new parameters."""

    def mean(self, updates: Mapping[str, Update]) -> Mean:
        """Aggregate the updates (site -> update, not empty); must not depend on their order."""

    def step(self, parameters: Parameters, mean: Mean) -> Parameters:
        """Move the parameters along the mean; same names, shapes and float32."""


@dataclass(frozen=True)
class FedAvg:
    """Federated averaging: parameters + sum(weight * delta) / sum(weight), server learning rate 1.

    McMahan et al., Communication-efficient learning of deep networks from decentralized data, AISTATS 2017. Sites are
    added in the order of their names, so the result does not depend on who answered first.
    """

    def mean(self, updates: Mapping[str, Update]) -> Mean:
        """Weighted mean in float64."""
        ordered = [updates[site] for site in sorted(updates)]
        total = sum(update.weight for update in ordered)
        mean = {name: np.zeros(delta.shape) for name, delta in ordered[0].delta.items()}
        for update in ordered:
            for name, delta in update.delta.items():
                mean[name] += delta * np.float64(update.weight / total)
        return mean

    def step(self, parameters: Parameters, mean: Mean) -> Parameters:
        """Add the mean and round once to float32."""
        return {name: np.asarray(value + mean[name], dtype=np.float32) for name, value in parameters.items()}


STRATEGIES = {"fedavg": FedAvg}


def make_strategy(kind: str) -> Strategy:
    """The strategy that a scenario calls `kind`.

    Raises:
        SettingError: no strategy has this name.
    """
    if kind not in STRATEGIES:
        raise SettingError(f"federation.strategy.kind is {kind!r}; known kinds: {', '.join(sorted(STRATEGIES))}")
    return STRATEGIES[kind]()
