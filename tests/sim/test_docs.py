"""The examples in the documents run as they stand, and show what they say."""

import gzip
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsched.agents import play
from fedsched.envs.core import IllegalActionError
from fedsched.envs.datacenter import RuleController
from fedsched.envs.datacenter.trace import DATA, SHIPPED
from fedsched.envs.intersections.generate import CITIES
from fedsched.sim.domains import domain_of
from fedsched.sim.domains.base import Notice
from fedsched.sim.errors import UserError
from fedsched.sim.scenario import Scenario, load_scenario
from fedsched.sim.trained import load_policy

ROOT = Path(__file__).resolve().parents[2]


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE)


def executed(*sources: str) -> dict[str, Any]:
    """All names after running some sources, one after the other."""
    names: dict[str, Any] = {}
    for source in sources:
        exec(compile(source, "example", "exec"), names)
    return names


def test_worlds_and_policies_in_own_code(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RUN").symlink_to(finished)
    names = executed(*blocks("docs/in_code.md", "python"))
    assert names["observation"].kinds["cluster"].own.shape[:2] == (16, 2)
    assert names["moved"].reward["cluster"].shape == (16, 2, 6)
    assert names["learned"]["bounded_slowdown"].shape == (16,)
    assert names["observations"]["cluster_0"].shape == (1938,)
    again = play(names["world"], names["instances"], names["instances"], _reset(names["policy"], names["world"]).act)
    assert torch.equal(again["bounded_slowdown"], names["learned"]["bounded_slowdown"])
    sent = names["sent"]
    assert 0 < sent.messages < sent.possible, "a fifth of the messages, in the last turn"
    order = sorted(names["env"]._plain["cluster_0"])
    assert order == ["action_mask", "actions", "entities", "entity_mask", "own"]
    with pytest.raises(IllegalActionError):
        names["world"].step({"cluster": torch.zeros((16, 2), dtype=torch.int64)})


def _reset(controller: Any, world: Any) -> Any:
    controller.reset(world)
    return controller


def test_the_controller_of_the_recipe_is_smallest_area_first() -> None:
    names = executed(*[b for b in blocks("CONTRIBUTING.md", "python") if "SmallestArea" in b])
    world, instances = names["world"], names["instances"]
    mine = play(world, instances, instances, names["controller"].act)
    rule = play(world, instances, instances, _reset(RuleController("saf-easy"), world).act)
    # areas of which a float has the same logarithm are ties
    torch.testing.assert_close(mine["bounded_slowdown"], rule["bounded_slowdown"], rtol=0.02, atol=0.0)


def test_the_example_of_the_readme_plays_to_its_end() -> None:
    names = executed(*blocks("README.md", "python"))
    assert not names["env"].agents
    assert float(names["env"].world.metrics()["bounded_slowdown"]) >= 1.0


def test_scenarios_of_the_readme_are_valid_and_bound_the_wait(tmp_path: Path) -> None:
    whole, *_ = [text for text in blocks("README.md", "yaml") if text.startswith("version")]
    (tmp_path / "own.yaml").write_text(whole)
    agents = load_scenario(tmp_path / "own.yaml").agents
    assert agents.search is not None
    assert agents.constraints.wait is not None


def _check(scenario: Scenario) -> list[Notice]:
    return domain_of(scenario).check(scenario)


def test_a_thousand_jobs_will_do_for_the_own_log_of_the_readme(tmp_path: Path) -> None:
    lines = gzip.decompress((DATA / SHIPPED["hpc2n"]).read_bytes()).decode().splitlines()
    head = sum(line.startswith(";") for line in lines)
    (tmp_path / "own.swf").write_text("\n".join(lines[: head + 1000]))
    [text] = [text for text in blocks("README.md", "yaml") if "own.swf" in text]
    (tmp_path / "own.yaml").write_text(text)
    assert _check(load_scenario(tmp_path / "own.yaml")) == []
    (tmp_path / "own.yaml").write_text(text.replace("window: {jobs: 32}", "window: {duration: 1d}, load: 0.3"))
    with pytest.raises(UserError, match=r"a period of 24 h at load 0\.3 covers .*`window: \{jobs: \.\.\.\}`"):
        _check(load_scenario(tmp_path / "own.yaml"))


def test_a_policy_that_is_not_there_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no site 'middle'; its sites are north, east, south, west"):
        load_policy(finished, "middle")
    with pytest.raises(UserError, match="not a run folder"):
        load_policy(tmp_path)
    assert load_policy(str(finished), "west").name == "policy of west"


def test_the_scenario_of_the_page_about_cities_is_valid(tmp_path: Path) -> None:
    text, varied = blocks("docs/intersections.md", "yaml")
    (tmp_path / "own.yaml").write_text(text.replace("my-city.sumocfg", "grid3x3"))
    scenario = load_scenario(tmp_path / "own.yaml")
    assert _check(scenario) == []
    assert scenario.evaluation.replay == 2.0
    [own] = [line for line in text.splitlines() if "world:" in line]
    (tmp_path / "varied.yaml").write_text(text.replace(own, varied.rstrip().replace("grid4x4", "grid3x3")))
    assert _check(load_scenario(tmp_path / "varied.yaml")) == []


def test_the_page_about_cities_names_every_size_of_every_shape() -> None:
    lines = (ROOT / "docs/intersections.md").read_text().splitlines()
    for name, shape in CITIES.items():
        [told] = [line for line in lines if line.startswith(f"| `{name}` | ")]
        sizes = [f"{one.name} {json.dumps(one.default)}".removesuffix(".0") for one in fields(shape)]
        assert told == f"| `{name}` | {', '.join(sizes)} |"


def test_streets_in_own_code_end_with_every_vehicle_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = executed(*blocks("docs/intersections.md", "python"))
    world = names["world"]
    found = world.metrics()
    trips = torch.tensor([len(world.problem.demands[k % 8].trips) for k in range(16)], dtype=torch.float64)
    assert torch.equal(found["completed"] + found["running"] + found["never_inserted"], trips)
    assert torch.isfinite(found["duration_s"]).all()
    gate = names["districts"].gate("d1", "d2")
    crossed = names["crossed"](names["shared"])[:, gate]
    assert bool(((crossed >= 10) & (crossed < 10 + len(names["districts"].gates[gate].guards))).all())
    assert len(names["local"].signals) == 3
    assert [frame.time_s for frame in names["recorded"].frames] == list(range(201))
    assert len(names["generated"].demands) == 4
    assert names["delays"].shape == (16,)
    assert bool((names["delays"] > 0).all())
    assert (tmp_path / "city" / "city.sumocfg").exists()
    assert "const replay = {" in (tmp_path / "replay.html").read_text()
    assert (tmp_path / "now.svg").read_text().endswith("</svg>")


def test_the_page_on_pettingzoo_runs_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [text] = blocks("docs/pettingzoo.md", "yaml")
    (tmp_path / "spread.yaml").write_text(text)
    scenario = load_scenario(tmp_path / "spread.yaml")
    assert domain_of(scenario).check(scenario) == []
    executed(*blocks("docs/pettingzoo.md", "python"))
    assert "torch.Size([8, 3, 21]) torch.Size([8, 3, 1])" in capsys.readouterr().out
