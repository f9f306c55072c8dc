"""What a finished run prints: its table, what was settled, what crossed the network; and a table of several runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedsched.sim.folder import Run
from fedsched.sim.table import ALL_SITES, LABELS, rows_of, table

_LEARNING = ("search", "round", "validation")
"""Events in which sites and server exchange something to learn."""
_LEARNED = ("policy", "policy+plan")


def summary(finished: Run) -> list[str]:
    """What a finished run achieved: sites by actors, what was settled, what was sent, and where to look."""
    traffic = {event["actor"]: event["traffic"] for event in finished.events if event["kind"] == "operated"}
    return [
        *table(rows_of(finished.events), short=True),
        "",
        *_settled(traffic),
        *_network(finished, traffic),
        f"Look at it: fedsched evaluate {finished.folder}; {finished.folder}/events.jsonl",
        f"Run folder: {finished.folder}",
    ]


def in_one_line(finished: Run) -> str:
    """The learned policy of a run over all sites, and relative to the best rules."""
    line = "; ".join(
        f"{LABELS[actor]} slowdown {slowdown:.2f} (x{by_slowdown:.3f}), wait {wait_h:.2f} h (x{by_wait:.3f})"
        for actor, (slowdown, wait_h, by_slowdown, by_wait) in _learned(finished).items()
    )
    return f"{line}; {finished.folder}"


def several(runs: Mapping[str, Run]) -> list[str]:
    """A table of several runs by what tells them apart: the learned policies over all sites."""
    lines = []
    for label, finished in runs.items():
        for actor, figures in _learned(finished).items():
            lines.append((f"{label}, with plan" if actor.endswith("+plan") else label, figures))
    width = max(len(label) for label, _ in lines) + 2
    heads = ("slowdown", "wait h", "slowdown x", "wait x")
    notes = ["Learned policies, over all jobs; x: relative to the best rules without a plan.", ""]
    return [
        *notes,
        " " * width + "".join(head.rjust(12) for head in heads),
        *(label.ljust(width) + _figures(figures) for label, figures in lines),
    ]


def _figures(figures: Sequence[float]) -> str:
    slowdown, wait_h, *ratios = figures
    return f"{slowdown:12.2f}{wait_h:12.2f}" + "".join(f"{ratio:12.3f}" for ratio in ratios)


def _learned(finished: Run) -> dict[str, tuple[float, float, float, float]]:
    """Slowdown, wait in hours, and both relative to the best rules without a plan; by learned actor."""
    rows = {row["actor"]: row for row in rows_of(finished.events) if row["site"] == ALL_SITES}
    best = rows["best-rule"]
    return {
        actor: (
            rows[actor]["bounded_slowdown"],
            rows[actor]["wait_s"] / 3600.0,
            rows[actor]["bounded_slowdown"] / best["bounded_slowdown"],
            rows[actor]["wait_s"] / max(best["wait_s"], 1e-9),
        )
        for actor in _LEARNED
        if actor in rows
    }


def _settled(traffic: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if "policy+plan" not in traffic:
        return []
    plans = traffic["policy+plan"]
    return [
        f"Settled: {plans['settlements']} plans with {plans['transfers']} transfers of {plans['quantity']} "
        "processor-hours;",
        f"  {plans['jobs']} jobs moved, {plans['data_mb'] / 1e3:.0f} GB with them",
        f"Certificate of the last plan: {plans['certificate']}",
    ]


def _network(finished: Run, traffic: Mapping[str, Mapping[str, Any]]) -> list[str]:
    learning = [event for event in finished.events if event["kind"] in _LEARNING]
    up, down = (sum(sum(event[way].values()) for event in learning) for way in ("bytes_up", "bytes_down"))
    rounds = sum(event["kind"] == "round" for event in learning)
    parts = [f"Network: {up / 1e6:.2f} MB up, {down / 1e6:.2f} MB down to learn in {rounds} rounds"]
    if "policy+plan" in traffic:
        parts.append(f"agreement {traffic['policy+plan']['consensus_bytes'] / 1e6:.2f} MB")
    return ["; ".join(parts)] if up + down or len(parts) > 1 else []
