"""When our vehicles leave edges: a reader of a world's state, second by second, that the world knows nothing of.

An edge is left when the front of a vehicle leaves it, as in SUMO's exit times; the time on an edge is the time since
the edge before was left, or since the departure, so the junction before the edge is part of it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fedsched.envs.intersections.sumo.outputs import EdgeTimes
from fedsched.envs.intersections.world import IntersectionsWorld

Ints = npt.NDArray[np.int64]


class EdgeClock:
    """Seconds per edge of every copy; to be told of every second that passes, from the first on.

    Args:
        world: On the CPU, with all copies on the only demand of its problem, before its first second.
    """

    def __init__(self, world: IntersectionsWorld) -> None:
        tables = world.problem.tables
        self._way, self._edges = tables.vehicles.way.astype(np.int64), tables.vehicles.edges.astype(np.int64)
        self._edge_at, self._internal = tables.ways.edge, tables.lanes.internal
        self._names = [edge.id for edge in world.problem.network.edges]
        self._traffic: dict[str, npt.NDArray[Any]] = {name: c.numpy() for name, c in world.traffic.items()}
        self._passed: Ints = np.zeros((world.batch, len(self._way)), dtype=np.int64)
        self._since: Ints = np.full(self._passed.shape, -1, dtype=np.int64)
        self._count: Ints = np.zeros((world.batch, len(self._names)), dtype=np.int64)
        self._total: Ints = np.zeros_like(self._count)

    def second(self) -> None:
        """Reads who has left which edges in the second that has just passed."""
        t = self._traffic
        row, slot = np.nonzero(np.arange(t["id"].shape[1]) < t["count"][:, None])
        passed = self._passed.copy()
        passed[row, t["id"][row, slot]] = t["place"][row, slot] + self._internal[t["lane"][row, slot]]
        passed = np.where(t["trip_arrived"] >= 0, self._edges, passed)
        self._since = np.where(self._since < 0, t["trip_inserted"], self._since)
        now = t["now"].astype(np.int64) - 1
        row, trip = np.nonzero(passed > self._passed)
        while len(row):
            edge = self._edge_at[self._way[trip] + self._passed[row, trip]]
            np.add.at(self._count, (row, edge), 1)
            np.add.at(self._total, (row, edge), now[row] - self._since[row, trip])
            self._since[row, trip] = now[row]
            self._passed[row, trip] += 1
            more = passed[row, trip] > self._passed[row, trip]
            row, trip = row[more], trip[more]

    def times(self, row: int) -> EdgeTimes:
        """Per edge of a copy: by how many vehicles it was left, and after how many seconds on average."""
        used = np.flatnonzero(self._count[row])
        return {
            self._names[e]: (int(self._count[row, e]), float(self._total[row, e] / self._count[row, e])) for e in used
        }
