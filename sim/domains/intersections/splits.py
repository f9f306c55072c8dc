"""Which demands and which driver seeds train, validate and test.

Without variation, five demands and more are split; fewer serve all splits, with other random numbers. With variation,
those that train differ from the given ones, and only the given ones validate and test, so that a policy is judged on
what was asked for: on a map of RESCO, its own hour.
"""

import torch

from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.variation import Variation, varied_demand, with_demands
from fedsched.sim.domains.base import Split
from fedsched.sim.scenario import DemandVariation

SHARES = (0.6, 0.8)
"""Where the demands of a city end that train, and those that validate; the rest are for tests."""

ENOUGH = 5
"""Demands that can be split."""

_SEEDS: dict[Split, tuple[int, int]] = {
    "train": (1 << 30, 1 << 30),
    "validation": (1 << 29, 1 << 29),
    "test": (0, 1 << 29),
}
"""With variation: the first driver seed of a split and how many it has; SUMO takes them as `--seed`."""


def demands_of(split: Split, count: int, apart: int = 0) -> tuple[int, int]:
    """The first demand of a split and one past its last.

    Args:
        split: Which.
        count: How many demands there are.
        apart: The first so many validate and test, and the others train; 0: see SHARES.
    """
    if apart:
        return (apart, count) if split == "train" else (0, apart)
    if count < ENOUGH:
        return 0, count
    train, validation = (round(share * count) for share in SHARES)
    return {"train": (0, train), "validation": (train, validation), "test": (validation, count)}[split]


def seed_of(split: Split, drawn: torch.Tensor) -> torch.Tensor:
    """Driver seeds that no other split has, from numbers below 2^31."""
    first, count = _SEEDS[split]
    return first + drawn % count


def with_variation(given: Problem, settings: DemandVariation, demands: int, seed: int = 0) -> tuple[Problem, int]:
    """The problem whose training demands are varied.

    Args:
        given: The city with the given demands. Where they can be split, those that train are varied; where not, all
            are kept apart and varied ones follow them.
        settings: How; the scale holds for all demands.
        demands: How many varied ones follow.
        seed: Of the varied ones; those that are only scaled do not depend on it.

    Returns:
        The problem, and how many of its demands are kept apart (`demands_of`).
    """
    varied = Variation(settings.volume, settings.scale, settings.jitter, settings.incidents, settings.detours)
    scaled = Variation(volume=0.0, scale=settings.scale, jitter_s=0.0)
    count = len(given.demands)
    apart = 0 if count >= ENOUGH else count
    first, last = demands_of("train", count) if not apart else (0, 0)
    varies = [first <= n < last for n in range(count)]
    chosen = [varied_demand(given, *((varied, n, seed) if varies[n] else (scaled, n))) for n in range(count)]
    if apart:
        chosen += [varied_demand(given, varied, n, seed) for n in range(demands)]
    return with_demands(given, chosen), apart
