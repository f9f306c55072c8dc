"""How far two simulators are apart on one map under one controller, and the bars for it.

Both sides are cells as `benchmarks.sumo_truth` writes them. Seeds in which the traffic jams for good are counted apart:
those with more than twice their side's median number of vehicles on the road at the end.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

METRICS = ("duration_s", "time_loss_s", "waiting_s", "delay_s", "depart_delay_s", "completed", "never_inserted")
GRIDLOCK = 2.0
"""Times the median of SUMO's vehicles on the road at the end: more is a jam, on either side."""
LEVEL = 0.95


EdgeTimes = Mapping[str, tuple[int, float]]


class Seed(msgspec.Struct, frozen=True):
    """One run; see `fedsched.envs.intersections.sumo.outputs.Outcome`.

    Attributes:
        edges: Per edge how many vehicles left it and after how many seconds on average.
    """

    completed: int
    running: int
    never_inserted: int
    duration_s: float
    time_loss_s: float
    waiting_s: float
    depart_delay_s: float
    delay_s: float
    edges: EdgeTimes


class Cell(msgspec.Struct, frozen=True):
    """One map under one controller; `network_sha256` is of the uncompressed file, empty where nobody noted it."""

    map: str
    controller: str
    simulator: str
    routes_sha256: str
    seeds: dict[str, Seed]
    network_sha256: str = ""


class Simulate(Protocol):
    """Our own traffic: runs seeds of a cell on fixed routes."""

    def __call__(self, folder: Path, routes: Path, controller: str, seeds: Sequence[int]) -> Cell:
        """Runs them.

        Args:
            folder: Of the map: `.sumocfg`, net.
            routes: The fixed route file.
            controller: One that `benchmarks.sumo_truth` has, with its timing for the map.
            seeds: Of speed factors and dawdling.
        """


def read_cell(path: Path) -> Cell:
    """Reads a cell; raises msgspec.ValidationError where something is missing."""
    return msgspec.json.decode(path.read_bytes(), type=Cell)


class Bars(msgspec.Struct, frozen=True):
    """Greatest differences of means in %: serious (s) and exceptional (x)."""

    static: tuple[float, float]
    adaptive: tuple[float, float]
    delay: tuple[float, float]
    depart_delay_s: float = 1.0


BARS = {
    "grid4x4": Bars((1, 0.4), (1, 0.5), (2, 1)),
    "cologne8": Bars((1.5, 0.5), (1.5, 0.5), (3, 1)),
    "cologne1": Bars((2, 1), (4, 1.5), (8, 3)),
    "cologne3": Bars((2, 1), (3, 1.5), (8, 3)),
    "ingolstadt1": Bars((2, 1), (2, 1), (5, 2)),
    "ingolstadt7": Bars((5, 2), (4, 1.5), (10, 4), depart_delay_s=5.0),
    "arterial4x4": Bars((2, 1), (3, 1.5), (4, 2)),
    "ingolstadt21": Bars((5, 2), (5, 3), (12, 6)),
}
NO_BAR = frozenset({("arterial4x4", "mp")})
"""Bistable in SUMO itself: its seeds spread by a quarter."""
COMPLETED_PERCENT = 0.5
EDGE_PERCENT = 5.0


Figures = tuple[float, float, float | None, float | None, float | None, float | None, float | None, str]
"""From `theirs` to `verdict` of a `Row`."""


class Row(msgspec.Struct, frozen=True):
    """One compared figure; differences ours minus theirs.

    Attributes:
        map: Map.
        controller: Controller.
        metric: An entry of `METRICS`, or `edge times`.
        theirs: Mean over sound seeds.
        ours: Mean over sound seeds.
        percent: Difference in % of theirs; of edge times the mean difference without sign, edge by edge.
        low: Lower end of the 95 % interval of the difference (Welch), in %.
        high: Upper end.
        bar_s: Greatest serious difference, in % (depart delay: in s); None where there is no bar.
        bar_x: Greatest exceptional one.
        verdict: `X`, `S`, `above`, or empty where there is no bar; by the difference of the means.
        seeds: Sound seeds, theirs and ours.
        gridlocked: Others, theirs and ours.
    """

    map: str
    controller: str
    metric: str
    theirs: float
    ours: float
    percent: float | None
    low: float | None
    high: float | None
    bar_s: float | None
    bar_x: float | None
    verdict: str
    seeds: tuple[int, int]
    gridlocked: tuple[int, int]


def sound(cell: Cell, measure: Cell) -> list[Seed]:
    """The seeds that do not jam for good; `measure` says how many are usually on the road at the end."""
    most = GRIDLOCK * float(np.median([seed.running for seed in measure.seeds.values()]))
    return [seed for seed in cell.seeds.values() if seed.running <= most]


def values(seeds: Sequence[Seed], metric: str) -> npt.NDArray[np.float64]:
    """A figure of every seed."""
    return np.array([getattr(seed, metric) for seed in seeds], dtype=np.float64)


def welch(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the difference of means under unequal variances; infinite with fewer than two values a side."""
    if min(len(ours), len(theirs)) < 2:
        return -np.inf, np.inf
    difference = float(ours.mean() - theirs.mean())
    parts = [float(side.var(ddof=1)) / len(side) for side in (ours, theirs)]
    error = float(np.sqrt(sum(parts)))
    if error == 0:
        return difference, difference
    freedom = sum(parts) ** 2 / sum(p**2 / (len(side) - 1) for p, side in zip(parts, (ours, theirs), strict=True))
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * error
    return difference - half, difference + half


def bars_of(cell: Cell, metric: str) -> tuple[float | None, float | None]:
    """Serious and exceptional bar of a metric."""
    bars = BARS.get(cell.map)
    if bars is None or (cell.map, cell.controller) in NO_BAR or cell.controller == "actuated":
        return None, None
    duration = bars.static if cell.controller == "static" else bars.adaptive
    return {
        "duration_s": duration,
        "waiting_s": (2 * duration[0], 2 * duration[1]),
        "delay_s": bars.delay,
        "completed": (COMPLETED_PERCENT, None),
        "depart_delay_s": (bars.depart_delay_s, None),
    }.get(metric, (None, None))


def verdict(size: float, serious: float | None, exceptional: float | None) -> str:
    """`X`, `S` or `above`; empty without a bar."""
    if serious is None:
        return ""
    if exceptional is not None and size <= exceptional:
        return "X"
    return "S" if size <= serious else "above"


def compare(truth: Cell, ours: Cell) -> list[Row]:
    """Every figure of a cell, and the time on edges where both sides measured it.

    Raises:
        ValueError: They are not the same map, controller and routes; or the networks, where both sides noted them.
    """
    noted = ("network_sha256",) if truth.network_sha256 and ours.network_sha256 else ()
    for name in ("map", "controller", "routes_sha256", *noted):
        if getattr(truth, name) != getattr(ours, name):
            raise ValueError(f"{name} differs: {getattr(truth, name)} and {getattr(ours, name)}")
    left, right = sound(truth, truth), sound(ours, truth)
    seeds = len(left), len(right)
    gridlocked = len(truth.seeds) - len(left), len(ours.seeds) - len(right)
    rows = []
    for metric in METRICS:
        a, b = values(left, metric), values(right, metric)
        theirs, own = float(a.mean()), float(b.mean())
        scale = 100 / theirs if theirs else None
        percent, low, high = (None if scale is None else scale * x for x in (own - theirs, *welch(b, a)))
        size = own - theirs if metric == "depart_delay_s" else percent
        bars = bars_of(truth, metric)
        judged = "" if size is None else verdict(abs(size), *bars)
        figures: Figures = (theirs, own, percent, low, high, bars[0], bars[1], judged)
        rows.append(Row(truth.map, truth.controller, metric, *figures, seeds, gridlocked))
    if not all(seed.edges for seed in [*left, *right]):
        return rows
    figures = _edge_figures(left, right, bars_of(truth, "duration_s")[0] is not None)
    return [*rows, Row(truth.map, truth.controller, "edge times", *figures, seeds, gridlocked)]


def _edge_figures(left: Sequence[Seed], right: Sequence[Seed], barred: bool) -> Figures:
    """Time on edges, all seeds pooled; exceptional: serious, and not above theirs from one seed to the next."""
    theirs, own, error = edge_error(*(pooled(seed.edges for seed in side) for side in (right, left)))
    pairs = [edge_error(b.edges, a.edges) for a, b in zip(left[::2], left[1::2], strict=False)]
    between_seeds = float(np.mean([100 * e / mean for mean, _, e in pairs])) if pairs else None
    percent = 100 * error / theirs
    serious, exceptional = (EDGE_PERCENT, between_seeds) if barred else (None, None)
    if exceptional is not None:
        exceptional = min(exceptional, EDGE_PERCENT)
    return theirs, own, percent, None, None, serious, exceptional, verdict(percent, serious, exceptional)


def pooled(runs: Iterable[EdgeTimes]) -> EdgeTimes:
    """Vehicles and mean seconds per edge over several runs."""
    sums: dict[str, tuple[int, float]] = {}
    for times in runs:
        for edge, (count, mean) in times.items():
            before = sums.get(edge, (0, 0.0))
            sums[edge] = (before[0] + count, before[1] + count * mean)
    return {edge: (count, total / count) for edge, (count, total) in sums.items()}


def edge_error(ours: EdgeTimes, theirs: EdgeTimes) -> tuple[float, float, float]:
    """Mean time on an edge, theirs and ours, and the mean difference without sign, s; weighted by their vehicles."""
    shared = [edge for edge in theirs if edge in ours]
    weight = np.array([theirs[edge][0] for edge in shared], dtype=np.float64)
    wanted = np.array([theirs[edge][1] for edge in shared])
    found = np.array([ours[edge][1] for edge in shared])
    by_flow = [float(weight @ x / weight.sum()) for x in (wanted, found, np.abs(found - wanted))]
    return by_flow[0], by_flow[1], by_flow[2]


def order(cells: Mapping[str, Cell], measures: Mapping[str, Cell]) -> list[str]:
    """Controllers of a map, least delay first; those that jam under every seed last."""
    means = {name: _delay_s(cell, measures[name]) for name, cell in cells.items()}
    return sorted(means, key=lambda name: means[name])


def swapped(truth: Mapping[str, Cell], ours: Mapping[str, Cell]) -> list[tuple[str, str]]:
    """Pairs of controllers that our side puts in the other order, although theirs is beyond doubt (Welch)."""
    found = []
    for a, b in combinations(truth, 2):
        theirs = [values(sound(truth[name], truth[name]), "delay_s") for name in (a, b)]
        own = _delay_s(ours[a], truth[a]) - _delay_s(ours[b], truth[b])
        low, high = welch(*theirs)
        if (low > 0 > own) or (high < 0 < own):
            found.append((a, b))
    return found


def _delay_s(cell: Cell, measure: Cell) -> float:
    seeds = sound(cell, measure)
    return float(values(seeds, "delay_s").mean()) if seeds else np.inf
