"""The table of a finished run."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from fedsched.sim.demo import show
from fedsched.sim.folder import read_run


@pytest.fixture
def shown(finished: Path) -> str:
    console = Console(file=io.StringIO(), width=160)
    show(read_run(finished), console)
    text = console.file.getvalue()
    assert isinstance(text, str)
    return text


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def test_every_site_has_a_row_for_every_actor_and_there_is_a_sum(finished: Path, shown: str) -> None:
    table = rows(shown)
    assert [row[0] for row in table] == [site for site in ("north", "east", "south", "west", "all") for _ in range(4)]
    events = {e["actor"]: e["sites"] for e in read_run(finished).events if e["kind"] == "operated"}
    learned = next(row for row in table if row[:2] == ["north", "learned + plan"])
    known = events["policy+plan"]["north"]
    assert learned[2:] == [
        f"{known['bounded_slowdown']:.2f}", f"{known['wait_s'] / 3600:.2f}", f"{100 * known['utilization']:.1f}",
        f"{known['energy_kwh']:.0f}", f"{known['carbon_kg']:.0f}",
    ]  # fmt: skip


def test_the_last_rows_weigh_sites_by_their_jobs(finished: Path, shown: str) -> None:
    events = {e["actor"]: e["sites"].values() for e in read_run(finished).events if e["kind"] == "operated"}
    first = next(row for row in rows(shown) if row[:2] == ["all", "first come, first served"])
    sites = events["fcfs-easy"]
    jobs = sum(site["jobs"] for site in sites)
    assert first[2] == f"{sum(site['bounded_slowdown'] * site['jobs'] for site in sites) / jobs:.2f}"
    assert first[5] == f"{sum(site['energy_kwh'] for site in sites):.0f}"


def test_it_says_what_was_settled_what_was_sent_and_where_to_look(finished: Path, shown: str) -> None:
    told = read_run(finished)
    traffic = next(e["traffic"] for e in told.events if e.get("actor") == "policy+plan")
    assert f"Settled: 14 plans with {traffic['transfers']} transfers of {traffic['quantity']} processor-hours" in shown
    assert re.search(r"Certificate of the last plan: [0-9a-f]{16} signed by [34] of 4 sites", shown)
    kinds = ("round", "validation")
    up, down = (
        sum(sum(e[way].values()) for e in told.events if e["kind"] in kinds) for way in ("bytes_up", "bytes_down")
    )
    assert f"learning {up / 1e6:.2f} MB up, {down / 1e6:.2f} MB down (search, 2 rounds, validation)" in shown
    assert f"Run folder: {finished}" in shown
    assert f"fedsched evaluate {finished}" in shown.replace("\n", "")
