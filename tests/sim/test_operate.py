"""Operating: independent without a plan; with one, whatever moves is settled, counted at home, and never lost."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fedsched.envs.datacenter.exchange import Records
from fedsched.sim.domains.base import POLICY
from fedsched.sim.domains.datacenter.figures import FIGURES
from fedsched.sim.domains.datacenter.operation import Outcome, figures_at_home
from fedsched.sim.operate import Operated, Operator
from fedsched.sim.scenario import Scenario
from fedsched.sim.site import Site
from fedsched.sim.stage import Apart
from fedsched.sim.workers import Workers

if TYPE_CHECKING:
    from fedsched.envs.core import Delivery

Begin = Callable[[Scenario], Workers[Site]]
ROWS, EPOCHS = 2, 7


def operate(scenario: Scenario, workers: Workers[Site], actor: str, with_plan: bool = False) -> Operated:
    actors = dict.fromkeys(scenario.sites, actor)
    parameters = workers.map("initial", dict.fromkeys(scenario.sites, ())) if actor == POLICY else {}
    plan = scenario.plan if with_plan else None
    return Operator(Apart(workers, scenario), scenario).operate(actors, parameters, "test", plan, "test")


def assert_equal(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> None:
    assert set(a) == set(FIGURES.names)
    for name in FIGURES.names:
        np.testing.assert_array_equal(a[name], b[name], name)


@pytest.mark.parametrize("actor", ["saf-easy", POLICY])
def test_without_a_plan_a_site_does_as_it_would_alone(
    actor: str, tiny: Callable[..., Scenario], at_work: Begin
) -> None:
    # without a plan, windows counted in jobs would be operated as the published protocols do
    by_time = {name: {"world": {"window": {"jobs": None, "duration": "6h"}}} for name in tiny().sites}
    together = tiny(sites=by_time)
    found = operate(together, at_work(together), actor)
    for site in together.sites:
        alone = tiny(site, sites=by_time)
        assert_equal(operate(alone, at_work(alone), actor).figures[site], found.figures[site])
    assert found.traffic.settlements == found.traffic.moved == 0


def test_sites_that_bid_nothing_do_as_without_a_plan(
    tiny: Callable[..., Scenario], at_work: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops at epoch boundaries change nothing but the clock."""
    scenario = tiny()
    workers = at_work(scenario)
    known = operate(scenario, workers, POLICY)
    monkeypatch.setattr(Site, "lots", lambda _site, _window: [[] for _ in range(ROWS)])
    idle = operate(scenario, workers, POLICY, with_plan=True)
    assert (idle.traffic.settlements, idle.traffic.transfers) == (ROWS * EPOCHS, 0)
    for site in scenario.sites:
        for name in ("bounded_slowdown", "wait_s", "p99_wait_s", "jobs", "unfinished"):
            np.testing.assert_array_equal(idle.figures[site][name], known.figures[site][name], name)
        for name in ("energy_kwh", "carbon_kg", "cost", "utilization"):
            np.testing.assert_allclose(idle.figures[site][name], known.figures[site][name], rtol=1e-9)


class Watching:
    """Notes what sites hand over and accept."""

    def __init__(self, workers: Workers[Site]) -> None:
        self._workers = workers
        self.given: list[tuple[str, int, list[Delivery], dict[str, Any]]] = []
        self.taken: list[tuple[str, int, str, Any]] = []
        self.advanced: list[float] = []

    def map(self, method: str, arguments: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
        results = self._workers.map(method, arguments)
        if method == "advance":
            self.advanced.append(next(iter(arguments.values()))[0])
        if method == "give":
            for site, (wanted,) in arguments.items():
                self.given += [(site, row, wanted[row], results[site].get(row, {})) for row in wanted]
        if method == "take":
            for site, (cargos,) in arguments.items():
                self.taken += [(site, row, home, c) for row, by in cargos.items() for home, c in by.items()]
        return results


def test_a_plan_is_carried_out_within_what_was_settled(tiny: Callable[..., Scenario], at_work: Begin) -> None:
    scenario = tiny()
    watching: Any = Watching(at_work(scenario))
    found = operate(scenario, watching, "fcfs-easy", with_plan=True)
    assert watching.advanced == [3600.0 * 3 * k for k in range(1, 9)]
    moved = 0
    for _, _, wanted, cargos in watching.given:
        for peer, cargo in cargos.items():
            settled = [delivery for delivery in wanted if delivery.peer == peer]
            area = float((cargo.jobs.estimate_s.clip(1.0) * cargo.jobs.processors).sum())
            assert area <= 3600.0 * sum(delivery.quantity for delivery in settled)
            bounds = [dict(delivery.limits) for delivery in settled]
            assert cargo.jobs.processors.max() <= max(bound["width"] for bound in bounds)
            assert cargo.jobs.estimate_s.max() <= max(bound["estimate_s"] for bound in bounds)
            moved += len(cargo.jobs)
    assert moved == found.traffic.moved > 0
    handed = {(giver, row, peer): cargo for giver, row, _, cargos in watching.given for peer, cargo in cargos.items()}
    assert {(home, row, site) for site, row, home, _ in watching.taken} == set(handed)
    assert sum(float(cargo.data_mb.sum()) for *_, cargo in watching.taken) == pytest.approx(found.traffic.data_mb)


def test_a_job_counts_at_home_wherever_it_ran(tiny: Callable[..., Scenario], at_work: Begin) -> None:
    scenario = tiny()
    workers = at_work(scenario)
    apart, traded = (operate(scenario, workers, "fcfs-easy", with_plan=on) for on in (False, True))
    outcomes = workers.map("outcome", dict.fromkeys(scenario.sites, ()))
    foreign = sum(home != "" for outcome in outcomes.values() for kept in outcome.records for home in kept.home)
    assert foreign == traded.traffic.moved > 0
    for site in scenario.sites:
        np.testing.assert_array_equal(apart.figures[site]["jobs"], traded.figures[site]["jobs"])
    assert traded.total("wait_s").shape == (ROWS,)
    # energy goes where the work goes
    assert (apart.figures["south"]["energy_kwh"] < traded.figures["south"]["energy_kwh"]).any()


def kept(*jobs: tuple[str, float, float, bool]) -> Records:
    home, wait, run, started = zip(*jobs, strict=True)
    count = len(jobs)
    ones = np.ones(count, dtype=np.int64)
    return Records(list(home), np.arange(count), np.array(wait), np.array(run), ones, np.array(started))


def outcome(records: Records, energy: float) -> Outcome:
    def one(value: float) -> np.ndarray:
        return np.array([value])

    return Outcome([records], one(energy), one(0.0), one(0.0), one(0.5), one(3.0), 0)


def test_figures_at_home_worked_out_by_hand() -> None:
    outcomes = {
        "a": outcome(kept(("", 90.0, 10.0, True), ("b", 20.0, 5.0, True)), 1.0),
        "b": outcome(kept(("", 0.0, 100.0, True), ("a", 40.0, 40.0, False)), 2.0),
    }
    found = figures_at_home(outcomes)
    assert found["a"]["wait_s"].tolist() == [(90 + 40) / 2]
    assert found["a"]["bounded_slowdown"].tolist() == [(10.0 + 2.0) / 2]
    assert (found["a"]["jobs"][0], found["a"]["unfinished"][0], found["a"]["energy_kwh"][0]) == (2, 1, 1.0)
    assert found["b"]["wait_s"].tolist() == [10.0]
    assert found["b"]["bounded_slowdown"].tolist() == [(1.0 + 2.5) / 2]
    assert (found["b"]["jobs"][0], found["b"]["unfinished"][0], found["b"]["energy_kwh"][0]) == (2, 0, 2.0)
    both = Operated({"a": "saf-easy", "b": "policy"}, found, FIGURES)
    assert both.mean("a", "wait_s") == 65.0
    assert both.total("energy_kwh").tolist() == [3.0]


def test_a_period_without_a_figure_has_no_weight_in_the_mean() -> None:
    waits = {"wait_s": np.array([10.0, np.nan, 40.0]), "jobs": np.array([1.0, 7.0, 2.0])}
    found = Operated({}, {"a": waits, "b": {**waits, "wait_s": np.full(3, np.nan)}}, FIGURES)
    assert found.mean("a", "wait_s") == 30.0
    assert found.mean("b", "wait_s") is None


@pytest.mark.parametrize("fault", ["silent", "equivocating", "lying"])
def test_a_faulty_replica_does_not_stop_the_trade(fault: str, tiny: Callable[..., Scenario], at_work: Begin) -> None:
    scenario = tiny(consensus={"faults": {"west": fault}}, evaluation={"windows": 1})
    found = operate(scenario, at_work(scenario), "fcfs-easy", with_plan=True)
    assert found.traffic.settlements == EPOCHS
    assert found.traffic.moved > 0
    assert found.traffic.certificate.endswith("of 4 sites")
    assert all(np.isfinite(values).all() for by_name in found.figures.values() for values in by_name.values())
