"""Lanes and links as arrays: who follows whom, and who yields to whom."""

from collections.abc import Collection, Sequence

import numpy as np

from fedsched.envs.intersections.network import IntersectionsError, Network, Turn
from fedsched.envs.intersections.tables import I32, Lanes, LinkKind, Links


class Movements:
    """The links of a network by index, and the order in which junctions number them.

    Attributes:
        source: Lane each link leaves, [K].
        next: Lane directly behind it.
        target: Normal lane reached in the end.
        kind: `LinkKind`.
        entry: Entry link of the same movement.
        connection: Index of the connection.
        of_lane: Links of each lane, in the order of the file.
        into: The link that leads onto each internal lane, -1 for none.
        request: Number of the movement among the links of its junction, [K].
        junction: Index of the junction, [K].
        order: Entry links of each junction by number.
    """

    def __init__(self, network: Network) -> None:
        """Args: the network. Raises IntersectionsError where internal lanes hang in the air."""
        connections = network.connections
        internal = [network.edges[lane.edge].internal for lane in network.lanes]
        self.connection = sorted(range(len(connections)), key=lambda c: connections[c].source)
        used = [connections[c] for c in self.connection]
        self.source = [c.source for c in used]
        self.next = [c.via if c.via >= 0 else c.target for c in used]
        self.target = [c.target for c in used]
        self.kind = [_kind(internal[c.source], c.via) for c in used]
        self.of_lane: list[list[int]] = [[] for _ in network.lanes]
        self.into = [-1] * len(network.lanes)
        for link, lane in enumerate(self.source):
            self.of_lane[lane].append(link)
            if internal[self.next[link]]:
                self.into[self.next[link]] = link
        self.entry = [self._trace(link, network) for link in range(len(used))]
        self.junction = [network.edges[network.lanes[self.source[e]].edge].target for e in self.entry]
        self.order = self._order(network)
        self.request = [-1] * len(used)
        for entries in self.order:
            for number, link in enumerate(entries):
                self.request[link] = number
        for link, entry in enumerate(self.entry):
            self.request[link] = self.request[entry]

    def _trace(self, link: int, network: Network) -> int:
        """The link by which a movement enters the junction."""
        for _ in range(len(self.source)):
            if self.kind[link] == LinkKind.ENTRY:
                return link
            link = self.into[self.source[link]]
            if link < 0:
                break
        name = network.lanes[self.source[link]].id if link >= 0 else "an internal lane"
        raise IntersectionsError(f"no connection leads onto {name}, yet one leaves it; build the network again")

    def _order(self, network: Network) -> list[list[int]]:
        found = []
        for junction in network.junctions:
            entries = [] if junction.kind == "internal" else [k for i in junction.incoming for k in self.of_lane[i]]
            if junction.requests and len(entries) > len(junction.requests):
                raise IntersectionsError(
                    f"junction {junction.id!r} has {len(entries)} links and right of way for {len(junction.requests)}; "
                    "build the network again"
                )
            found.append(entries)
        return found

    def foes(self, network: Network, link: int, other: int) -> bool:
        """Whether two links of one junction conflict."""
        rows = network.junctions[self.junction[link]].requests
        n, m = self.request[link], self.request[other]
        return max(n, m) < len(rows) and (m in rows[n].foes or n in rows[m].foes)

    def with_inner(self, link: int) -> list[int]:
        """A link and, where its movement passes a waiting area behind it, the inner link there."""
        return [link, *(k for k in self.of_lane[self.next[link]] if self.kind[k] == LinkKind.INNER)]


def _kind(internal: bool, via: int) -> LinkKind:
    if not internal:
        return LinkKind.ENTRY
    return LinkKind.INNER if via >= 0 else LinkKind.EXIT


def lane_arrays(network: Network, moves: Movements) -> Lanes:
    """The lanes as arrays."""
    lanes, edges = network.lanes, network.edges
    internal = np.array([edges[lane.edge].internal for lane in lanes], dtype=np.bool_)
    waiting = [
        edges[lane.edge].internal and any(moves.kind[k] == LinkKind.INNER for k in moves.of_lane[n])
        for n, lane in enumerate(lanes)
    ]
    return Lanes(
        length=np.array([lane.length for lane in lanes], dtype=np.float64),
        speed=np.array([lane.speed for lane in lanes], dtype=np.float64),
        width=np.array([lane.width for lane in lanes], dtype=np.float64),
        edge=_ints([lane.edge for lane in lanes]),
        index=_ints([lane.index for lane in lanes]),
        right=_beside(network, moves, -1),
        left=_beside(network, moves, 1),
        internal=internal,
        waiting=np.array(waiting, dtype=np.bool_),
        allowed=np.array([lane.allowed for lane in lanes], dtype=np.int64),
        link_begin=begins(moves.of_lane),
        entry=_ints([moves.entry[k] if k >= 0 else -1 for k in moves.into]),
        radius=np.array([_radius(network, moves, n) for n in range(len(lanes))], dtype=np.float64),
    )


def _beside(network: Network, moves: Movements, side: int) -> I32:
    """The lane beside each one on its edge, -1 for none.

    Inside junctions only those that lead straight on count, and not those that fan out from one lane.
    """
    number = {(lane.edge, lane.index): n for n, lane in enumerate(network.lanes)}
    found = [number.get((lane.edge, lane.index + side), -1) for lane in network.lanes]
    for n, other in enumerate(found):
        if other >= 0 and network.edges[network.lanes[n].edge].internal:
            entry = moves.entry[moves.into[n]]
            straight = network.connections[moves.connection[entry]].turn == Turn.STRAIGHT
            if not straight or moves.source[moves.into[n]] == moves.source[moves.into[other]]:
                found[n] = -1
    return _ints(found)


def _radius(network: Network, moves: Movements, lane: int) -> float:
    """Length of the whole way through the junction over the angle it turns by; as in SUMO's MSLink."""
    entry = moves.entry[moves.into[lane]] if moves.into[lane] >= 0 else -1
    if entry < 0 or network.connections[moves.connection[entry]].turn in (Turn.STRAIGHT, Turn.RIGHT):
        return float("inf")
    before = network.lanes[moves.source[entry]].shape
    after = network.lanes[moves.target[entry]].shape
    (dx, dy), (ex, ey) = before[-1] - before[-2], after[1] - after[0]
    angle = abs(float(np.arctan2(dx * ey - dy * ex, dx * ex + dy * ey)))
    inside, way = moves.next[entry], 0.0
    while network.edges[network.lanes[inside].edge].internal:
        way += float(np.linalg.norm(np.diff(network.lanes[inside].shape, axis=0), axis=1).sum())
        inside = moves.next[moves.of_lane[inside][0]]
    return way / angle if angle > 0 else float("inf")


def link_arrays(network: Network, moves: Movements) -> Links:
    """The links as arrays, with their response and foe lists."""
    used = [network.connections[c] for c in moves.connection]
    entry = [moves.kind[k] == LinkKind.ENTRY for k in range(len(used))]
    requests = [network.junctions[j].requests for j in moves.junction]
    own = [rows[i] if i < len(rows) else None for rows, i in zip(requests, moves.request, strict=True)]
    foes = [_foes(moves, k, row.foes) if row and entry[k] else [] for k, row in enumerate(own)]
    responses = _responses(network, moves)
    crowded = [any(row.foes or row.response for row in rows) for rows in requests]
    has_foes = [crowded[k] if entry[k] else moves.kind[k] == LinkKind.INNER for k in range(len(used))]
    return Links(
        source=_ints(moves.source),
        next=_ints(moves.next),
        target=_ints(moves.target),
        kind=_ints(moves.kind),
        entry=_ints(moves.entry),
        junction=_ints(moves.junction),
        turn=_ints([c.turn for c in used]),
        signal=_ints([c.signal if e else -1 for c, e in zip(used, entry, strict=True)]),
        signal_index=_ints([c.signal_index if e else -1 for c, e in zip(used, entry, strict=True)]),
        state=_ints([ord(c.state) for c in used]),
        cont=np.array([bool(row and row.cont) and e for row, e in zip(own, entry, strict=True)], dtype=np.bool_),
        keep_clear=np.array([c.keep_clear for c in used], dtype=np.bool_),
        has_foes=np.array(has_foes, dtype=np.bool_),
        via_length=np.array([_inside_m(network, moves, k) for k in range(len(used))], dtype=np.float64),
        response_begin=begins(responses),
        response=_ints([k for row in responses for k in row]),
        foe_begin=begins(foes),
        foe=_ints([k for row in foes for k in row]),
    )


def _foes(moves: Movements, link: int, numbers: frozenset[int]) -> list[int]:
    entries = moves.order[moves.junction[link]]
    return [entries[n] for n in sorted(numbers) if n < len(entries)]


def _responses(network: Network, moves: Movements) -> list[list[int]]:
    """Whom each link must respect: entry links by the requests, inner links by the internal junctions."""
    found: list[list[int]] = [[] for _ in moves.source]
    for link, kind in enumerate(moves.kind):
        rows = network.junctions[moves.junction[link]].requests
        if kind == LinkKind.ENTRY and moves.request[link] < len(rows):
            for foe in _foes(moves, link, rows[moves.request[link]].response):
                found[link] += moves.with_inner(foe)
    for junction in network.junctions:
        if junction.kind == "internal" and junction.incoming:
            own = moves.of_lane[junction.incoming[0]]
            if own:
                found[own[0]] = _inner_responses(network, moves, own[0], junction.incoming[1:])
    return found


def _inner_responses(network: Network, moves: Movements, link: int, incoming: Sequence[int]) -> list[int]:
    """Of the links from the lanes that the internal junction names, those that the movement must yield to anyway.

    SUMO 1.28 reports exactly these; yielding to the others too, vehicles wait for those who wait for them.
    """
    rows = network.junctions[moves.junction[link]].requests
    number = moves.request[link]
    respected = rows[number].response if number < len(rows) else frozenset()
    candidates = [k for lane in incoming for k in moves.of_lane[lane]]
    return [k for foe in candidates if moves.request[foe] in respected for k in moves.with_inner(foe)]


def _inside_m(network: Network, moves: Movements, link: int) -> float:
    total, lane = 0.0, moves.next[link]
    while network.edges[network.lanes[lane].edge].internal and moves.of_lane[lane]:
        total += network.lanes[lane].length
        lane = moves.next[moves.of_lane[lane][0]]
    return total


def begins(rows: Sequence[Collection[object]]) -> I32:
    """Where each list begins when they are stored one after another, and where the last one ends."""
    return np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)


def _ints(values: Sequence[int]) -> I32:
    return np.array(values, dtype=np.int32)
