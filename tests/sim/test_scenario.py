"""Scenarios: what is shipped, what is refused and how, overrides."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from fedsched.sim.errors import UserError
from fedsched.sim.scenario import (
    Scenario,
    commented,
    load_scenario,
    resolved,
    schema,
    shipped,
)


def site(**world: Any) -> dict[str, Any]:
    return {"world": {"domain": "datacenter", "trace": "lublin-1", "clusters": [{"processors": 256}], **world}}


def plain(sites: int = 1, **keys: Any) -> dict[str, Any]:
    names = ("north", "east", "south", "west", "mid")[:sites]
    return {"version": 1, "name": "probe", "sites": {name: site() for name in names}, **keys}


def write(tmp_path: Path, data: dict[str, Any] | str) -> Path:
    path = tmp_path / "probe.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False))
    return path


def refusal(tmp_path: Path, data: dict[str, Any] | str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_scenario(write(tmp_path, data), overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_scenarios_load_and_every_key_is_commented(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    # a key is explained where it first stands in a line of its own; short forms of the same keys follow it
    explained: set[str] = set()
    for line in shipped()[name].splitlines():
        code, _, comment = line.partition("#")
        key = code.strip().removeprefix("- ").lstrip("{").partition(":")[0]
        if comment or code.rstrip().endswith(":"):
            explained.add(key)
        assert not code.strip() or key in explained, f"{name}: {line!r} has no comment"


def test_the_demo_is_the_four_centres_cut_short() -> None:
    full, demo = resolved(load_scenario("datacenters")), resolved(load_scenario("demo"))
    for name, described in full["sites"].items():
        for key in ("window", "copies"):
            (described["world"] if key == "window" else described).pop(key)
            (demo["sites"][name]["world"] if key == "window" else demo["sites"][name]).pop(key)
    assert full["sites"] == demo["sites"]
    assert len(full["sites"]) == 4
    assert demo["plan"] == full["plan"]
    assert demo["federation"]["rounds"] < full["federation"]["rounds"]


def test_two_sites_live_on_different_periods_of_one_log() -> None:
    sites = load_scenario("datacenters").sites
    north, east = sites["north"].world, sites["east"].world
    assert north.trace == east.trace == "hpc2n"
    assert north.jobs is not None
    assert east.jobs is not None
    assert north.jobs[1] <= east.jobs[0]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_resolved_and_commented_scenarios_read_back_equal(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    assert Scenario.model_validate(resolved(scenario)) == scenario
    assert load_scenario(write(tmp_path, commented(scenario))) == scenario


def parts(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    if model in seen:
        return seen
    seen.add(model)
    pending = [info.annotation for info in model.model_fields.values()]
    while pending:
        annotation: Any = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            parts(annotation, seen)
        pending.extend(getattr(annotation, "__args__", ()))
    return seen


def test_every_key_is_described_and_every_part_frozen_strict_and_closed() -> None:
    for part in parts(Scenario, set()):
        assert part.model_config.get("frozen")
        assert part.model_config.get("strict")
        assert part.model_config.get("extra") == "forbid"
        assert all(info.description for info in part.model_fields.values()), part


def test_schema_names_every_top_level_key() -> None:
    made = schema()
    assert set(made["properties"]) == set(Scenario.model_fields)
    assert made["additionalProperties"] is False


BAD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown key": (lambda d: d.update(learnin="local"), "unknown key 'learnin' (did you mean 'learning'?)"),
    "unknown key of a site": (lambda d: d["sites"]["north"].update(copis=3), "(did you mean 'copies'?)"),
    "far unknown key": (lambda d: d.update(federation={"zzz": 3}), "known keys are local_updates, rounds,"),
    "missing file": (lambda d: d["sites"]["north"]["world"].update(trace="no.swf.gz"), "there is no file 'no.swf.gz'"),
    "unknown log": (lambda d: d["sites"]["north"]["world"].update(trace="lublin1"), "(did you mean 'lublin-1'?)"),
    "zero sites": (lambda d: d.update(sites={}), "zero sites"),
    "zero weights": (lambda d: d["sites"]["north"].update(weights={"qos": 0}), "all weights are zero"),
    "no cluster": (lambda d: d["sites"]["north"]["world"].update(clusters=[]), "at least one cluster"),
    "bad range": (lambda d: d["sites"]["north"]["world"].update(jobs=[5, 5]), "an ascending range"),
    "no generator": (lambda d: d["sites"]["north"]["world"].update(trace="generated"), "needs 'generator'"),
    "two windows": (
        lambda d: d["sites"]["north"]["world"].update(window={"jobs": 3, "duration": "3h"}),
        "either 'jobs' or 'duration'",
    ),
    "committing with clusters": (
        lambda d: d["sites"]["north"]["world"].update(engine="committing", clusters=[{"processors": 9}] * 2),
        "the committing engine has one cluster, got 2",
    ),
    "backfill in the event engine": (
        lambda d: d["sites"]["north"]["world"].update(backfill=True),
        "engine: committing",
    ),
    "plan for three": (
        lambda d: (d["sites"].update(plain(3)["sites"]), d.update(plan={})),
        "needs at least 4 sites to bear one fault, got 3",
    ),
    "agents' own parameters in a federation": (
        lambda d: (d["sites"].update(plain(2)["sites"]), d.update(agents={"sharing": "agent"})),
        "fit no other site, so 2 sites cannot learn them together: use 'learning: local'",
    ),
    "secure sum of two": (
        lambda d: (d["sites"].update(plain(2)["sites"]), d.update(federation={"secure_aggregation": {}})),
        "needs at least 3 sites, got 2",
    ),
    "faults without plan": (lambda d: d.update(consensus={"faults": {"north": "silent"}}), "without 'plan'"),
    "copies and groups": (lambda d: d["sites"]["north"].update(copies=9), "a multiple of agents.ppo.rollouts (8)"),
    "critic without gae": (
        lambda d: d.setdefault("agents", {}).update(ppo={"critic": "independent"}),
        "agents.ppo.critic: 'advantage: group' has no critic; set 'advantage: gae'",
    ),
    "discount without gae": (
        lambda d: d.setdefault("agents", {}).update(ppo={"discount": 0.9}),
        "agents.ppo.discount: 'advantage: group' compares totals and discounts nothing",
    ),
    "time constant without gae": (
        lambda d: d.setdefault("agents", {}).update(ppo={"tau": "1h"}),
        "agents.ppo.tau: 'advantage: group' compares totals and discounts nothing",
    ),
    "loss without a critic": (
        lambda d: d.setdefault("agents", {}).update(ppo={"value_loss": "huber"}),
        "has no critic",
    ),
    "unknown rule": (lambda d: d.update(evaluation={"against": ["fcfs-easi"]}), "(did you mean 'fcfs-easy'?)"),
    "unknown teacher": (
        lambda d: d.update(agents={"imitation": {"teacher": "saf-eazy"}}),
        "no teacher 'saf-eazy' (did you mean 'saf-easy'?); there are fcfs, fcfs-easy,",
    ),
    "no update left to imitate in": (
        lambda d: d.update(agents={"imitation": {"teacher": "saf", "updates": 9}}, federation={"rounds": 2}),
        "federation plans 8 local updates (rounds * local_updates), got 9",
    ),
    "noise on graphs": (
        lambda d: d.update(agents={"encoder": {"kind": "graph"}, "exploration": {}}),
        "graph has no copies that noise could perturb; take gat, or no 'exploration'",
    ),
    "imitation with memory": (
        lambda d: d.update(agents={"imitation": {"teacher": "saf"}, "encoder": {"memory": 8}}),
        "policies with memory do not imitate; set 0, or remove 'imitation'",
    ),
    "no unit": (lambda d: d.update(evaluation={"period": 6}), "6 has no unit"),
    "wrong unit": (lambda d: d.update(evaluation={"period": "6 H"}), "unknown unit 'H' (did you mean 'h'?)"),
    "ray address in a local run": (lambda d: d.update(workers={"backend": "local", "address": "x"}), "belongs to Ray"),
    "not a mapping": (lambda d: d.update(agents=3), "a mapping of keys to values is needed, got 3"),
    "name of a site": (lambda d: d["sites"].update({"north-1": site()}), "'north-1' cannot be a name here"),
    "infinite": (lambda d: d["sites"]["north"].update(weights={"qos": float("inf")}), "finite"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_place_and_remedy(case: str, tmp_path: Path) -> None:
    spoil, message = BAD[case]
    data = copy.deepcopy(plain())
    spoil(data)
    text = refusal(tmp_path, data)
    assert message in text
    assert "probe.yaml:" in text
    assert text.endswith("1 problem in " + str(tmp_path / "probe.yaml") + "; `fedsched schema` shows every key")


def four_with_plan(**plan: Any) -> dict[str, Any]:
    return plain(4, plan={"links": {"default": {}}, **plan})


def test_the_plan_is_checked_against_the_sites(tmp_path: Path) -> None:
    load_scenario(write(tmp_path, four_with_plan()))
    assert "not a pair of sites" in refusal(tmp_path, four_with_plan(links={"default": {}, "north-mars": {}}))
    assert "'default' is missing" in refusal(tmp_path, four_with_plan(links={}))
    assert "same link" in refusal(tmp_path, four_with_plan(links={"default": {}, "north-east": {}, "east-north": {}}))
    assert "no plan would ever be settled" in refusal(tmp_path, four_with_plan(epoch="9d"))
    unknown = four_with_plan() | {"consensus": {"faults": {"mars": "silent"}}}
    assert "unknown site 'mars'" in refusal(tmp_path, unknown)
    two = four_with_plan() | {"consensus": {"faults": {"north": "silent", "east": "slow"}}}
    assert "at most 1 can be borne" in refusal(tmp_path, two)


def test_a_link_is_the_same_both_ways() -> None:
    plan = load_scenario("datacenters").plan
    assert plan is not None
    assert plan.link("north", "east") == plan.link("east", "north")
    assert plan.link("east", "north").bandwidth == 1e10
    assert plan.link("north", "west") == plan.links["default"]


def test_without_plan_and_secure_sum_any_number_of_sites_will_do() -> None:
    for sites in (1, 2, 3, 5):
        assert len(Scenario.model_validate(plain(sites)).sites) == sites
    assert Scenario.model_validate(plain(1, agents={"sharing": "agent"})).agents.sharing == "agent"
    assert len(Scenario.model_validate(plain(2, learning="local", agents={"sharing": "agent"})).sites) == 2
    local = plain(2, learning="local", federation={"secure_aggregation": {}})
    assert Scenario.model_validate(local).learning == "local"


def test_all_problems_come_at_once_each_with_line_column_and_caret(tmp_path: Path) -> None:
    text = """\
version: 1
name: probe
learnin: local
sites:
  north:
    world: {domain: datacentre, trace: lublin-1, clusters: [{processors: 256}, {processors: no}]}
    weights: {qos: 0}
federation: {rounds: 3, rounds: -1}
agents:
  ppo: {learning_rate: 1e-3, clip: 2}
"""
    shown = refusal(tmp_path, text)
    lines = shown.splitlines()
    heads = [line.split("probe.yaml:")[1] for line in lines if "probe.yaml:" in line]
    assert [head.split(": ")[0] for head in heads] == ["3:1", "6:21", "6:93", "7:14", "8:25", "8:33", "10:24", "10:36"]
    assert "did you mean 'datacenter'?" in heads[1]
    assert "put it in quotes" in heads[2]
    assert "'rounds' is repeated, first in line 8" in heads[4]
    assert "YAML reads 1e-3 as text; write 1.0e-3" in heads[6]
    place = lines.index("    learnin: local")
    assert lines[place + 1] == "    ^"
    assert lines[-1].startswith("8 problems in ")


def test_an_unknown_key_does_not_hide_what_is_wrong_between_parts(tmp_path: Path) -> None:
    shown = refusal(tmp_path, plain(2, zzz=1, federation={"secure_aggregation": {}}))
    assert "unknown key 'zzz'" in shown
    assert "needs at least 3 sites" in shown


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("version: 1\nname: [a\n", ":3:1:", "not valid YAML"),
        ("version: 1\nname: a\tb: c\n  d: 1\n", ":", "not valid YAML"),
        ("- 1\n", ":1:1:", "a mapping of keys to values"),
        ("", ":1:1:", "a mapping of keys to values"),
        ("version: \x00\n", ":1:10:", "not valid YAML"),
        ("a: &x [*x]\n", ":1:4:", "within its own anchor"),
        ("[a]: 1\n", ":1:1:", "a key must be plain text"),
        ("a: !!python/object:os.system {}\n", ":1:4:", "not valid YAML"),
    ],
)
def test_what_is_not_yaml_is_located(text: str, place: str, message: str, tmp_path: Path) -> None:
    shown = refusal(tmp_path, text)
    assert f"probe.yaml{place}" in shown
    assert message in shown


def test_anchors_and_merge_keys_work_and_yes_is_a_name(tmp_path: Path) -> None:
    text = """\
version: 1
name: probe
sites:
  yes: &site
    world: {domain: datacenter, trace: lublin-1, clusters: [{processors: 256}]}
  no: {<<: *site, copies: 8}
"""
    sites = load_scenario(write(tmp_path, text)).sites
    assert set(sites) == {"yes", "no"}
    assert sites["no"].copies == 8
    assert sites["no"].world == sites["yes"].world


def test_a_log_of_the_user_is_found_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "own.swf").write_text("; empty\n")
    data = plain()
    data["sites"]["north"]["world"]["trace"] = "own.swf"
    world = load_scenario(write(tmp_path, data)).sites["north"].world
    assert world.trace == str(tmp_path / "own.swf")


def test_overrides_reach_every_depth_and_their_errors_name_them(tmp_path: Path) -> None:
    path = write(tmp_path, plain())
    changes = ["federation.rounds=3", "sites.north.world.clusters.0.speed=0.5", "evaluation.against=[fcfs]", "seed=7"]
    scenario = load_scenario(path, changes)
    assert (scenario.federation.rounds, scenario.seed, scenario.evaluation.against) == (3, 7, ("fcfs",))
    assert scenario.sites["north"].world.clusters[0].speed == 0.5
    wrong = {
        "federation.rounds=-1": "--set federation.rounds=-1: federation.rounds: should be greater",
        "federation.rouds=1": "federation.rouds: unknown key 'rouds' (did you mean 'rounds'?)",
        "sites.mars.copies=8": "--set sites.mars.copies=8: sites.mars.world: 'world' is missing",
        "seed.deep=1": "--set seed.deep=1: seed is not a mapping",
        "seed": "--set seed: a path and a value are needed",
        "sites.north.world.clusters.4.speed=1": "a list of 1; a number below that is needed, got 4",
        "seed=[": "--set seed=[: not valid YAML",
        "plan={}": "--set plan={}: plan: needs at least 4 sites",
    }
    for override, message in wrong.items():
        with pytest.raises(UserError) as caught:
            load_scenario(write(tmp_path, plain(seed=1)), [override])
        assert message in str(caught.value)


def test_an_unknown_scenario_is_refused_with_what_is_shipped() -> None:
    with pytest.raises(UserError, match=r"did you mean 'datacenters'\?.*shipped are"):
        load_scenario("datacentres")


def test_a_folder_is_neither_a_scenario_nor_a_log(tmp_path: Path) -> None:
    (tmp_path / "logs.swf").mkdir()
    with pytest.raises(UserError, match="is a folder; name the scenario file in it"):
        load_scenario(tmp_path)
    for trace in ("logs.swf", "."):
        assert f"{trace!r} is a folder; name the file in it" in refusal(
            tmp_path, plain(sites=0) | {"sites": {"north": site(trace=trace)}}
        )


def test_a_name_that_cannot_be_is_refused_in_words(tmp_path: Path) -> None:
    text = refusal(tmp_path, plain() | {"name": "My run"})
    assert "name: 'My run' cannot be a name here: lower-case letters, digits, _ and -" in text
    assert "pattern" not in text
