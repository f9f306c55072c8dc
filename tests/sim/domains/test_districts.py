"""Districts of one city as sites: each learns alone, all act in one world, and the plan is kept there."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from fedsched.envs.core import Observation
from fedsched.envs.intersections.exchange import Market
from fedsched.sim.domains.base import POLICY
from fedsched.sim.domains.intersections.shared import SharedCity
from fedsched.sim.domains.sharing import Actions
from fedsched.sim.operate import Operated, Operator
from fedsched.sim.scenario import Market as Settings
from fedsched.sim.scenario import Scenario, load_scenario
from fedsched.sim.site import Site
from fedsched.sim.stage import Shared, stage_of
from fedsched.sim.table import ALL_SITES, with_totals
from fedsched.sim.workers import Workers

Begin = Callable[[Scenario], Workers[Site]]
NAMES = ("a", "b", "c", "d")


def plain(**changes: Any) -> dict[str, Any]:
    """Four districts of four signals that are soon full."""
    city = {
        "domain": "intersections",
        "city": "generated",
        "generator": {"shape": "grid", "sizes": {"rows": 2, "columns": 2, "lanes": 1}},
        "traffic": {"vehicles_per_h": 4000.0, "duration": "3min"},
        "timing": "sumo_rl",
    }
    sites = {
        name: {"world": {**city, "district": {"number": n + 1, "of": 4}}, "copies": 2} for n, name in enumerate(NAMES)
    }
    return {
        "version": 1,
        "name": "districts",
        "sites": sites,
        "agents": {"encoder": {"kind": "pointwise", "width": 8}, "ppo": {"rollouts": 2}},
        "federation": {"rounds": 1, "local_updates": 1},
        "plan": {"epoch": "1min", "market": {"resource": "inflow", "pace": 0.9, "fill": 0.0}},
        "evaluation": {"windows": 2, "validation": 2},
        **changes,
    }


def operate(scenario: Scenario, workers: Workers[Site], actor: str, planned: bool = False) -> Operated:
    parameters = workers.map("initial", dict.fromkeys(NAMES, ())) if actor == POLICY else {}
    operator = Operator(stage_of(workers, scenario), scenario)
    actors = dict.fromkeys(NAMES, actor)
    return operator.operate(actors, parameters, "test", scenario.plan if planned else None, "test")


def test_policies_of_all_districts_drive_the_whole_city(at_work: Begin) -> None:
    scenario = Scenario.model_validate(plain())
    workers = at_work(scenario)
    found = operate(scenario, workers, POLICY)
    whole = found.figures[ALL_SITES]
    for name in ("completed", "inserted", "running", "never_inserted"):
        parts = np.sum([found.figures[site][name] for site in NAMES], axis=0)
        np.testing.assert_array_equal(parts, whole[name])
    lost = sum(found.figures[site]["resco_delay_s"] * found.figures[site]["trips"] for site in NAMES)
    np.testing.assert_allclose(lost, whole["resco_delay_s"] * whole["trips"], rtol=1e-6)
    assert (whole["completed"] > 20).all()
    assert whole["gridlock"].tolist() == [0.0, 0.0]
    again = operate(scenario, workers, POLICY)
    np.testing.assert_array_equal(again.figures[ALL_SITES]["resco_delay_s"], whole["resco_delay_s"])


def test_a_policy_sees_and_moves_only_its_own() -> None:
    """Each is told of its one signal, and its actions are that signal's."""
    scenario = Scenario.model_validate(plain())
    shapes: list[dict[str, tuple[int, ...]]] = []

    def decide(told: Mapping[str, Observation]) -> dict[str, Actions]:
        """District b always shows its first phase, the others their last."""
        shapes.append({site: tuple(one.kinds["signal"].own.shape) for site, one in told.items()})
        found: dict[str, Actions] = {}
        for site, one in told.items():
            mask = one.kinds["signal"].action_mask
            last = mask.shape[2] - 1 - mask.flip(2).int().argmax(2)
            found[site] = {"signal": mask.int().argmax(2) if site == "b" else last}
        return found

    operation = SharedCity(scenario).operate("test", 1, POLICY, decide, "own")
    operation.advance(60.0)
    assert shapes[0] == dict.fromkeys(NAMES, (1, 1, shapes[0]["a"][2]))
    phase = operation.world.control["target"][0]
    site = operation.world.spec.site
    assert site is not None
    assert [bool(phase[a] == 0) for a in range(4)] == [number == 1 for number in site.tolist()]


def test_a_plan_is_settled_kept_and_shown(at_work: Begin) -> None:
    scenario = Scenario.model_validate(plain(consensus={"faults": {"d": "silent"}}))
    workers = at_work(scenario)
    off, on = operate(scenario, workers, "greedy"), operate(scenario, workers, "greedy", planned=True)
    assert on.traffic.settlements == 2 * 2  # epochs that begin within three minutes, rows
    assert on.traffic.quantity > 0
    assert on.traffic.certificate.endswith("of 4 sites")
    assert on.total("inserted").sum() <= off.total("inserted").sum()
    assert (on.total("resco_delay_s") != off.total("resco_delay_s")).any()
    rows = [{"site": site, "actor": "greedy", **on.at(site)} for site in on.figures]
    shown = with_totals(rows, on.described)
    assert [row["site"] for row in shown] == [*NAMES, ALL_SITES]
    assert shown[-1]["trips"] == pytest.approx(float(on.total("trips").mean()))
    assert shown[0]["gridlock"] is None


def test_the_best_rule_is_one_for_the_city(at_work: Begin) -> None:
    scenario = Scenario.model_validate(plain())
    stage = stage_of(at_work(scenario), scenario)
    assert isinstance(stage, Shared)
    assert len(set(stage.best_rules().values())) == 1
    assert stage.horizon_s == 180.0


def test_settings_of_the_market_are_those_of_the_exchange() -> None:
    settings = Settings(resource="inflow")
    assert Market(settings.delay_value, settings.pace, settings.fill, settings.least) == Market()
    assert load_scenario("city").plan is not None


def changed(path: str, value: Any) -> dict[str, Any]:
    data = plain()
    *way, last = path.split(".")
    inner = data
    for key in way:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sites.c.world.timing", "resco", "differs from that of a; districts of a city differ in 'number' alone"),
        ("sites.c.world.district", {"number": 2, "of": 4}, "district 2 is site b already"),
        ("sites.c.world.district", {"number": 3, "of": 5}, "the districts are those of one division"),
        ("sites.c.world.district", {"number": 5, "of": 4}, "there are districts 1 to 4, got 5"),
        ("sites.c.world.district", None, "a is a district, so all sites are"),
        ("plan.market", {}, "districts trade the inflow of vehicles: write 'market: {resource: inflow}'"),
        ("plan.market", {"resource": "inflow", "wait_value": 3.0}, "belongs to 'resource: processor-hours'"),
        ("plan.links", {"default": {"latency": "3 s"}}, "belongs to data centres; vehicles come by road"),
    ],
)
def test_what_does_not_fit_together_is_told(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).*") as caught:
        Scenario.model_validate(changed(path, value))
    assert message in str(caught.value)
