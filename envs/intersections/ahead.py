"""Which signal a vehicle meets next, along every way."""

import numpy as np

from fedsched.envs.intersections.tables import F64, I32, LinkKind, Tables


def next_signals(tables: Tables, number: I32) -> tuple[I32, F64]:
    """For every row of the ways and lane number: the next signal's link and how far its stop line is.

    A lane that does not lead on counts as the first one that does, as in SUMO's `getNextTLS`.

    Args:
        tables: Network and routes.
        number: What to write for each link, -1 for links without a signal, [K].

    Returns:
        The number, -1 where no signal lies ahead, [W, M]; m from the lane's start, [W, M].
    """
    lanes, links, ways = tables.lanes, tables.links, tables.ways
    rows, most = ways.link.shape
    first_lane = np.concatenate(([0], np.cumsum(np.bincount(lanes.edge[~lanes.internal])))) if rows else np.zeros(1)
    ahead, distance = np.full((rows, most), -1, dtype=np.int32), np.zeros((rows, most))
    fallback = _links_onward(tables)
    level = _places_left(tables)
    for left in range(1, int(level.max(initial=0)) + 1):
        at = np.flatnonzero(level == left)
        edge = ways.edge[at]
        spare = np.array([fallback.get((int(a), int(b)), -1) for a, b in zip(edge, ways.edge[at + 1], strict=True)])
        for m in range(most):
            lane = first_lane[edge] + m
            link = np.where(ways.link[at, m] >= 0, ways.link[at, m], spare)
            use = (lane < first_lane[edge + 1]) & (link >= 0)
            row, own, link = at[use], lane[use], link[use]
            signalled = number[link] >= 0
            beyond = lanes.index[links.target[link]]
            ahead[row, m] = np.where(signalled, number[link], ahead[row + 1, beyond])
            further = links.via_length[link] + distance[row + 1, beyond]
            distance[row, m] = lanes.length[own] + np.where(signalled, 0.0, further)
    return ahead, distance


def _links_onward(tables: Tables) -> dict[tuple[int, int], int]:
    """The first link from one edge to another."""
    lanes, links = tables.lanes, tables.links
    entry = np.flatnonzero(links.kind == LinkKind.ENTRY)[::-1]
    pairs = zip(lanes.edge[links.source[entry]].tolist(), lanes.edge[links.target[entry]].tolist(), strict=True)
    return dict(zip(pairs, entry.tolist(), strict=True))


def _places_left(tables: Tables) -> I32:
    """How many edges follow each row on its way."""
    last = np.flatnonzero(tables.ways.last)
    rows = np.arange(len(tables.ways.edge))
    return (last[np.searchsorted(last, rows)] - rows).astype(np.int32)
