"""Scripted participants and the float64 mean that rounds are measured against."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module

import numpy as np
import pytest
from numpy.typing import NDArray

from fedsched.federation import Update
from fedsched.federation.participant import Parameters, Scalar

with warnings.catch_warnings():
    # typer, which Flower imports, still uses names that click has deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    import_module("flwr.serverapp")

SHAPES: dict[str, tuple[int, ...]] = {"encoder.weight": (16, 9), "actor.bias": (7,), "log_std": (), "empty": (0, 3)}


@dataclass
class Scripted:
    """Answers every request with the same update, or raises."""

    update: Update
    failure: Exception | None = None
    seen: list[tuple[Parameters, Mapping[str, Scalar]]] = field(default_factory=list)

    def train(self, parameters: Parameters, config: Mapping[str, Scalar]) -> Update:
        self.seen.append((parameters, config))
        if self.failure is not None:
            raise self.failure
        return self.update

    def evaluate(self, parameters: Parameters, config: Mapping[str, Scalar]) -> dict[str, float]:
        self.seen.append((parameters, config))
        if self.failure is not None:
            raise self.failure
        return {"return": float(sum(value.sum() for value in parameters.values())), "weight": self.update.weight}


Sites = dict[str, Scripted]


@pytest.fixture
def parameters() -> Parameters:
    draw = np.random.default_rng(7)
    return {name: np.asarray(draw.normal(size=shape), dtype=np.float32) for name, shape in SHAPES.items()}


@pytest.fixture
def make_sites() -> Callable[[int], Sites]:
    """n sites b0, b1, ... with weights 50, 87, 124, ... and deltas from N(0, 0.05)."""

    def make(count: int) -> Sites:
        draw = np.random.default_rng(count)
        sites = {}
        for k in range(count):
            delta = {n: np.asarray(draw.normal(0, 0.05, shape), dtype=np.float32) for n, shape in SHAPES.items()}
            sites[f"b{k}"] = Scripted(Update(delta, 50.0 + 37.0 * k, {"loss": float(k)}))
        return sites

    return make


@pytest.fixture
def weighted_mean() -> Callable[..., dict[str, NDArray[np.float64]]]:
    """The definition, in float64: sum of weight times delta over the sum of weights."""

    def mean(sites: Sites, *members: str) -> dict[str, NDArray[np.float64]]:
        updates = [sites[site].update for site in members or tuple(sites)]
        total = sum(update.weight for update in updates)
        return {
            name: sum((u.weight * u.delta[name].astype(np.float64) for u in updates), np.zeros(shape)) / total
            for name, shape in SHAPES.items()
        }

    return mean
