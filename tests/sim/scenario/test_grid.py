"""Grids and seeds: one scenario for each combination."""

import pytest

from fedsched.sim.errors import UserError
from fedsched.sim.scenario import Point, expand, load_scenario


def test_grids_and_seeds_make_all_combinations() -> None:
    scenario = load_scenario("datacenter_protocol")
    made = expand(scenario, ["agents.ppo.epochs=2,4", "evaluation.against=[fcfs],[saf-easy]"], "0-1,5")
    assert [(s.agents.ppo.epochs, s.evaluation.against, s.seed) for s in (point.scenario for point in made)] == [
        (epochs, rules, seed) for epochs in (2, 4) for rules in (("fcfs",), ("saf-easy",)) for seed in (0, 1, 5)
    ]
    assert expand(scenario) == [Point(scenario)]


def test_points_are_told_apart_by_their_values() -> None:
    made = expand(load_scenario("datacenter_protocol"), ["agents.ppo.epochs=2,4", "evaluation.against=[saf-easy]"], "1")
    assert [point.short_name for point in made] == ["epochs-2-against-saf-easy", "epochs-4-against-saf-easy"]
    assert made[1].label == "agents.ppo.epochs=4, evaluation.against=[saf-easy], seed 1"
    long = expand(load_scenario("demo"), [f"evaluation.against=[{','.join(['saf-easy'] * 40)}]"])
    assert len(long[0].short_name) == 60
    assert expand(load_scenario("demo"))[0].short_name == ""


@pytest.mark.parametrize(
    ("grid", "seeds", "message"),
    [
        (["learning=federated,locl"], None, "--grid learning=locl: learning: should be"),
        (["learning"], None, "--grid learning: a path and values"),
        (["learning="], None, "no values"),
        ([], "3-1", "--seeds 3-1"),
        ([], "a", "--seeds a"),
        ([], "1,0-2", "given twice"),
    ],
)
def test_bad_grids_and_seeds_name_their_option(grid: list[str], seeds: str | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        expand(load_scenario("datacenter_protocol"), grid, seeds)
    assert message in str(caught.value)
