"""Evolution: covariance matrix adaptation, for the linear term of a policy (`fedsched.agents.population`).

CMA-ES as in Hansen 2016, "The CMA Evolution Strategy: A Tutorial", with its default constants. It gives gradient
learning a strong start and a baseline to beat.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedsched.agents.decisions import AgentError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Constants:
    """Default strategy parameters for a dimension and a population, named as in the tutorial."""

    weights: FloatArray
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    chi: float

    @classmethod
    def of(cls, dimension: int, population: int) -> "_Constants":
        n, mu = dimension, population // 2
        raw = np.log((population + 1) / 2) - np.log(np.arange(1, mu + 1))
        weights = raw / raw.sum()
        mu_eff = float(1 / (weights**2).sum())
        c_sigma = (mu_eff + 2) / (n + mu_eff + 5)
        c_1 = 2 / ((n + 1.3) ** 2 + mu_eff)
        return cls(
            weights=weights,
            mu_eff=mu_eff,
            c_sigma=c_sigma,
            d_sigma=1 + 2 * max(0.0, ((mu_eff - 1) / (n + 1)) ** 0.5 - 1) + c_sigma,
            c_c=(4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n),
            c_1=c_1,
            c_mu=min(1 - c_1, 2 * (mu_eff - 2 + 1 / mu_eff) / ((n + 2) ** 2 + mu_eff)),
            chi=n**0.5 * (1 - 1 / (4 * n) + 1 / (21 * n**2)),
        )


class Cma:
    """Covariance matrix adaptation: `ask` for candidates, `tell` their costs.

    Attributes:
        mean: float64 [n], the centre of the search, and its answer.
        sigma: Step size.
    """

    def __init__(self, mean: FloatArray, sigma: float, population: int, seed: int) -> None:
        """Starts at `mean` [n] with step size `sigma`; raises AgentError for a population under 4."""
        if population < 4:
            raise AgentError(f"an evolution needs a population of at least 4, got {population}")
        n = mean.shape[0]
        self.mean, self.sigma = mean.astype(np.float64), sigma
        self._population, self._rng = population, np.random.default_rng(seed)
        self._constants = _Constants.of(n, population)
        self._covariance = np.eye(n)
        self._path_sigma, self._path_c = np.zeros(n), np.zeros(n)
        self._generation = 0

    def ask(self) -> FloatArray:
        """Candidates, float64 [population, n]."""
        scale, axes = self._axes()
        noise = self._rng.standard_normal((self._population, self.mean.shape[0]))
        return np.asarray(self.mean + self.sigma * (noise * scale) @ axes.T)

    def tell(self, candidates: FloatArray, costs: FloatArray) -> None:
        """Moves the search towards the candidates [population, n] of least cost [population]."""
        k, n = self._constants, self.mean.shape[0]
        best = candidates[np.argsort(costs, kind="stable")[: len(k.weights)]]
        steps = (best - self.mean) / self.sigma
        step = k.weights @ steps
        scale, axes = self._axes()
        white = axes @ ((axes.T @ step) / scale)
        self._generation += 1
        self._path_sigma = (1 - k.c_sigma) * self._path_sigma + (k.c_sigma * (2 - k.c_sigma) * k.mu_eff) ** 0.5 * white
        length = float(np.linalg.norm(self._path_sigma))
        expected = (1 - (1 - k.c_sigma) ** (2 * self._generation)) ** 0.5 * k.chi
        moving = float(length / expected < 1.4 + 2 / (n + 1))
        self._path_c = (1 - k.c_c) * self._path_c + moving * (k.c_c * (2 - k.c_c) * k.mu_eff) ** 0.5 * step
        kept = 1 - k.c_1 - k.c_mu + (1 - moving) * k.c_1 * k.c_c * (2 - k.c_c)
        rank_mu = (steps * k.weights[:, None]).T @ steps
        self._covariance = kept * self._covariance + k.c_1 * np.outer(self._path_c, self._path_c) + k.c_mu * rank_mu
        self.mean = self.mean + self.sigma * step
        self.sigma *= float(np.exp(k.c_sigma / k.d_sigma * (length / k.chi - 1)))

    def _axes(self) -> tuple[FloatArray, FloatArray]:
        values, axes = np.linalg.eigh((self._covariance + self._covariance.T) / 2)
        return np.sqrt(np.maximum(values, 1e-20)), axes
