"""The demo: the main job in minutes, and what came of it as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fedsched.sim.folder import Run, read_run
from fedsched.sim.progress import Progress
from fedsched.sim.run import run
from fedsched.sim.scenario import load_scenario

_COLUMNS = {
    "bounded_slowdown": ("slowdown", "{:.2f}", 1.0),
    "wait_s": ("wait h", "{:.2f}", 1 / 3600.0),
    "utilization": ("busy %", "{:.1f}", 100.0),
    "energy_kwh": ("energy kWh", "{:.0f}", 1.0),
    "carbon_kg": ("carbon kg", "{:.0f}", 1.0),
}
_LEARNING = ("search", "round", "validation")
"""Events in which sites and server exchange something to learn."""
_ACTORS = {
    "fcfs-easy": "first come, first served",
    "best-rule": "best classical rule",
    "policy": "learned",
    "policy+plan": "learned + plan",
}


def demo(progress: Progress, out: Path | None) -> Path:
    """Runs the scenario `demo` and prints its table.

    Args:
        progress: Where to report.
        out: The run folder to make; None: one below `runs/`.

    Returns:
        The run folder.
    """
    folder = run(load_scenario("demo"), out, None, progress)
    show(read_run(folder), Console())
    return folder


def show(finished: Run, console: Console) -> None:
    """Prints what a finished run achieved: sites by actors, what was settled, and what crossed the network."""
    operated = {event["actor"]: event for event in finished.events if event["kind"] == "operated"}
    console.print(_table(operated))
    for line in (*_settled(operated), *_network(finished, operated)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Run folder: {finished.folder}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"Look at it: fedsched evaluate {finished.folder}; {finished.folder}/events.jsonl", soft_wrap=True)


def _table(operated: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="Means over the test periods; waits and slowdowns count at the home site")
    table.add_column("site")
    table.add_column("scheduled by")
    for title, _, _ in _COLUMNS.values():
        table.add_column(title, justify="right")
    sites = list(next(iter(operated.values()))["sites"])
    for site in sites:
        for actor, label in _ACTORS.items():
            if actor in operated:
                figures = operated[actor]["sites"][site]
                name = f"{label} ({figures['actor']})" if actor == "best-rule" else label
                table.add_row(site, name, *_cells([figures]))
        table.add_section()
    for actor, label in _ACTORS.items():
        if actor in operated:
            table.add_row("all", label, *_cells(list(operated[actor]["sites"].values())))
    return table


def _cells(sites: Sequence[Mapping[str, float]]) -> list[str]:
    """Means of several sites, weighted by jobs where a figure is one of jobs; energy and carbon are added up."""
    jobs = [site["jobs"] for site in sites]
    cells = []
    for figure, (_, form, factor) in _COLUMNS.items():
        values = [site[figure] for site in sites]
        if figure in ("energy_kwh", "carbon_kg"):
            value = sum(values)
        elif figure == "utilization":
            value = sum(values) / len(values)
        else:
            value = sum(v * n for v, n in zip(values, jobs, strict=True)) / sum(jobs)
        cells.append(form.format(value * factor))
    return cells


def _settled(operated: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if "policy+plan" not in operated:
        return []
    traffic = operated["policy+plan"]["traffic"]
    return [
        f"Settled: {traffic['settlements']} plans with {traffic['transfers']} transfers of {traffic['quantity']} "
        f"processor-hours; {traffic['jobs']} jobs moved, {traffic['data_mb'] / 1e3:.0f} GB with them",
        f"Certificate of the last plan: {traffic['certificate']}",
    ]


def _network(finished: Run, operated: Mapping[str, Mapping[str, Any]]) -> list[str]:
    learning = [event for event in finished.events if event["kind"] in _LEARNING]
    up, down = (sum(sum(event[way].values()) for event in learning) for way in ("bytes_up", "bytes_down"))
    rounds = sum(event["kind"] == "round" for event in learning)
    agreement = operated.get("policy+plan", {}).get("traffic", {}).get("consensus_bytes", 0)
    return [
        f"Network: learning {up / 1e6:.2f} MB up, {down / 1e6:.2f} MB down (search, {rounds} rounds, validation); "
        f"agreement {agreement / 1e6:.2f} MB"
    ]
