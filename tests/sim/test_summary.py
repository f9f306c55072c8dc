"""What a finished run prints."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fedsched.sim.folder import read_run
from fedsched.sim.summary import in_one_line, several, summary


@pytest.fixture
def shown(finished: Path) -> list[str]:
    return summary(read_run(finished))


def test_every_site_has_a_line_for_every_actor_and_there_is_a_sum(finished: Path, shown: list[str]) -> None:
    heads = [line.partition(":")[0] for line in shown if re.match(r"[a-z ]+: .* jobs a period", line)]
    assert heads == ["north", "east", "south", "west", "all sites"]
    assert sum(line.startswith("  first come, first served ") for line in shown) == 5
    known = next(e["sites"]["north"] for e in read_run(finished).events if e.get("actor") == "policy+plan")
    learned = next(line for line in shown if line.startswith("  learned + plan"))
    assert learned.split()[3:] == [
        f"{known['bounded_slowdown']:.2f}", f"{known['wait_s'] / 3600:.2f}", f"{100 * known['utilization']:.1f}",
        f"{known['energy_kwh']:.0f}", f"{known['carbon_kg']:.0f}",
    ]  # fmt: skip


def test_it_says_what_was_settled_what_was_sent_and_where_to_look(finished: Path, shown: list[str]) -> None:
    told, text = read_run(finished), "\n".join(shown)
    traffic = next(e["traffic"] for e in told.events if e.get("actor") == "policy+plan")
    assert f"Settled: 14 plans with {traffic['transfers']} transfers of {traffic['quantity']} processor-hours" in text
    assert re.search(r"Certificate of the last plan: [0-9a-f]{16} signed by [34] of 4 sites", text)
    kinds = ("round", "validation")
    up, down = (
        sum(sum(e[way].values()) for e in told.events if e["kind"] in kinds) for way in ("bytes_up", "bytes_down")
    )
    assert f"Network: {up / 1e6:.2f} MB up, {down / 1e6:.2f} MB down to learn in 2 rounds" in text
    told_by_policy = next(e["traffic"] for e in told.events if e.get("actor") == "policy")
    said, possible = told_by_policy["messages"], told_by_policy["possible_messages"]
    assert 0 < said <= possible
    assert f"agents: {said} of {possible} possible, {told_by_policy['message_bytes'] / 1e3:.2f} kB" in text
    assert shown[-1] == f"Run folder: {finished}"
    assert f"fedsched evaluate {finished}" in shown[-2]
    paths = (str(finished),)
    assert all(len(line) <= 80 for line in shown if not any(path in line for path in paths))


def test_several_runs_are_compared_with_their_best_rules(finished: Path) -> None:
    told = read_run(finished)
    sites = {e["actor"]: e["sites"].values() for e in told.events if e["kind"] == "operated"}

    def mean(actor: str, figure: str) -> float:
        return sum(s[figure] * s["jobs"] for s in sites[actor]) / sum(s["jobs"] for s in sites[actor])

    ratio = mean("policy+plan", "wait_s") / mean("best-rule", "wait_s")
    *_, heads, learned, planned = several({"seed 0": told})
    assert learned.split()[2:4] == [
        f"{mean('policy', 'bounded_slowdown'):.2f}",
        f"{mean('policy', 'wait_s') / 3600:.2f}",
    ]
    assert planned.startswith("seed 0, with plan ")
    assert planned.split()[-3] == f"{ratio:.3f}"
    sent = next(e["traffic"] for e in told.events if e.get("actor") == "policy")
    share, size = 100 * sent["messages"] / sent["possible_messages"], sent["message_bytes"] / 1e3
    assert heads.endswith("sent %          kB")
    assert learned.split()[-2:] == [f"{share:.1f}", f"{size:.2f}"]
    assert f"wait h {mean('policy+plan', 'wait_s') / 3600:.2f} (x{ratio:.3f})" in in_one_line(told)


def test_runs_whose_agents_cannot_talk_have_no_columns_for_it(finished: Path) -> None:
    told = read_run(finished)
    events = [e | {"traffic": e["traffic"] | {"possible_messages": 0}} if "traffic" in e else e for e in told.events]
    mute = replace(told, events=events)
    *_, heads, learned, _ = several({"seed 0": mute})
    assert heads.endswith("wait h x")
    assert len(learned) == len(heads)
    mixed = several({"mute": mute, "seed 0": told})
    assert [len(line.split()) for line in mixed if line.startswith("mute  ")] == [5]
