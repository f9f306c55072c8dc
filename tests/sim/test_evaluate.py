"""Evaluating the policy of a run again, and elsewhere."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsched.sim.domains.datacenter.figures import FIGURES
from fedsched.sim.errors import UserError
from fedsched.sim.evaluate import evaluate_run
from fedsched.sim.folder import make_folder, read_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.record import Recorder
from fedsched.sim.scenario import Scenario
from fedsched.sim.table import SENT


def quiet() -> PlainProgress:
    return PlainProgress(io.StringIO())


def test_evaluating_a_run_gives_the_figures_it_recorded(finished: Path) -> None:
    rows = {(row["site"], row["actor"]): row for row in evaluate_run(finished, None, quiet()).rows}
    events = [event for event in read_run(finished).events if event["kind"] == "operated"]
    assert len(rows) == 5 * len(events) == 25, "four sites, and all of them together"
    for event in events:
        for site, by_name in event["sites"].items():
            assert {name: rows[site, event["actor"]][name] for name in FIGURES.names} == {
                name: by_name[name] for name in FIGURES.names
            }


def test_evaluating_a_run_tells_what_its_agents_sent(finished: Path) -> None:
    rows = {(row["site"], row["actor"]): row for row in evaluate_run(finished, None, quiet()).rows}
    for event in (event for event in read_run(finished).events if event["kind"] == "operated"):
        for site, known in event["sites"].items():
            assert [rows[site, event["actor"]][name] for name in SENT] == [known[name] for name in SENT]
        messages, possible, size = (sum(known[name] for known in event["sites"].values()) for name in SENT)
        assert [rows["", event["actor"]][name] for name in SENT] == [messages, possible, size]
        assert (messages, possible) == (event["traffic"]["messages"], event["traffic"]["possible_messages"])
        assert 0 <= size - event["traffic"]["message_bytes"] < 4, "each of the four sites rounds its bits up"
        assert (possible > 0) == event["actor"].startswith("policy"), "rules say nothing"


def test_a_policy_can_be_tried_in_another_scenario(finished: Path, tiny: Callable[..., Scenario]) -> None:
    before = sorted(finished.rglob("*"))
    other = tiny("south", "west", evaluation={"windows": 1, "against": ["saf-easy"]})
    rows = [row for row in evaluate_run(finished, other, quiet()).rows if row["site"]]
    assert {(row["site"], row["actor"]) for row in rows} == {
        (site, actor) for site in ("south", "west") for actor in ("saf-easy", "best-rule", "policy")
    }
    assert all(row["bounded_slowdown"] >= 1.0 for row in rows)
    assert sorted(finished.rglob("*")) == before


def test_a_run_without_a_checkpoint_has_no_policy(tiny: Callable[..., Scenario], tmp_path: Path) -> None:
    folder = make_folder(tiny(), tmp_path / "young")
    with Recorder(folder, tiny()):
        pass
    with pytest.raises(UserError, match="has no policy yet; continue it with"):
        evaluate_run(folder, None, quiet())
