"""What a finished run prints: its table, what was settled, what crossed the network; and a table of several runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedsched.sim.domains import figures_of
from fedsched.sim.domains.figures import Figure, Figures
from fedsched.sim.folder import Run
from fedsched.sim.table import ALL_SITES, LABELS, rows_of, table, told

_LEARNING = ("search", "round", "validation")
"""Events in which sites and server exchange something to learn."""
_LEARNED = ("policy", "policy+plan")


def summary(finished: Run) -> list[str]:
    """What a finished run achieved: sites by actors, what was settled, what was sent, and where to look."""
    traffic, figures = _traffic(finished), figures_of(finished.scenario)
    return [
        *table(rows_of(finished.events, figures), figures, short=True),
        "",
        *_settled(traffic, figures),
        *_network(finished, traffic),
        f"Look at it: fedsched evaluate {finished.folder}; {_replay(finished)}{finished.folder}/events.jsonl",
        f"Run folder: {finished.folder}",
    ]


def _replay(finished: Run) -> str:
    recorded = any((finished.folder / "frames").glob("part-*.parquet"))
    return f"fedsched replay {finished.folder}; " if recorded else ""


def in_one_line(finished: Run) -> str:
    """The learned policy of a run over all sites, and relative to the best rules."""
    shown = _headline(figures_of(finished.scenario))
    line = "; ".join(
        f"{LABELS[actor]} "
        + ", ".join(
            f"{one.title} {value * one.factor:.2f} (x{ratio:.3f})"
            for one, (value, ratio) in zip(shown, found, strict=True)
        )
        for actor, found in _learned(finished).items()
    )
    return f"{line}; {finished.folder}"


def several(runs: Mapping[str, Run]) -> list[str]:
    """A table of several runs of one domain by what tells them apart: the learned policies over all sites.

    Where agents of any of them could talk, also the share of the possible messages that they sent, and the bytes.
    """
    figures = figures_of(next(iter(runs.values())).scenario)
    shown, lines = _headline(figures), []
    for label, finished in runs.items():
        traffic = _traffic(finished)
        for actor, found in _learned(finished).items():
            name = f"{label}, with plan" if actor.endswith("+plan") else label
            lines.append((name, _cells(found, shown), traffic[actor]))
    width = max(len(label) for label, _, _ in lines) + 2
    heads = [one.title for one in shown] + [f"{one.title} x" for one in shown]
    talk = any(sent.get("possible_messages") for _, _, sent in lines)
    heads += ["sent %", "kB"] if talk else []
    notes = [f"Learned policies, over all {figures.unit_title}; x: relative to the best rules without a plan.", ""]
    return [
        *notes,
        " " * width + "".join(head.rjust(12) for head in heads),
        *(label.ljust(width) + cells + (_said(sent) if talk else "") for label, cells, sent in lines),
    ]


def _traffic(finished: Run) -> dict[str, Mapping[str, Any]]:
    """What was sent while each actor operated."""
    return {event["actor"]: event["traffic"] for event in finished.events if event["kind"] == "operated"}


def _said(sent: Mapping[str, Any]) -> str:
    """Cells of what agents sent: the share of the possible messages, and the bytes."""
    possible = sent.get("possible_messages", 0)
    return f"{100 * sent['messages'] / possible:12.1f}{sent['message_bytes'] / 1e3:12.2f}" if possible else ""


def _cells(found: Sequence[tuple[float, float]], shown: Sequence[Figure]) -> str:
    values = "".join(f"{value * one.factor:12.2f}" for one, (value, _) in zip(shown, found, strict=True))
    return values + "".join(f"{ratio:12.3f}" for _, ratio in found)


def _headline(figures: Figures) -> list[Figure]:
    return [figures[name] for name in figures.headline]


def _learned(finished: Run) -> dict[str, list[tuple[float, float]]]:
    """The headline's figures, and each relative to the best rules without a plan; by learned actor."""
    figures = figures_of(finished.scenario)
    rows = {row["actor"]: row for row in rows_of(finished.events, figures) if row["site"] == ALL_SITES}
    best = rows["best-rule"]
    return {
        actor: [_beside(figures[name], rows[actor][name], best[name]) for name in figures.headline]
        for actor in _LEARNED
        if actor in rows
    }


def _beside(figure: Figure, value: float | None, best: float | None) -> tuple[float, float]:
    """A figure, and relative to the best rules'; not a number where nothing is known, as where no trip ended."""
    if value is None or best is None:
        return math.nan if value is None else value, math.nan
    return value, figure.relative(value, best)


def _settled(traffic: Mapping[str, Mapping[str, Any]], figures: Figures) -> list[str]:
    if "policy+plan" not in traffic:
        return []
    plans = traffic["policy+plan"]
    settled = (
        f"Settled: {plans['settlements']} plans with {plans['transfers']} transfers of {plans['quantity']} "
        f"{figures.traded}"
    )
    moved = f"  {plans['moved']} {figures.unit_title} moved, {plans['data_mb'] / 1e3:.0f} GB with them"
    return [
        *([f"{settled};", moved] if plans["moved"] else [settled]),
        f"Certificate of the last plan: {plans['certificate']}",
    ]


def _network(finished: Run, traffic: Mapping[str, Mapping[str, Any]]) -> list[str]:
    learning = [event for event in finished.events if event["kind"] in _LEARNING]
    up, down = (sum(sum(event[way].values()) for event in learning) for way in ("bytes_up", "bytes_down"))
    rounds = sum(event["kind"] == "round" for event in learning)
    parts = [f"Network: {up / 1e6:.2f} MB up, {down / 1e6:.2f} MB down to learn in {rounds} rounds"]
    if "policy+plan" in traffic:
        parts.append(f"agreement {traffic['policy+plan']['consensus_bytes'] / 1e6:.2f} MB")
    return [*(["; ".join(parts)] if up + down or len(parts) > 1 else []), *told(traffic.get("policy", {}))]
