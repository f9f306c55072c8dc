"""The policy of a run as files: what is written, and what is refused before anything is."""

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from typer.testing import CliRunner

from fedsched.agents.collect import GreedyActor, play
from fedsched.exported import ExportedPolicy
from fedsched.sim import export as exporting
from fedsched.sim.cli import app
from fedsched.sim.domains import domain_of
from fedsched.sim.errors import UserError
from fedsched.sim.export import export_run
from fedsched.sim.folder import make_folder, read_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.record import Recorder
from fedsched.sim.run import run
from fedsched.sim.scenario import Scenario
from fedsched.sim.trained import load_policy


def quiet() -> PlainProgress:
    return PlainProgress(io.StringIO())


@pytest.fixture(scope="module")
def alone(tiny: Callable[..., Scenario], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two sites that learned alone, without messages."""
    scenario = tiny("north", "south", learning="local", agents={"messages": {"trigger": "none"}})
    return run(scenario, tmp_path_factory.mktemp("runs") / "alone", None, quiet())


def test_a_run_gives_one_file_for_all_sites_that_share_a_policy(finished: Path, tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["export", str(finished), "--policy", "--out", str(tmp_path / "new" / "place")])
    assert made.exit_code == 0, made.stderr
    [file] = sorted((tmp_path / "new" / "place").iterdir())
    assert file.name == "cluster.onnx"
    assert f"{file}: " in made.stdout
    assert "decisions compared, apart by at most: probabilities " in made.stdout
    exported, told = ExportedPolicy(file), read_run(finished)
    assert exported.about["run"] == told.record["id"]
    assert exported.about["site"] == "north"
    assert exported.features["entities"] == list(domain_of(told.scenario).policy_spec(told.scenario).kinds[0].entity)


def test_sites_that_learned_alone_have_files_of_their_own_which_act_as_their_policies(
    alone: Path, tmp_path: Path
) -> None:
    written = export_run(alone, None, tmp_path, quiet())
    assert [file.path.name for file in written] == ["north-cluster.onnx", "south-cluster.onnx"]
    assert all(file.checked.decisions > 50 for file in written)
    scenario = read_run(alone).scenario
    for file, site in zip(written, ("north", "south"), strict=True):
        worlds = domain_of(scenario).site(scenario, site)
        episodes, world, exported = worlds.draw("validation", 2), worlds.world(2), ExportedPolicy(file.path)
        policy = load_policy(alone, site).policy
        right = play(world, episodes.instances, episodes.seeds, GreedyActor(policy, world.spec, 2))
        mine = play(world, episodes.instances, episodes.seeds, lambda seen, exported=exported: _act(exported, seen))
        assert torch.equal(mine["bounded_slowdown"], right["bounded_slowdown"])
    [one] = export_run(alone, "south", tmp_path / "one", quiet())
    assert one.path.read_bytes() == written[1].path.read_bytes()


def _act(exported: ExportedPolicy, observation: Any) -> dict[str, torch.Tensor]:
    tokens = observation.kinds["cluster"]
    last = tokens.action_mask.shape[2] - 1
    actions = torch.full(tokens.active.shape, last)
    for b, a in tokens.active.nonzero():
        parts = (tokens.own, tokens.entities, tokens.actions, tokens.action_mask, tokens.entity_mask)
        actions[b, a] = int(np.asarray(exported.decide(*(part[b, a].numpy() for part in parts)).action))
    return {"cluster": actions}


def test_nothing_is_written_unless_all_files_agree(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def answer(policy: Any, kind: Any, recorded: Any, facts: Any) -> Any:
        calls.append(facts["site"])
        if facts["site"] == "south":
            raise exporting.AgentError("answers otherwise")
        return right(policy, kind, recorded, facts)

    right = exporting.export_kind
    monkeypatch.setattr(exporting, "export_kind", answer)
    with pytest.raises(UserError, match="site south: answers otherwise"):
        export_run(alone, None, tmp_path / "new", quiet())
    assert calls == ["north", "south"]
    assert not (tmp_path / "new").exists()


def test_what_is_missing_is_named(
    alone: Path, tiny: Callable[..., Scenario], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="has no site 'west'; its sites are north, south"):
        export_run(alone, "west", tmp_path, quiet())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot be written: File exists"):
        export_run(alone, "south", tmp_path / "file", quiet())
    young = make_folder(tiny(), tmp_path / "young")
    with Recorder(young, tiny()):
        pass
    with pytest.raises(UserError, match="has no policy yet; continue it with"):
        export_run(young, None, None, quiet())
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(UserError, match=r'^onnx: not installed; pip install "fedsched\[export\]"$'):
        export_run(alone, None, None, quiet())


def test_a_policy_that_does_not_fit_and_an_order_for_nothing_end_with_2(alone: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(alone, copy)
    text = (copy / "run.json").read_text()
    assert text.count('"width": 8') == 1
    (copy / "run.json").write_text(text.replace('"width": 8', '"width": 16'))
    for arguments, message in {(str(copy), "--policy"): "shape", (str(alone),): "say what to export: --policy"}.items():
        made = CliRunner().invoke(app, ["export", *arguments])
        assert made.exit_code == 2
        assert message in made.stderr
    assert not (copy / "export").exists()


def test_the_page_on_export_runs_as_it_stands(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    export_run(finished, None, tmp_path / "RUN" / "export", quiet())
    page = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text()
    names: dict[str, Any] = {}
    for source in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        if "signal.onnx" in source:
            continue  # the example with a city has its test in tests/sim/domains/test_intersections.py
        exec(compile(source, "example", "exec"), names)
    assert "'free_share', 'log_queue'" in capsys.readouterr().out
    assert names["made"].action in (0, 1, 2)
    env, policy = names["env"], load_policy(finished).policy
    mine, drawn = env.world.metrics()["bounded_slowdown"].clone(), (env._draw(0, attempt) for attempt in range(50))
    # the first window in which there is something to decide
    instance = next(k for k in drawn if env.reset(0, {"instance": k})[0])
    actor = GreedyActor(policy, env.world.spec, 1)
    right = play(env.world, torch.tensor([instance]), torch.tensor([0]), actor)
    assert torch.equal(mine, right["bounded_slowdown"])
    assert actor.traffic.messages > 0
