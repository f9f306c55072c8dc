"""How benchmark programs report: a table for people, and JSON with what it was measured with."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from fedsched.sim.provenance import git_state, versions

NEW = Path("runs") / "benchmarks"
"""Where results go; those in benchmarks/results/, which README tells, are written by `--out` alone."""


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """A parser whose help is the program's docstring, with the option `--out`."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=NEW / f"{name}.json", help="where the JSON goes, %(default)s")
    return made


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints rows below each other; numbers to the right, None as a dash."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(columns))]
    left = [all(isinstance(row[k], str) for row in rows) for k in range(len(columns))]
    for row in cells:
        aligned = (c.ljust(w) if side else c.rjust(w) for c, w, side in zip(row, widths, left, strict=True))
        print("  ".join(aligned).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.5g}" if abs(value) < 1 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def paired(mine: Sequence[float], other: Sequence[float]) -> str:
    """By how much paired values are larger in the mean, and the 95 % interval (Student's t) where there are several."""
    from scipy.stats import t as student

    gained = np.subtract(mine, other)
    if len(gained) < 2:
        return f"{gained.mean():+.3f}"
    half = float(student.ppf(0.975, len(gained) - 1)) * float(gained.std(ddof=1)) / len(gained) ** 0.5
    return f"{gained.mean():+.3f} ({gained.mean() - half:+.3f} to {gained.mean() + half:+.3f})"


def write(path: Path, results: Mapping[str, object]) -> None:
    """Writes results with versions, machine, load and command."""
    record = {
        "command": " ".join(["python", "-m", f"benchmarks.{_program()}", *sys.argv[1:]]),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git": git_state(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "load": os.getloadavg(), "system": platform.platform()},
        **results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"Written: {path}")


def _program() -> str:
    """Name of the file that runs, or of the folder whose `__main__.py` does."""
    place = Path(sys.argv[0])
    return place.parent.name if place.stem == "__main__" else place.stem


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
