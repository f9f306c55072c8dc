"""What federation sees of a site: it trains from given parameters and hands back an update; and what may go wrong.

Optimiser, worlds and random state live in the participant (an object, a Ray actor behind a proxy, a local service),
never in the Flower app, which may be started anew for every message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scalar = bool | int | float | str | bytes
"""What a round's configuration may hold: the scalars of a Flower ConfigRecord."""

Parameters = dict[str, NDArray[np.float32]]
"""Parameters or a difference of parameters by name, float32; the same names and shapes at every site."""


class SettingError(ValueError):
    """A federation that cannot work as it was set up; the text says which value and what to put instead."""


class UpdateRefusedError(ValueError):
    """An update that must not enter the mean: wrong names, shapes or types, not finite, or out of range."""


class FederationError(RuntimeError):
    """A round or an evaluation that could not be finished; parameters are as they were before it.

    Attributes:
        stage: what was asked of the sites when it failed.
        replied: number of sites that answered this stage.
        needed: number of sites that had to answer.
        failures: site -> reason, for every site that failed in this round so far.
    """

    def __init__(self, problem: str, stage: str, replied: int, needed: int, failures: Mapping[str, str]) -> None:
        self.stage = stage
        self.replied = replied
        self.needed = needed
        self.failures = dict(failures)
        reasons = "; ".join(f"{site}: {reason}" for site, reason in sorted(failures.items()))
        super().__init__(f"{problem} [{reasons}]. Parameters are unchanged: repair the named sites and run it again.")


@dataclass(frozen=True)
class Update:
    """What one site learned in a round.

    Attributes:
        delta: new minus received parameters, by name, float32, the shapes of the parameters.
        weight: how much this site counts in the mean (decisions, samples); positive and finite.
        metrics: figures to report, by name. They travel in the clear if they travel at all.
    """

    delta: Parameters
    weight: float
    metrics: dict[str, float] = field(default_factory=dict)


class Participant(Protocol):
    """A site as the federation knows it."""

    def train(self, parameters: Parameters, config: Mapping[str, Scalar]) -> Update:
        """Learn from the given parameters on the site's own data and return the change."""

    def evaluate(self, parameters: Parameters, config: Mapping[str, Scalar]) -> dict[str, float]:
        """Measure the given parameters on the site's own data, without learning."""


def check_update(update: Update, parameters: Mapping[str, NDArray[np.float32]]) -> None:
    """Refuse an update that does not fit the parameters it was made from.

    Raises:
        UpdateRefusedError: names differ, a shape or type differs, a value is not finite, or the weight is not positive.
    """
    missing, extra = parameters.keys() - update.delta.keys(), update.delta.keys() - parameters.keys()
    if missing or extra:
        raise UpdateRefusedError(
            f"the delta's names differ from the parameters': missing {sorted(missing)}, unknown {sorted(extra)}"
        )
    for name, wanted in parameters.items():
        found = update.delta[name]
        if found.shape != wanted.shape or found.dtype != np.float32:
            raise UpdateRefusedError(
                f"delta {name!r} is {found.dtype}{list(found.shape)}, the parameter is float32{list(wanted.shape)}"
            )
        if not np.isfinite(found).all():
            bad = int(found.size - np.isfinite(found).sum())
            raise UpdateRefusedError(f"delta {name!r} has {bad} values that are not finite; lower the learning rate")
    if not (np.isfinite(update.weight) and update.weight > 0):
        raise UpdateRefusedError(f"the weight is {update.weight}, it must be positive and finite")
