"""The table of agreement as docs/intersections.md has it, from what `benchmarks.agreement` wrote.

python -m benchmarks.agreement_page benchmarks/results/agreement.json
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = ("duration_s", "waiting_s", "delay_s", "completed", "edge times")
HEAD = "| map (net, demand) | controller | duration | waiting | RESCO delay | completed | edge times | jams SUMO/ours |"
VERDICTS = {"X": " X", "S": " S", "above": " NO", "": ""}

Row = Mapping[str, Any]


def figure(row: Row | None) -> str:
    """Difference in %, its interval where there is one, the verdict."""
    if row is None or row["percent"] is None:
        return "-"
    verdict = VERDICTS[row["verdict"]]
    if row["metric"] == "edge times":
        return f"{row['percent']:.1f}{verdict}"
    if row["metric"] == "completed":
        return f"{row['percent']:+.1f}{verdict}"
    return f"{row['percent']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]{verdict}"


def lines(results: Mapping[str, Any]) -> list[str]:
    """The table, a line per map and controller."""
    cells: dict[tuple[str, str], dict[str, Row]] = {}
    for row in results["rows"]:
        cells.setdefault((row["map"], row["controller"]), {})[row["metric"]] = row
    found, above = [HEAD, "| --- " * HEAD.count(" | ") + "| --- |"], ""
    for (name, controller), rows in sorted(cells.items()):
        digests = ", ".join(digest[:8] for digest in results["network_and_routes_sha256"][name])
        first = "" if name == above else f"{name} ({digests})"
        jams = "/".join(str(jammed) for jammed in rows["duration_s"]["gridlocked"])
        shown = [figure(rows.get(metric)) for metric in COLUMNS]
        found.append(f"| {' | '.join([first, controller, *shown, jams])} |")
        above = name
    return found


def main() -> None:
    """Prints it, and how many figures meet which bar."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("results", type=Path)
    results = json.loads(options.parse_args().results.read_bytes())
    print("\n".join(lines(results)))
    for metric in (None, "edge times"):
        counted = Counter(
            row["verdict"] for row in results["rows"] if row["verdict"] and metric in (None, row["metric"])
        )
        if not counted:
            continue
        verdicts = ", ".join(f"{counted[name]} {VERDICTS[name].strip()}" for name in ("X", "S", "above"))
        print(f"\nOf {sum(counted.values())} figures{f' of {metric}' if metric else ''} with a bar: {verdicts}.")


if __name__ == "__main__":
    main()
