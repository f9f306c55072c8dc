"""What actors achieved as a table for people: one section a site, one line an actor, at most 80 columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedsched.sim.domains.figures import Figure, Figures, weighted_mean

Row = Mapping[str, Any]
"""One actor at one site: `site`, `actor`, `rule` (what drove the site) and its figures by name."""

ALL_SITES = ""
"""The `site` of a row about all of them."""
SENT = ("messages", "possible_messages", "message_bytes")
"""What a row has beside figures: messages that agents sent, could have sent, and bytes; old runs lack it."""
LABELS = {
    "best-rule": "best rule",
    "policy": "learned",
    "best-rule+plan": "best rule + plan",
    "policy+plan": "learned + plan",
}
_SHORT_ACTORS = ("best-rule", "policy", "policy+plan")
_WIDTH = 8


def rows_of(events: Iterable[Mapping[str, Any]], figures: Figures) -> list[dict[str, Any]]:
    """The rows of a run's events, actor by actor and site by site, and those about all sites behind them."""
    rows = [
        {"site": site, "actor": event["actor"], "rule": found["actor"]}
        | {name: value for name, value in found.items() if name != "actor"}
        for event in events
        if event["kind"] == "operated"
        for site, found in event["sites"].items()
    ]
    return with_totals(rows, figures)


def with_totals(rows: Sequence[dict[str, Any]], figures: Figures) -> list[dict[str, Any]]:
    """The rows, and behind them one for each actor about all sites.

    That is the one that is there, where sites share a world; else what follows from those of each, None where nothing
    does.
    """
    by_actor: dict[str, list[dict[str, Any]]] = {}
    whole = {row["actor"]: row for row in rows if row["site"] == ALL_SITES}
    parts = [row for row in rows if row["site"] != ALL_SITES]
    for row in parts:
        by_actor.setdefault(row["actor"], []).append(row)
    totals = [whole.get(actor) or _total(actor, sites, figures) for actor, sites in by_actor.items()]
    return [*parts, *totals]


def _total(actor: str, sites: Sequence[Row], figures: Figures) -> dict[str, Any]:
    total: dict[str, Any] = {"site": ALL_SITES, "actor": actor, "rule": ""}
    total |= {figure.name: _over(sites, figure, figures.unit) for figure in figures}
    return total | {name: sum(row[name] for row in sites) for name in SENT if name in sites[0]}


def _over(sites: Sequence[Row], figure: Figure, unit: str) -> float | None:
    values = [row[figure.name] for row in sites]
    if figure.over == "sum":
        return float(sum(values))
    if figure.over == "mean":
        return weighted_mean(values, [1.0] * len(values))
    if figure.over == "unit":
        return weighted_mean(values, [float(row[figure.by or unit]) for row in sites])
    return None


def table(rows: Sequence[Row], figures: Figures, short: bool = False) -> list[str]:
    """The lines of the table.

    Args:
        rows: As `with_totals` gives them.
        figures: What is known of them.
        short: Only the actors and figures that matter most.
    """
    plain, plain_label = figures.plain
    labels = {plain: plain_label, **LABELS} if short else LABELS
    shown = [row for row in rows if not short or row["actor"] in (plain, *_SHORT_ACTORS)]
    columns = [figure for figure in figures.columns(short) if _counts(figure, shown)]
    names = {actor: labels.get(actor, actor) for actor in (str(row["actor"]) for row in shown)}
    width = 4 + max(map(len, names.values()))
    lines = [figures.note, "", " " * width + "".join(column.title.rjust(_WIDTH) for column in columns)]
    sites = list(dict.fromkeys(row["site"] for row in shown))
    for site in sites if len(sites) > 2 else sites[:1]:
        here = [row for row in shown if row["site"] == site]
        lines.append(_head(site, here, figures))
        for row in here:
            cells = "".join(_cell(row[column.name], column) for column in columns)
            lines.append(f"  {names[row['actor']]}".ljust(width) + cells)
    return [*lines, *(line for figure in figures if figure.warning for line in _warning(figure, shown, figures.unit))]


def told(row: Row) -> list[str]:
    """What the agents of a row sent to one another, as a line; none where nobody could send anything."""
    messages, possible, size = (row.get(name, 0) for name in SENT)
    return [f"Messages of the policy's agents: {messages} of {possible} possible, {_size(size)}"] if possible else []


def _size(count: int) -> str:
    """Bytes in a unit that leaves something to read."""
    return f"{count / 1e6:.2f} MB" if count >= 100_000 else f"{count / 1e3:.2f} kB"


def _counts(column: Figure, rows: Sequence[Row]) -> bool:
    """Whether a column says something: without a series there is neither carbon nor cost."""
    return any(row[column.name] for row in rows)


def _head(site: str, rows: Sequence[Row], figures: Figures) -> str:
    units = f"{rows[0][figures.unit]:.0f} {figures.unit_title} a period"
    best = next((f", best rule {row['rule']}" for row in rows if row["actor"] == "best-rule" and row["rule"]), "")
    return f"{site or 'all sites'}: {units}{best}"


def _cell(value: float | None, column: Figure) -> str:
    if value is None:
        return "-".rjust(_WIDTH)
    scaled = value * column.factor
    text = f"{scaled:.{column.digits}f}"
    return (text if len(text) < _WIDTH else f"{scaled:.0f}").rjust(_WIDTH)


def _warning(figure: Figure, rows: Sequence[Row], unit: str) -> list[str]:
    """What is above the usual, at each site; of all sites where only that is known."""
    known = [row for row in rows if row["site"] != ALL_SITES and row[figure.name] is not None]
    found = [
        f"  {row['site'] or 'all sites'}, {LABELS.get(row['actor'], row['actor'])}: {row[figure.name]:.1f}"
        for row in known or rows
        if row[figure.name] is not None and row[figure.name] > figure.usual * row[unit]
    ]
    return [figure.warning, *found] if found else []
