"""What actors achieved as a table for people: one section a site, one line an actor, at most 80 columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]
"""One actor at one site: `site`, `actor`, `rule` (what drove the site) and its figures by name (`operate.FIGURES`)."""

ALL_SITES = ""
"""The `site` of a row about all of them."""
LABELS = {
    "best-rule": "best rule",
    "policy": "learned",
    "best-rule+plan": "best rule + plan",
    "policy+plan": "learned + plan",
}
_SHORT_LABELS = {"fcfs-easy": "first come, first served", **LABELS}
_SHORT_ACTORS = ("fcfs-easy", "best-rule", "policy", "policy+plan")


class _Column(NamedTuple):
    figure: str
    title: str
    digits: int
    factor: float


_COLUMNS = (
    _Column("bounded_slowdown", "slowdown", 2, 1.0),
    _Column("wait_s", "wait h", 2, 1 / 3600.0),
    _Column("p99_wait_s", "p99 h", 2, 1 / 3600.0),
    _Column("utilization", "busy %", 1, 100.0),
    _Column("energy_kwh", "kWh", 0, 1.0),
    _Column("carbon_kg", "CO2 kg", 0, 1.0),
    _Column("cost", "cost", 0, 1.0),
)
_SHORT = ("bounded_slowdown", "wait_s", "utilization", "energy_kwh", "carbon_kg")
_SUMS = ("energy_kwh", "carbon_kg", "cost", "jobs", "unfinished")
_WIDTH = 8


def rows_of(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a run's events, actor by actor and site by site, and those about all sites behind them."""
    rows = [
        {"site": site, "actor": event["actor"], "rule": figures["actor"]}
        | {name: value for name, value in figures.items() if name != "actor"}
        for event in events
        if event["kind"] == "operated"
        for site, figures in event["sites"].items()
    ]
    return with_totals(rows)


def with_totals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, and one more for each actor: means over all jobs, of busy shares over sites, sums of the rest.

    The 99th percentile of all jobs does not follow from those of the sites: None.
    """
    by_actor: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_actor.setdefault(row["actor"], []).append(row)
    return [*rows, *(_total(actor, sites) for actor, sites in by_actor.items())]


def _total(actor: str, sites: Sequence[Row]) -> dict[str, Any]:
    total: dict[str, Any] = {"site": ALL_SITES, "actor": actor, "rule": ""}
    jobs = sum(row["jobs"] for row in sites)
    for name in sites[0]:
        if name in _SUMS:
            total[name] = sum(row[name] for row in sites)
        elif name == "utilization":
            total[name] = sum(row[name] for row in sites) / len(sites)
        elif name == "p99_wait_s":
            total[name] = None
        elif name not in total:
            total[name] = sum(row[name] * row["jobs"] for row in sites) / jobs
    return total


def table(rows: Sequence[Row], short: bool = False) -> list[str]:
    """The lines of the table.

    Args:
        rows: As `with_totals` gives them.
        short: Only the actors and figures that matter most.
    """
    labels = _SHORT_LABELS if short else LABELS
    shown = [row for row in rows if not short or row["actor"] in _SHORT_ACTORS]
    columns = [column for column in _COLUMNS if _counts(column, shown) and (not short or column.figure in _SHORT)]
    names = {actor: labels.get(actor, actor) for actor in (str(row["actor"]) for row in shown)}
    width = 4 + max(map(len, names.values()))
    lines = ["Means over the test periods; waits and slowdowns count at the home site."]
    lines += ["", " " * width + "".join(column.title.rjust(_WIDTH) for column in columns)]
    sites = list(dict.fromkeys(row["site"] for row in shown))
    for site in sites if len(sites) > 2 else sites[:1]:
        here = [row for row in shown if row["site"] == site]
        lines.append(_head(site, here))
        for row in here:
            cells = "".join(_cell(row[column.figure], column) for column in columns)
            lines.append(f"  {names[row['actor']]}".ljust(width) + cells)
    return [*lines, *_unfinished(shown)]


def _counts(column: _Column, rows: Sequence[Row]) -> bool:
    """Whether a column says something: without a series there is neither carbon nor cost."""
    return any(row[column.figure] for row in rows)


def _head(site: str, rows: Sequence[Row]) -> str:
    jobs = f"{rows[0]['jobs']:.0f} jobs a period"
    best = next((f", best rule {row['rule']}" for row in rows if row["actor"] == "best-rule" and row["rule"]), "")
    return f"{site or 'all sites'}: {jobs}{best}"


def _cell(value: float | None, column: _Column) -> str:
    if value is None:
        return "-".rjust(_WIDTH)
    scaled = value * column.factor
    text = f"{scaled:.{column.digits}f}"
    return (text if len(text) < _WIDTH else f"{scaled:.0f}").rjust(_WIDTH)


def _unfinished(rows: Sequence[Row]) -> list[str]:
    found = [
        f"  {row['site']}, {LABELS.get(row['actor'], row['actor'])}: {row['unfinished']:.1f}"
        for row in rows
        if row["site"] != ALL_SITES and row["unfinished"]
    ]
    return ["Jobs a period that had not started at the end of the drain:", *found] if found else []
