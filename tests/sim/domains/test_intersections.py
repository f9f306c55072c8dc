"""Cities in a run: their episodes, their rules, and a federated run of three with its table."""

import io
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pettingzoo
import pytest
import torch

from fedsched.agents.collect import GreedyActor, play
from fedsched.envs.core import stream
from fedsched.envs.intersections import maps
from fedsched.envs.intersections.generate import CITIES, WEATHERS, Grid, Traffic, write_city
from fedsched.envs.intersections.viewer import decode_frame
from fedsched.envs.intersections.world import world_spec
from fedsched.sim.domains.base import Simulator
from fedsched.sim.domains.intersections.city import traffic_of
from fedsched.sim.domains.intersections.domain import DOMAIN
from fedsched.sim.domains.intersections.site import CitySite
from fedsched.sim.domains.intersections.worlds import RULES, CityWorlds, play_rule
from fedsched.sim.errors import UserError, WorldSetupError
from fedsched.sim.evaluate import evaluate_run
from fedsched.sim.export import export_run
from fedsched.sim.folder import read_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.replay import write_replay
from fedsched.sim.run import run
from fedsched.sim.scenario import (
    CityGenerator,
    CityTraffic,
    IntersectionsWorld,
    Scenario,
    SignalRule,
    load_scenario,
)
from fedsched.sim.scenario.intersections import MAPS
from fedsched.sim.summary import summary
from fedsched.sim.trained import load_policy
from fedsched.sim.training import Trainer, make_policy

SIMULATORS = get_args(Simulator)
CITY: dict[str, Any] = {
    "world": {"domain": "intersections", "city": "grid3x3", "demands": 5, "timing": "sumo_rl"},
    "copies": 4,
}


def cities(*names: str, **changes: object) -> Scenario:
    data: dict[str, Any] = {
        "version": 1,
        "name": "cities",
        "sites": dict.fromkeys(names or ("a",), CITY),
        "agents": {"encoder": {"width": 8}, "ppo": {"rollouts": 4, "epochs": 1}},
        "federation": {"rounds": 1, "local_updates": 1},
        "evaluation": {"windows": 1, "validation": 2, "against": ["max-pressure"]},
    }
    return Scenario.model_validate(data | changes)


@pytest.fixture(scope="module")
def site() -> CitySite:
    return CitySite(cities(), "a")


def test_episodes_come_from_their_split_and_from_the_seed_alone(site: CitySite) -> None:
    assert set(site.draw("train", 40, 1).instances.tolist()) == {0, 1, 2}
    assert set(site.draw("validation", 40).instances.tolist()) == {3}
    train, again = (CityWorlds(cities(seed=seed), "a").draw("train", 8, 1).seeds for seed in (0, 0))
    assert torch.equal(train, again)
    assert not torch.equal(train, site.draw("train", 8, 2).seeds)
    tests = [CityWorlds(cities(seed=seed), "a").draw("test", 3) for seed in (0, 1)]
    assert torch.equal(tests[0].seeds, tests[1].seeds)
    assert torch.equal(tests[0].seeds[:2], site.draw("test", 2).seeds)


def test_every_rule_runs_and_the_best_has_the_least_delay(site: CitySite) -> None:
    episodes, found = site.validation
    delays = {rule: float(found[rule]["resco_delay_s"].mean()) for rule in RULES}
    assert site.best_rule == min(delays, key=lambda rule: delays[rule])
    assert len(set(delays.values())) == len(RULES), "no two of them do the same"
    world, controller = site.controlled("greedy", len(episodes))
    assert torch.equal(play_rule(world, controller, episodes)["duration_s"], found["greedy"]["duration_s"])


def test_a_judgement_is_the_delay_relative_to_the_best_rule(site: CitySite) -> None:
    scenario = cities()
    trainer = Trainer(scenario, [site])
    judgement = trainer.judge(site, trainer.parameters)
    episodes, found = site.validation
    world = site.world(len(episodes))
    actor = GreedyActor(make_policy(scenario, world.spec), world.spec, world.batch)
    mine = play(world, episodes.instances, episodes.seeds, actor)["resco_delay_s"]
    ratio = float(mine.mean() / found[site.best_rule]["resco_delay_s"].mean())
    assert judgement.ratios["delay"] == judgement.score == pytest.approx(ratio, rel=1e-9)


def test_linear_scores_are_tried_in_the_training_world(site: CitySite) -> None:
    searching = CitySite(cities(agents={"search": {"windows": 2}, "ppo": {"rollouts": 4}}), "a")
    policy = make_policy(cities(), site.spec)
    start = Trainer(cities(), [site]).linear()
    good, bad = searching.trial(policy, torch.stack([torch.tensor(start), -torch.tensor(start)]).numpy(), 0)
    assert good < bad, "the soft greedy rule beats its opposite"


def test_the_policy_of_one_city_fits_every_other() -> None:
    known, here = DOMAIN.policy_spec(cities()).kinds[0], world_spec(CitySite(cities(), "a").problem).kinds[0]
    for features in ("own", "entity", "action"):
        assert getattr(known, features) == getattr(here, features)


def test_pieces_of_an_episode_are_the_episode(site: CitySite) -> None:
    whole, pieces = (site.operate("test", 2, "greedy", None, "own") for _ in range(2))
    whole.advance(float("inf"))
    for until in (0.0, 77.0, 600.0, 601.0, float("inf")):
        pieces.advance(until)
    for name, values in whole.outcome().figures.items():
        assert values.tolist() == pieces.outcome().figures[name].tolist(), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenario = cities(
        *("a", "b", "c"),
        federation={"rounds": 1, "local_updates": 1, "secure_aggregation": {}},
        evaluation={"windows": 1, "validation": 2, "against": ["max-pressure"], "replay": "60 s"},
    )
    return run(scenario, tmp_path_factory.mktemp("runs") / "cities", None, PlainProgress(io.StringIO()))


def test_three_cities_learn_together_and_lose_no_vehicle(finished: Path) -> None:
    told = read_run(finished)
    operated = [event for event in told.events if event["kind"] == "operated"]
    assert [event["actor"] for event in operated] == ["max-pressure", "best-rule", "policy"]
    for event in operated:
        for figures in event["sites"].values():
            assert figures["trips"] == figures["completed"] + figures["running"] + figures["never_inserted"] > 0
    lines = summary(told)
    assert lines[2].split() == ["delay", "s", "trip", "s", "wait", "s", "stops", "done", "CO2", "kg"]
    assert max(map(len, lines[:-2])) <= 80
    assert f"fedsched replay {finished}; " in lines[-2]
    assert load_policy(finished, "b").name == "policy of b"


def test_the_page_on_export_drives_a_city_as_its_policy_does(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    exported = pytest.importorskip("fedsched.exported")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    export_run(finished, None, tmp_path / "RUN" / "export", PlainProgress(io.StringIO()))
    page = (Path(__file__).resolve().parents[3] / "docs" / "export.md").read_text()
    [source] = [b for b in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE) if "signal.onnx" in b]
    names: dict[str, Any] = {"pettingzoo": pettingzoo, "ExportedPolicy": exported.ExportedPolicy}
    exec(compile(source, "example", "exec"), names)
    world, policy = names["env"].world, load_policy(finished)
    mine, instance = world.metrics()["resco_delay_s"].clone(), int(stream(0, "intersections/env").integers(8))
    policy.reset(world)
    right = play(world, torch.tensor([instance]), torch.tensor([0]), policy.act)
    assert torch.equal(mine, right["resco_delay_s"])
    assert policy.traffic.messages > 0


def test_evaluating_the_run_gives_the_figures_it_recorded(finished: Path) -> None:
    found = evaluate_run(finished, None, PlainProgress(io.StringIO()))
    rows = {(row["site"], row["actor"]): row for row in found.rows}
    for event in read_run(finished).events:
        if event["kind"] == "operated":
            for site, figures in event["sites"].items():
                assert {name: rows[site, event["actor"]][name] for name in found.described.names} == {
                    name: figures[name] for name in found.described.names
                }


def test_a_replay_is_the_first_test_period_under_the_policy(finished: Path, tmp_path: Path) -> None:
    rows = [row for row in read_run(finished).frames().to_pylist() if row["site"] == "b"]
    assert [row["kind"] for row in rows] == ["picture", *["frame"] * 21]
    assert [row["time"] for row in rows[1:]] == [60.0 * k for k in range(21)]
    last = decode_frame(rows[-1]["data"])
    figures = next(e for e in read_run(finished).events if e["kind"] == "operated" and e["actor"] == "policy")
    assert len(last.position) == figures["sites"]["b"]["running"]
    page = write_replay(finished, "b", tmp_path / "b.html")
    assert page.read_text().startswith("<!doctype html>")
    with pytest.raises(UserError, match="has no site 'd'"):
        write_replay(finished, "d", None)


@pytest.mark.skipif(find_spec("libsumo") is None, reason="SUMO is not installed")
def test_the_same_periods_run_in_sumo(finished: Path) -> None:
    own, there = (evaluate_run(finished, None, PlainProgress(io.StringIO()), simulator) for simulator in SIMULATORS)
    for one, other in zip(own.rows, there.rows, strict=True):
        assert (one["site"], one["actor"], one["rule"]) == (other["site"], other["actor"], other["rule"])
        assert one["trips"] == other["trips"]
        assert other["duration_s"] != one["duration_s"] == pytest.approx(other["duration_s"], rel=0.2)


@pytest.mark.skipif(find_spec("libsumo") is not None, reason="SUMO is installed")
def test_without_sumo_it_says_how_to_install_it(finished: Path) -> None:
    with pytest.raises(UserError, match=r"--simulator sumo: cities needs it, but .*pip install 'fedsched\[sumo\]'"):
        evaluate_run(finished, None, PlainProgress(io.StringIO()), "sumo")


def test_a_policy_for_cities_is_refused_in_data_centres(finished: Path) -> None:
    with pytest.raises(UserError, match="holds a policy for intersections, the scenario has datacenter"):
        evaluate_run(finished, load_scenario("demo"), PlainProgress(io.StringIO()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": {}}, "cities have nothing to trade"),
        ({"agents": {"start": "saf"}}, "no start 'saf'; there are greedy, max-pressure, none"),
        ({"agents": {"constraints": {"wait": {"at_most": 1.0}}}}, "weigh the reward part 'waiting' instead"),
        ({"evaluation": {"against": ["gredy"]}}, "did you mean 'greedy'"),
        ({"evaluation": {"replay": "1.5 s"}}, "whole seconds are needed"),
        ({"evaluation": {"period": "1h"}}, "a city's period is that of its demand"),
    ],
)
def test_what_belongs_to_data_centres_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cities(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"city": "grid4x4", "controlled": ["A0"], "demands": 1}, "grid4x4 has the signals that RESCO controls"),
        ({"city": "grid4x4"}, "grid4x4 has one demand"),
        ({"city": "generated"}, "a generated city needs 'generator'"),
        ({"generator": {}}, "belongs to 'city: generated', but the city is 'grid3x3'"),
        ({"controlled": []}, "no signal is named"),
    ],
)
def test_keys_that_a_city_would_not_heed_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cities(sites={"a": {"world": CITY["world"] | changes}})


@pytest.mark.parametrize("what", [{"surges": [{"place": "p", "vehicles": 9}]}, {"incidents": [{"edge": "e"}]}])
def test_surges_and_incidents_end_after_their_begin(what: dict[str, list[dict[str, object]]]) -> None:
    times = {"begin": "10 min", "end": "10 min"}
    traffic = {key: [one | times for one in given] for key, given in what.items()}
    world = {**CITY["world"], "city": "generated", "generator": {}, "traffic": traffic}
    with pytest.raises(ValueError, match="after 'begin', which is 600 s, got 600 s"):
        cities(sites={"a": {"world": world}})


def test_sites_of_two_kinds_are_refused(tiny: Callable[..., Scenario]) -> None:
    centre = tiny("north").sites["north"].model_dump(mode="json")
    with pytest.raises(ValueError, match="all are of one kind: the first is intersections"):
        cities(sites={"a": CITY, "north": centre})


def test_an_episode_without_a_vehicle_is_refused() -> None:
    empty = {"city": "generated", "generator": {"shape": "grid"}, "traffic": {"vehicles_per_h": 0.01}}
    with pytest.raises(WorldSetupError, match=r"no vehicle departs between 0 and 1200 s in demand 0"):
        DOMAIN.check(cities(sites={"a": {"world": CITY["world"] | empty}}))


def test_defaults_of_traffic_are_those_of_the_generator() -> None:
    assert traffic_of(CityTraffic(), "clear") == Traffic()


def test_names_in_scenarios_are_those_of_the_domain() -> None:
    assert MAPS == maps.NAMES
    assert set(get_args(SignalRule)) == set(RULES)
    shapes, weathers = CityGenerator.model_fields["shape"], IntersectionsWorld.model_fields["weather"]
    assert get_args(shapes.annotation) == tuple(CITIES)
    assert get_args(weathers.annotation) == tuple(WEATHERS)


def test_an_unreadable_city_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "no.sumocfg").write_text(
        "<configuration><input><net-file value='none.net.xml'/></input></configuration>"
    )
    world = {**CITY["world"], "city": str(tmp_path / "no.sumocfg")}
    with pytest.raises(WorldSetupError, match=r"sites\.a\.world\.city: "):
        DOMAIN.check(cities(sites={"a": {"world": world}}))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("city")
    write_city(Grid(rows=1, columns=2), Traffic(vehicles_per_h=300, seconds=120), folder, seed=1)
    return folder


def own(files: Path, routes: str, **changes: object) -> Scenario:
    (files / "city.rou.xml").write_text(f"<routes>{routes}</routes>")
    world = {**CITY["world"], "city": str(files / "city.sumocfg"), "demands": 1, **changes}
    return cities(sites={"a": {"world": world}})


FLOW = '<flow id="f" from="west0-r0c0" to="r0c1-east0" begin="0" end="60" {}/>'


@pytest.mark.parametrize(
    ("routes", "changes", "message"),
    [
        ("", {}, "no vehicle departs between 0 and 120 s in demand 0"),
        (FLOW.format('period="10"'), {"demands": 5}, "'demands: 5', but all are alike"),
        (FLOW.format('period="10"'), {"controlled": ["r0c0", "r0c0"]}, "signals named twice: r0c0; name each once"),
        (FLOW.format('period="10"'), {"controlled": ["r0c9"]}, "no signal 'r0c9' in the network; there are 2: r0c"),
    ],
)
def test_what_a_city_cannot_be_run_with_is_told(
    files: Path, routes: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(WorldSetupError, match=message):
        DOMAIN.check(own(files, routes, **changes))
    assert not DOMAIN.check(own(files, FLOW.format('period="exp(0.2)"'), demands=5))


def test_what_is_not_modelled_is_told(files: Path) -> None:
    stops = '<stop lane="west0-r0c0_0" endPos="50" duration="20"/>'
    trip = f'<trip id="bus" depart="0" from="west0-r0c0" to="r0c1-east0">{stops}{stops}</trip>'
    [notice] = DOMAIN.check(own(files, f'{trip}<person id="p" depart="1"/>'))
    assert notice.line == "a: read over, since not modelled: person (1), stop (2)"
    assert notice.facts == {"site": "a", "elements": {"person": 1, "stop": 2}}
