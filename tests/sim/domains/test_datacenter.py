"""From a scenario to worlds: splits, shared clocks, the best rule, and what cannot be built."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsched.envs.datacenter.reference import simulate_rule
from fedsched.envs.datacenter.splits import locate
from fedsched.envs.datacenter.world import REWARD_PARTS
from fedsched.sim.domains.datacenter.worlds import EASY_RULES, DatacenterWorlds, plays_windows, soft_rule
from fedsched.sim.errors import UserError, WorldSetupError
from fedsched.sim.scenario import Scenario


@pytest.fixture
def north(tiny: Callable[..., Scenario]) -> DatacenterWorlds:
    return DatacenterWorlds(tiny(), "north")


def test_draws_come_from_their_split_and_from_the_seed_alone(
    tiny: Callable[..., Scenario], north: DatacenterWorlds
) -> None:
    for split in ("train", "validation"):
        drawn = north.draw(split, 20, 3).instances.tolist()
        assert {locate(k)[0] for k in drawn} == {split}
        assert len(set(drawn)) == 20
        assert drawn == DatacenterWorlds(tiny(), "north").draw(split, 20, 3).instances.tolist()
        assert drawn != north.draw(split, 20, 4).instances.tolist()
        assert drawn != DatacenterWorlds(tiny(), "east").draw(split, 20, 3).instances.tolist()
        assert drawn != DatacenterWorlds(tiny(seed=1), "north").draw(split, 20, 3).instances.tolist()
    assert north.draw("test", 3).instances.tolist() == [0, 1, 2]


def test_a_period_begins_at_the_same_hour_at_every_site(tiny: Callable[..., Scenario]) -> None:
    worlds = [DatacenterWorlds(tiny(), name) for name in ("north", "east", "south")]
    hours = set()
    for k in range(6):
        windows = [one.periods.window(one.period("test", k)) for one in worlds]
        assert len({window.start_hour for window in windows}) == 1
        assert len({tuple(window.jobs.submit_s) for window in windows}) == 3
        hours.add(windows[0].start_hour)
    assert len(hours) > 3


@pytest.mark.parametrize("trace", ["generated", "hpc2n"])
def test_a_load_is_that_of_training_too(trace: str, tiny: Callable[..., Scenario]) -> None:
    log = {} if trace == "generated" else {"trace": trace, "generator": None, "too_wide": "narrow"}
    spans = []
    for load in (0.4, 0.8):
        worlds = DatacenterWorlds(tiny(sites={"north": {"world": {**log, "load": load}}}), "north")
        [instance] = worlds.draw("train", 1).instances.tolist()
        spans.append(float(worlds.training.window(instance).jobs.submit_s[-1]))
    assert spans[0] > 1.5 * spans[1]


def test_rules_are_what_the_slow_twin_says(north: DatacenterWorlds) -> None:
    instances = north.draw("train", 3).instances
    names = ("fcfs-easy", "f2-easy")
    totals = north.rules(instances, names)
    for row, instance in enumerate(instances.tolist()):
        window = north.training.window(instance)
        for column, name in enumerate(names):
            plan = simulate_rule(window, north.site, name)
            waits = plan.wait_s()
            assert float(totals.bounded_slowdown[row, column]) == pytest.approx(
                plan.bounded_slowdown().mean(), rel=1e-9
            )
            assert float(totals.wait_s[row, column]) == pytest.approx(waits.mean(), rel=1e-9, abs=1e-9)
            assert float(totals.costs[row, column, REWARD_PARTS.index("wait")]) == pytest.approx(
                waits.sum() / 3600.0, rel=1e-9, abs=1e-9
            )


def test_the_best_rule_is_best_on_the_validation_windows(tiny: Callable[..., Scenario]) -> None:
    crowded = {"north": {"world": {"window": {"jobs": 200}}}}
    north = DatacenterWorlds(tiny(sites=crowded, evaluation={"validation": 6}), "north")
    instances, totals = north.validation
    assert len(instances) == 6
    means = dict(zip(EASY_RULES, totals.bounded_slowdown.mean(0).tolist(), strict=True))
    assert means[north.best_rule] == min(means.values()) < max(means.values())


def test_windows_are_operated_where_nobody_trades(tiny: Callable[..., Scenario]) -> None:
    assert not plays_windows(tiny())
    assert plays_windows(tiny(plan=None))
    alone = DatacenterWorlds(tiny(plan=None), "north")
    assert alone.periods is alone.training
    assert len(alone.periods.window(alone.period("test", 0)).jobs) == 60


def test_every_start_is_a_rule_of_known_features() -> None:
    assert soft_rule("none")["cluster"].weights == {}
    for start in ("none", "saf", "wfp3", "fcfs", "f2"):
        [(kind, rule)] = soft_rule(start).items()
        assert kind == "cluster"
        assert rule.gates == ("stage",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trace": "lublin-2", "generator": None}, "log 'lublin-2' is not shipped: get lublin_256_new2.swf.gz"),
        ({"generator": {"processors": 32}}, "generator.processors: 32 make jobs that no cluster holds"),
        (
            {"trace": "hpc2n", "generator": None, "jobs": [0, 70_000]},
            "trace: the log hpc2n ends at job 60000, 'jobs' asks for 70000",
        ),
    ],
)
def test_what_cannot_be_built_is_named_with_its_site(
    changes: dict[str, Any], message: str, tiny: Callable[..., Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDSCHED_DATA", raising=False)
    scenario = tiny(sites={"north": {"world": changes}})
    with pytest.raises(WorldSetupError, match=r"^sites\.north\.world\.(trace|generator): ") as caught:
        DatacenterWorlds(scenario, "north")
    assert message in str(caught.value)
    assert isinstance(caught.value, UserError)


def test_a_broken_series_is_named_with_file_and_line(tiny: Callable[..., Scenario], tmp_path: Path) -> None:
    (tmp_path / "carbon.csv").write_text("g/kWh\n300\nmuch\n")
    scenario = tiny(sites={"north": {"world": {"carbon": str(tmp_path / "carbon.csv")}}})
    with pytest.raises(WorldSetupError, match=r"sites\.north\.world\.carbon: .*carbon\.csv:3: 'much' is not a number"):
        DatacenterWorlds(scenario, "north")
