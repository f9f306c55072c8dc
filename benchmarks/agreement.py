"""Our traffic against SUMO 1.28: difference of means, its 95 % interval, the bar and the verdict of every cell.

    python -m benchmarks.agreement TRUTH MAPS                       # our traffic, all cells of TRUTH
    python -m benchmarks.agreement TRUTH MAPS --maps grid4x4 --seeds 0 1 2
    python -m benchmarks.agreement TRUTH --ours FOLDER              # results that are there already
    python -m benchmarks.agreement_page benchmarks/results/agreement.json    # the table of docs/intersections.md

TRUTH is what `benchmarks.sumo_truth` wrote; MAPS the folder it was made from. Bars: S a serious implementation, X an
exceptional one; in % of SUMO's mean, for the departure delay in s. Agreement is statistical: the same vehicles on the
same routes, but speed factors and dawdling of their own. Also: the order of the controllers, and the time on edges.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.agreement_measures import Cell, Row, compare, order, read_cell, swapped
from benchmarks.report import parser, table, write

COLUMNS = ("map", "controller", "metric", "SUMO", "ours", "diff %", "95 % interval", "S", "X", "verdict", "seeds",
           "gridlocked")  # fmt: skip


def read_cells(folder: Path, maps: Sequence[str] | None) -> dict[tuple[str, str], Cell]:
    """All cells of a folder of maps."""
    paths = sorted(folder.glob("*/*.json"))
    return {(p.parent.name, p.stem): read_cell(p) for p in paths if maps is None or p.parent.name in maps}


def simulated(maps: Path, truth: Path, cell: Cell, seeds: Sequence[int] | None) -> Cell:
    """The same cell under our own traffic."""
    from benchmarks.own_traffic import simulate

    numbers = [int(seed) for seed in cell.seeds] if seeds is None else list(seeds)
    made: Cell = simulate(maps / cell.map, truth / cell.map / "fixed.rou.xml", cell.controller, numbers)
    return made


def shown(row: Row) -> list[object]:
    """A row as the table has it."""
    interval = None if row.low is None else f"{row.low:+.1f} to {row.high:+.1f}"
    percent = None if row.percent is None else round(row.percent, 2)
    means = round(row.theirs, 2), round(row.ours, 2)
    sides = (f"{a}/{b}" for a, b in (row.seeds, row.gridlocked))
    bars = None if row.bar_s is None else float(row.bar_s), None if row.bar_x is None else round(row.bar_x, 2)
    return [row.map, row.controller, row.metric, *means, percent, interval, *bars, row.verdict, *sides]


class Order(msgspec.Struct, frozen=True):
    """The controllers of a map in order of delay; `verdict`: `same`, `within noise` or `differs`."""

    map: str
    theirs: list[str]
    ours: list[str]
    verdict: str


def orders(truth: dict[tuple[str, str], Cell], ours: dict[tuple[str, str], Cell]) -> list[Order]:
    """The controllers of each map in order of delay, on both sides."""
    found = []
    for name in sorted({name for name, _ in ours}):
        theirs = {
            controller: cell for (of, controller), cell in truth.items() if (of, controller) in ours and of == name
        }
        own = {controller: ours[name, controller] for controller in theirs}
        wrong = swapped(theirs, own)
        left, right = order(theirs, theirs), order(own, theirs)
        judged = "same" if left == right else "within noise" if not wrong else "differs"
        found.append(Order(name, left, right, judged))
    return found


def main() -> None:
    """Compares and prints."""
    options = parser(__doc__, "agreement")
    options.add_argument("truth", type=Path, metavar="TRUTH")
    options.add_argument("maps_folder", type=Path, nargs="?", metavar="MAPS")
    options.add_argument("--ours", type=Path, metavar="FOLDER", help="cells of the other side")
    options.add_argument("--maps", nargs="+")
    options.add_argument("--seeds", nargs="+", type=int)
    chosen = options.parse_args()
    if (chosen.ours is None) == (chosen.maps_folder is None):
        options.error("give either MAPS or --ours")
    truth = read_cells(chosen.truth, chosen.maps)
    if chosen.ours is not None:
        ours = {key: cell for key, cell in read_cells(chosen.ours, chosen.maps).items() if key in truth}
    else:
        ours = {key: simulated(chosen.maps_folder, chosen.truth, cell, chosen.seeds) for key, cell in truth.items()}
    rows = [row for key, cell in ours.items() for row in compare(truth[key], cell)]
    table(COLUMNS, [shown(row) for row in rows])
    ranking = orders(truth, ours)
    print()
    columns = ("map", "SUMO's order", "ours", "verdict")
    table(columns, [(o.map, " < ".join(o.theirs), " < ".join(o.ours), o.verdict) for o in ranking])
    counted = Counter(row.verdict for row in rows if row.verdict)
    print("\nVerdicts: " + ", ".join(f"{counted[name]} {name}" for name in ("X", "S", "above")))
    simulators = sorted({cell.simulator for cell in [*truth.values(), *ours.values()]})
    files = {cell.map: [cell.network_sha256, cell.routes_sha256] for cell in ours.values()}
    found = {"rows": msgspec.to_builtins(rows), "orders": msgspec.to_builtins(ranking)}
    write(chosen.out, {"simulators": simulators, "network_and_routes_sha256": files, **found})


if __name__ == "__main__":
    main()
