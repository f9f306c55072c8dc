"""Part of a network, with the right of way of its links among each other unchanged."""

import hashlib
from dataclasses import replace

import numpy as np

from fedsched.envs.intersections.links import Movements
from fedsched.envs.intersections.network import Connection, Edge, Junction, Network, Request, Signal
from fedsched.envs.intersections.tables import I32, Flags, LinkKind


def subnetwork(network: Network, kept: Flags, leading: Flags, name: str) -> tuple[Network, I32]:
    """The network of some edges and of the links that leave some of these.

    Args:
        network: The whole.
        kept: Normal edges that stay; of internal ones, those that remain links need stay, [edges].
        leading: Normal edges whose links stay; the edges that they lead onto must be kept, [edges].
        name: Told apart by it, in the digest.

    Returns:
        The part; the new number of every edge, -1 for those that are left out.
    """
    moves = Movements(network)
    links = _leaving(network, moves, leading)
    inside = {moves.next[link] for link in links if network.edges[network.lanes[moves.next[link]].edge].internal}
    lanes = [n for n, lane in enumerate(network.lanes) if n in inside or kept[lane.edge]]
    lane_of = {old: new for new, old in enumerate(lanes)}
    edges = sorted({network.lanes[lane].edge for lane in lanes})
    edge_of = {old: new for new, old in enumerate(edges)}
    used = sorted(moves.connection[link] for link in links)
    connection_of = {old: new for new, old in enumerate(used)}
    ends = {end for edge in edges for end in (network.edges[edge].origin, network.edges[edge].target)}
    part = _Part(network, moves, lane_of, links)
    joined = {n: junction for n, own in enumerate(network.junctions) if (junction := part.junction(n, own, n in ends))}
    junction_of = {old: new for new, old in enumerate(joined)}
    signals = sorted({network.connections[n].signal for n in used} - {-1})
    found = Network(
        lanes=tuple(replace(network.lanes[n], edge=edge_of[network.lanes[n].edge]) for n in lanes),
        edges=tuple(_edge(network.edges[n], lane_of, junction_of) for n in edges),
        connections=tuple(_connection(network.connections[n], lane_of, signals) for n in used),
        junctions=tuple(joined.values()),
        signals=tuple(_signal(network.signals[n], connection_of) for n in signals),
        digest=hashlib.sha256(f"{network.digest}\n{name}\n{edges}\n{used}".encode()).hexdigest(),
        ignored=network.ignored,
        roundabouts=tuple(tuple(edge_of[n] for n in own) for own in network.roundabouts if set(own) <= edge_of.keys()),
    )
    number = np.full(len(network.edges), -1, dtype=np.int32)
    number[edges] = np.arange(len(edges))
    return found, number


def _leaving(network: Network, moves: Movements, leading: Flags) -> set[int]:
    """The links that leave these edges, up to the next normal lanes."""
    entry = [
        link
        for link, kind in enumerate(moves.kind)
        if kind == LinkKind.ENTRY and leading[network.lanes[moves.source[link]].edge]
    ]
    return {onward for link in entry for onward in _through(network, moves, link)}


def _through(network: Network, moves: Movements, link: int) -> list[int]:
    """A link and those behind it up to the next normal lane."""
    found = [link]
    while network.edges[network.lanes[moves.next[found[-1]]].edge].internal:
        found.append(moves.of_lane[moves.next[found[-1]]][0])
    return found


def _connection(own: Connection, lane_of: dict[int, int], signals: list[int]) -> Connection:
    signal = signals.index(own.signal) if own.signal >= 0 else -1
    ends = lane_of[own.source], lane_of[own.target]
    return replace(own, source=ends[0], target=ends[1], via=lane_of.get(own.via, -1), signal=signal)


def _edge(edge: Edge, lane_of: dict[int, int], junction_of: dict[int, int]) -> Edge:
    lanes = tuple(lane_of[lane] for lane in edge.lanes if lane in lane_of)
    return replace(edge, lanes=lanes, origin=junction_of[edge.origin], target=junction_of[edge.target])


def _signal(signal: Signal, connection_of: dict[int, int]) -> Signal:
    kept = tuple(tuple(connection_of[c] for c in own if c in connection_of) for own in signal.connections)
    return replace(signal, connections=kept)


class _Part:
    """Junctions with what is left of their links."""

    def __init__(self, network: Network, moves: Movements, lane_of: dict[int, int], links: set[int]) -> None:
        self._network, self._moves, self._lane_of, self._links = network, moves, lane_of, links

    def junction(self, number: int, junction: Junction, needed: bool) -> Junction | None:
        """The junction in the part, None where it has no place there."""
        inside = tuple(self._lane_of[lane] for lane in junction.inside if lane in self._lane_of)
        incoming = tuple(self._lane_of[lane] for lane in junction.incoming if lane in self._lane_of)
        if junction.kind == "internal":
            stays = bool(junction.incoming) and junction.incoming[0] in self._lane_of
            return replace(junction, incoming=incoming, inside=inside) if stays else None
        if not needed:
            return None
        order = self._moves.order[number]
        left = [n for n, link in enumerate(order) if link in self._links and n < len(junction.requests)]
        number_of = {old: new for new, old in enumerate(left)}
        requests = tuple(_request(junction.requests[n], number_of) for n in left)
        return replace(junction, incoming=incoming, inside=inside, requests=requests)


def _request(request: Request, number_of: dict[int, int]) -> Request:
    def kept(links: frozenset[int]) -> frozenset[int]:
        return frozenset(number_of[n] for n in links if n in number_of)

    return Request(kept(request.response), kept(request.foes), request.cont)
