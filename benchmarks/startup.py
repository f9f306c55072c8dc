"""Start of the command line: wall time of `fedsched --help`, and what it imports.

    python -m benchmarks.startup

Median of ten starts in a warm file cache; the target is half a second. No learning or worker package may be imported.
"""

import subprocess
import sys
import time

import numpy as np

from benchmarks.report import parser, table, write

HELP = [sys.executable, "-m", "fedsched", "--help"]
IMPORTS = "import sys, fedsched.sim.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
HEAVY = ("torch", "ray", "flwr", "warp", "pettingzoo", "gymnasium", "pyarrow")
"""Packages that only commands which need them may import."""
TARGET_S = 0.5


def starts(count: int) -> list[float]:
    """Wall seconds of each of so many starts, after one that warms the file cache."""
    seconds = []
    for k in range(count + 1):
        begin = time.perf_counter()
        subprocess.run(HELP, check=True, stdout=subprocess.DEVNULL)
        if k:
            seconds.append(time.perf_counter() - begin)
    return seconds


def imported() -> list[str]:
    """Top-level packages that the command line imports at its start, outside the standard library."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    return [name for name in done.stdout.split() if name not in sys.stdlib_module_names and not name.startswith("_")]


def main() -> int:
    """Prints and writes the times; 1 if a heavy package is imported."""
    options = parser(__doc__, "startup").parse_args()
    seconds, packages = starts(10), imported()
    heavy = [name for name in HEAVY if name in packages]
    table(
        ["fedsched --help", "seconds"],
        [["median of 10", float(np.median(seconds))], ["fastest", min(seconds)], ["target", TARGET_S]],
    )
    print(f"Imported: {', '.join(packages)}")
    print(f"Heavy packages among them: {', '.join(heavy) or 'none'}")
    write(
        options.out, {"seconds": seconds, "median_s": float(np.median(seconds)), "imported": packages, "heavy": heavy}
    )
    return 1 if heavy else 0


if __name__ == "__main__":
    raise SystemExit(main())
