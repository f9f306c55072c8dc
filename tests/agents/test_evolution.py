from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import evaluate
from fedsched.agents.config import PolicyConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.evolution import Cma, FloatArray
from fedsched.agents.network import SoftRule
from fedsched.agents.policy import Policy
from fedsched.agents.population import linear_weights, play_population, set_linear_weights


def search(cma: Cma, cost: Callable[[FloatArray], FloatArray], generations: int) -> None:
    for _ in range(generations):
        candidates = cma.ask()
        cma.tell(candidates, cost(candidates))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_ill_conditioned_quadratic_is_solved(seed: int) -> None:
    """Axes of length 1 to 1000, turned: plain random search cannot, an adapted covariance can."""
    turn = np.linalg.qr(np.random.default_rng(9).normal(size=(8, 8)))[0]
    scale = np.logspace(0, 3, 8)
    cma = Cma(np.ones(8), 0.5, population=12, seed=seed)
    search(cma, lambda x: ((x @ turn * scale) ** 2).sum(1), 350)
    assert np.sum((cma.mean @ turn * scale) ** 2) < 1e-4  # from about 1e6


def test_a_candidate_of_a_population_plays_like_the_policy_with_its_weights(queue: Callable[..., Any]) -> None:
    population, single = queue(12, jobs=6, agents=2), queue(4, jobs=6, agents=2)
    policy = Policy(single.spec, PolicyConfig(messages=None), {"server": SoftRule(gates=("left",))})
    with torch.no_grad():
        policy.network("server").score.weight.zero_()
    candidates = np.random.default_rng(0).normal(size=(3, 6))
    instances, seeds = torch.arange(4), torch.arange(4)
    together = play_population(policy, candidates, population, instances, seeds)["wait"]
    for candidate, waits in zip(candidates, together, strict=True):
        set_linear_weights(policy, "server", candidate)
        np.testing.assert_allclose(linear_weights(policy, "server"), candidate, rtol=1e-6)
        np.testing.assert_allclose(evaluate(policy, single, instances, seeds)["wait"], waits, rtol=1e-6)


def test_a_candidate_of_several_kinds_plays_like_the_policy_with_its_weights(relay: Callable[..., Any]) -> None:
    population, single = relay(12), relay(4)
    policy = Policy(single.spec, PolicyConfig(messages=None), {"doer": SoftRule(gates=single.spec.kind("doer").own)})
    for kind in ("teller", "doer"):
        with torch.no_grad():
            policy.network(kind).score.weight.zero_()
    sizes = [linear_weights(policy, kind).shape[0] for kind in ("teller", "doer")]
    assert linear_weights(policy, "teller", "doer").shape == (sum(sizes),)
    candidates = np.random.default_rng(0).normal(size=(3, sum(sizes)))
    instances, seeds = torch.arange(4), torch.arange(4)
    together = play_population(policy, candidates, population, instances, seeds)["right"]
    assert len(together.mean(1).unique()) > 1
    for candidate, right in zip(candidates, together, strict=True):
        set_linear_weights(policy, ["teller", "doer"], candidate)
        np.testing.assert_allclose(linear_weights(policy, "doer"), candidate[sizes[0] :], rtol=1e-6)
        np.testing.assert_allclose(evaluate(policy, single, instances, seeds)["right"], right, rtol=1e-6)


def test_evolution_finds_shortest_job_first(queue: Callable[..., Any]) -> None:
    world = queue(8 * 16, jobs=5)
    policy = Policy(world.spec, PolicyConfig(messages=None), {"server": SoftRule({"size": 2.0})})
    cma = Cma(linear_weights(policy, "server"), 1.0, population=8, seed=0)
    zeros = torch.zeros(16, dtype=torch.int64)
    for generation in range(15):
        candidates = cma.ask()
        instances = torch.arange(16) + 16 * generation
        cma.tell(candidates, play_population(policy, candidates, world, instances, zeros)["wait"].mean(1).numpy())
    set_linear_weights(policy, "server", cma.mean)
    rows = torch.arange(world.batch) + 10**6
    assert float((evaluate(policy, world, rows, rows)["wait"] / world.optimum()).mean()) < 1.01


def test_what_a_population_cannot_play_is_named(queue: Callable[..., Any], relay: Callable[..., Any]) -> None:
    with pytest.raises(AgentError, match="population of at least 4"):
        Cma(np.zeros(2), 1.0, population=3, seed=0)
    world, pair = queue(7), relay(4)
    rows = torch.arange(4)
    with pytest.raises(AgentError, match="3 candidates cannot share 7 rows"):
        play_population(Policy(world.spec, PolicyConfig()), np.zeros((3, 3)), world, rows, rows)
    with pytest.raises(AgentError, match="1 linear weights; the policy has"):
        play_population(Policy(pair.spec, PolicyConfig()), np.zeros((2, 1)), pair, rows, rows)
