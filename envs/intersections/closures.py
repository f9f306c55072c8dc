"""Closed lanes: in SUMO's files, and as the dynamics read them.

In files, a `<rerouter>` with `<closingLaneReroute disallow="all">`: SUMO takes the lane's permissions away for an
interval. Run it with `--ignore-route-errors`, or it stops where a route is interrupted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import numpy as np

from fedsched.envs.intersections.demand import Closure
from fedsched.envs.intersections.network import Network, find
from fedsched.envs.intersections.tables import NEVER_S, Closures
from fedsched.envs.intersections.xmlfile import Element


@dataclass(frozen=True)
class ClosurePlan:
    """What is closed when.

    Attributes:
        sets: The sets of closed lanes that occur, each once; the first is empty.
        changes: Of each instance: from which second of the episode which set is closed.
    """

    sets: tuple[frozenset[int], ...]
    changes: tuple[tuple[tuple[int, int], ...], ...]


def plan_closures(closures: Sequence[Sequence[Closure]], begin_s: float) -> ClosurePlan:
    """The timetable of some instances.

    Args:
        closures: Of each instance.
        begin_s: The clock of the files at second 0 of an episode.
    """
    number: dict[frozenset[int], int] = {frozenset(): 0}
    changes = []
    for own in closures:
        spans = [(c.lane, *(max(0, math.ceil(at - begin_s)) for at in (c.begin_s, c.end_s))) for c in own]
        times = sorted({at for _, begin, end in spans for at in (begin, end)})
        closed = [frozenset(lane for lane, begin, end in spans if begin <= at < end) for at in times]
        changes.append(
            tuple((at, number.setdefault(lanes, len(number))) for at, lanes in zip(times, closed, strict=True))
        )
    return ClosurePlan(tuple(number), tuple(changes))


def closure_arrays(plan: ClosurePlan, network: Network, rows: int) -> Closures:
    """The same as arrays.

    Args:
        plan: The timetable.
        network: Whose lanes are closed.
        rows: Of the ways of all sets together.
    """
    allowed = np.array([[lane.allowed for lane in network.lanes] for _ in plan.sets], dtype=np.int64)
    for row, lanes in zip(allowed, plan.sets, strict=True):
        row[list(lanes)] = 0
    each = rows // len(plan.sets)
    flat = [change for own in plan.changes for change in (*own, (NEVER_S, 0))]
    sets = np.array([number for _, number in flat], dtype=np.int32)
    counts = [len(own) + 1 for own in plan.changes]
    return Closures(
        begin=(np.cumsum(counts) - counts).astype(np.int32),
        change_s=np.array([at for at, _ in flat], dtype=np.int32),
        ways=sets * np.int32(each),
        lanes=sets * np.int32(len(network.lanes)),
        allowed=allowed.ravel(),
    )


def read_closures(element: Element, network: Network) -> tuple[list[Closure], list[str]]:
    """The lanes that a `<rerouter>` closes, and the names of what else it holds.

    Raises:
        IntersectionsError: An unknown lane, or an interval that ends before it begins.
    """
    found, others = [], []
    for interval in element.children:
        for child in interval.children:
            if child.name != "closingLaneReroute" or child.attributes.get("disallow") != "all":
                others.append(child.name)
                continue
            lane = find(child.text("id"), [lane.id for lane in network.lanes], "lane")
            begin, end = interval.number("begin"), interval.number("end")
            if end <= begin:
                interval.fail(f"<interval> ends at {end:g} s, not after it begins at {begin:g} s; correct it")
            found.append(Closure(lane, begin, end))
    return found, others


def closures_text(closures: Sequence[Closure], network: Network) -> str:
    """An additional file for SUMO that closes the lanes; nobody is rerouted."""
    lines = ["<additional>"]
    for n, closure in enumerate(closures):
        lane = network.lanes[closure.lane]
        head = f'id="closure{n}" edges={quoteattr(network.edges[lane.edge].id)} probability="0"'
        span = f'begin="{closure.begin_s:g}" end="{closure.end_s:g}"'
        inner = f'<closingLaneReroute id={quoteattr(lane.id)} disallow="all"/>'
        lines.append(f"<rerouter {head}><interval {span}>{inner}</interval></rerouter>")
    return "\n".join([*lines, "</additional>"]) + "\n"
