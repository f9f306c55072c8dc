"""The table of actors: figures worked out by hand, and a width of 80 columns."""

from typing import Any

import pytest

from fedsched.sim.domains.datacenter.figures import FIGURES
from fedsched.sim.domains.intersections.figures import FIGURES as CITY
from fedsched.sim.table import rows_of, table, with_totals


def row(site: str, actor: str, **figures: float | None) -> dict[str, Any]:
    known = dict.fromkeys(FIGURES.names, 1.0) | {"unfinished": 0.0} | figures
    return {"site": site, "actor": actor, "rule": "unicep-easy", **known}


def test_all_sites_weigh_jobs_and_add_up_energy() -> None:
    rows = [
        row("a", "policy", jobs=30.0, bounded_slowdown=10.0, wait_s=3600.0, utilization=0.2, energy_kwh=7.0),
        row("b", "policy", jobs=10.0, bounded_slowdown=2.0, wait_s=0.0, utilization=0.6, energy_kwh=5.0),
    ]
    *sites, total = with_totals(rows, FIGURES)
    assert sites == rows
    assert (total["site"], total["actor"]) == ("", "policy")
    assert (total["jobs"], total["energy_kwh"], total["p99_wait_s"]) == (40.0, 12.0, None)
    assert (total["bounded_slowdown"], total["wait_s"]) == (8.0, 2700.0)
    assert total["utilization"] == pytest.approx(0.4)
    assert table([*sites, total], FIGURES)[-1].split() == ["learned", "8.00", "0.75", "-", "40.0", "12", "2", "2"]


def test_it_reads_well_in_80_columns_whatever_the_figures() -> None:
    large = {"bounded_slowdown": 123456.7, "wait_s": 3.6e9, "p99_wait_s": 1e7, "utilization": 1.0, "cost": 12345.6}
    actors = ("fcfs-easy", "unicep-easy", "best-rule", "policy", "best-rule+plan", "policy+plan")
    site = "a" * 32
    lines = table(with_totals([row(site, actor, **large, energy_kwh=1234567.0) for actor in actors], FIGURES), FIGURES)
    assert max(map(len, lines)) <= 80
    assert not any("e+" in line or "\u2026" in line for line in lines)
    assert f"{site}: 1 jobs a period, best rule unicep-easy" in lines
    assert "  best rule + plan    123457 1000000 2777.78   100.0 1234567       1   12346" in lines


def test_what_no_series_gives_is_left_out_and_work_left_over_is_told() -> None:
    rows = with_totals([row("a", "policy", carbon_kg=0.0, cost=0.0, unfinished=2.5)], FIGURES)
    lines = table(rows, FIGURES)
    assert lines[2].split() == ["slowdown", "wait", "h", "p99", "h", "busy", "%", "kWh"]
    assert lines[-2:] == ["Jobs a period that had not started at the end of the drain:", "  a, learned: 2.5"]


def test_rows_come_from_the_events_of_a_run() -> None:
    figures = {"actor": "saf-easy", **dict.fromkeys(FIGURES.names, 1.0)}
    events = [{"kind": "round"}, {"kind": "operated", "actor": "best-rule", "sites": {"a": figures}}]
    [one, total] = rows_of(events, FIGURES)
    assert (one["site"], one["rule"], total["site"]) == ("a", "saf-easy", "")
    assert table([one, total], FIGURES, short=True)[3] == "a: 1 jobs a period, best rule saf-easy"


def test_a_single_site_is_not_told_twice() -> None:
    assert sum("jobs a period" in line for line in table(with_totals([row("a", "policy")], FIGURES), FIGURES)) == 1


def test_a_site_where_nothing_is_known_has_no_weight() -> None:
    rows = [row("a", "policy", wait_s=3600.0, jobs=3.0), row("b", "policy", wait_s=None, jobs=9.0)]
    *_, total = with_totals(rows, FIGURES)
    assert (total["wait_s"], total["jobs"]) == (3600.0, 12.0)
    *_, nobody = with_totals([row("a", "policy", wait_s=None), row("b", "policy", jobs=0.0)], FIGURES)
    assert nobody["wait_s"] is None
    third = row("c", "policy", wait_s=None)
    assert table(with_totals([*rows, third], FIGURES), FIGURES)[-3].split()[:3] == ["learned", "1.00", "-"]


def test_a_mean_over_completed_trips_is_weighted_by_these() -> None:
    known = dict.fromkeys(CITY.names, 1.0) | {"never_inserted": 0.0, "gridlock": 0.0}
    rows = [
        {"site": site, "actor": "policy", "rule": "", **known, "trips": trips, "completed": done, "duration_s": mean}
        for site, trips, done, mean in (("a", 100.0, 10.0, 50.0), ("b", 100.0, 90.0, 100.0))
    ]
    assert with_totals(rows, CITY)[-1]["duration_s"] == pytest.approx(95.0)
