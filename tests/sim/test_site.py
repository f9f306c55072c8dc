"""One site: what it learns, and that it operates the same in one go or in pieces."""

from collections.abc import Callable

import numpy as np
import pytest

from fedsched.envs.datacenter.reference import simulate_rule
from fedsched.sim.domains.base import POLICY
from fedsched.sim.domains.datacenter.operation import Outcome
from fedsched.sim.scenario import Scenario
from fedsched.sim.site import Site

HOURS = 3600.0


@pytest.fixture
def site(tiny: Callable[..., Scenario]) -> Site:
    return Site(tiny(), "north")


def run(site: Site, actor: str, *stops: float) -> Outcome:
    site.open(actor, "test", 2, site.initial() if actor == POLICY else None)
    for stop in stops:
        site.advance(stop)
    return site.outcome()


def assert_equal(a: Outcome, b: Outcome) -> None:
    for one, other in zip(a.records, b.records, strict=True):
        assert one.id.tolist() == other.id.tolist()
        assert one.wait_s.tolist() == other.wait_s.tolist()
    for name in ("energy_kwh", "carbon_kg", "cost", "utilization"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("actor", ["fcfs-easy", "wfp3", POLICY])
def test_pieces_of_a_period_are_the_period(actor: str, site: Site) -> None:
    whole = run(site, actor, 24 * HOURS)
    assert_equal(whole, run(site, actor, 3 * HOURS, 3 * HOURS, 7.3 * HOURS, 12 * HOURS, 24 * HOURS))
    assert whole.decisions.min() > 0
    assert (whole.sent.payload_bytes > 0) == (actor == POLICY)


def test_a_rule_operates_as_its_slow_twin(site: Site) -> None:
    outcome = run(site, "saf-easy", 24 * HOURS)
    for row, kept in enumerate(outcome.records):
        window = site.worlds.periods.window(site.worlds.period("test", row))
        plan = simulate_rule(window, site.worlds.site, "saf-easy", until_s=24 * HOURS)
        waits = np.where(np.isnan(plan.start_s), 24 * HOURS, plan.start_s) - window.jobs.submit_s
        assert kept.id.tolist() == window.jobs.id.tolist()
        assert kept.wait_s.tolist() == waits.tolist()
        assert kept.started.tolist() == (~np.isnan(plan.start_s)).tolist()
        end = np.minimum(plan.end_s, 12 * HOURS)
        busy = np.nansum(np.maximum(end - plan.start_s, 0.0) * window.jobs.processors)
        assert outcome.utilization[row] == pytest.approx(busy / (36 * 12 * HOURS), rel=1e-9)


def test_training_starts_from_what_it_is_given_and_returns_the_difference(site: Site) -> None:
    given = {name: values + np.float32(0.01) for name, values in site.initial().items()}
    kept = {name: values.copy() for name, values in given.items()}
    update = site.train(given, {"updates": 2})
    assert all(np.array_equal(given[name], kept[name]) for name in given)
    assert list(update.delta) == list(given)
    learned = site.trainer.parameters
    for name, delta in update.delta.items():
        assert delta.dtype == np.float32
        np.testing.assert_allclose(given[name] + delta, learned[name], atol=1e-6)
    assert max(float(np.abs(delta).max()) for delta in update.delta.values()) > 1e-4
    assert update.weight == 1.0
    assert update.metrics["decisions"] > 0


def test_a_site_goes_on_exactly_from_its_state(tiny: Callable[..., Scenario], site: Site) -> None:
    site.learn(1)
    other = Site(tiny(), "north")
    other.load(site.state())
    assert site.learn(1) == other.learn(1)
    assert all(np.array_equal(site.initial()[name], other.initial()[name]) for name in site.initial())
    assert all(np.array_equal(site.averaged()[name], other.averaged()[name]) for name in site.averaged())


def test_judging_changes_nothing_and_knows_the_rule(site: Site) -> None:
    before = site.initial()
    first = site.evaluate(before, {})
    assert first == site.evaluate(before, {})
    assert set(first) == {"slowdown_ratio", "wait_ratio", "score", "noise"}
    assert first["score"] == first["slowdown_ratio"], "without a bound on the wait the score is the slowdown"
    assert all(np.array_equal(before[name], site.initial()[name]) for name in before)


def test_a_site_that_operates_nothing_says_so(site: Site) -> None:
    with pytest.raises(RuntimeError, match="site north operates nothing yet"):
        site.advance(1.0)
