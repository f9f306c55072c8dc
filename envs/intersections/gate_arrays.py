"""The arrays behind gates between districts; all of length 0 where there are none."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.links import begins
from fedsched.envs.intersections.tables import I32, Tables
from fedsched.envs.intersections.timing import Timing

YELLOW_S = 3
"""Of signals that run their programs; others have the yellow of their timing."""


def gate_tables(
    districts: Districts | None, tables: Tables, timing: Timing | None = None
) -> dict[str, npt.NDArray[Any]]:
    """What does not change (`kernels.state.Road`)."""
    links = len(tables.links.source)
    guards = [] if districts is None else [gate.guards for gate in districts.gates]
    count = sum(len(own) for own in guards)
    yellow_s = timing.yellow_s if timing is not None and timing.period_s else YELLOW_S
    return {
        "link_gate": np.full(links, -1, dtype=np.int32) if districts is None else districts.link_gate,
        "gate_guard_begin": begins(guards),
        "gate_guard": np.array([link for own in guards for link in own], dtype=np.int32),
        "guard_yellow_s": np.full(count, yellow_s, dtype=np.int32),
        "lane_district": np.zeros(0, dtype=np.int32) if districts is None else lane_districts(districts, tables),
    }


def lane_districts(districts: Districts, tables: Tables) -> I32:
    """District of every lane; one inside a junction belongs to the district of the stop line before it, [L]."""
    lanes, links = tables.lanes, tables.links
    before = np.where(lanes.internal, links.source[lanes.entry], np.arange(len(lanes.length)))
    return np.asarray(districts.edge[lanes.edge[before]], dtype=np.int32)


def gate_sizes(districts: Districts | None) -> dict[str, tuple[int, ...]]:
    """Sizes per world of what changes (`kernels.state.Traffic`)."""
    gates, guards = (0, 0) if districts is None else (len(districts.gates), len(districts.guard_links))
    names = ("gate_passed", "gate_base", "gate_limit", "gate_begin", "gate_end", "gate_closed")
    own = 0 if districts is None else len(districts.names)
    return {**dict.fromkeys(names, (gates,)), "guard_yellow": (guards,), "district_loss": (own,)}
