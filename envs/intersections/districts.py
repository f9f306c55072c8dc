"""One network split into districts, and the gates where traffic crosses from one into another.

An edge belongs to the nearest signal ahead; one that leads to no signal belongs to the one it comes from. So a signal
and all queues before it lie in one district, and traffic crosses at the stop lines of the district it leaves. Between
signals, edges then go to the district with which they share most traffic, so that few vehicles cross where no signal
guards. Signals that share an edge stay together.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedsched.envs.intersections.groups import Groups, edge_flows, nearest
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.tables import I32, I64, Flags, LinkKind, Tables

UNLABELLED = -1
"""No label yet."""
OUTSIDE = -1
"""`Gate.source` where traffic comes from outside the city (see `entrances`)."""


@dataclass(frozen=True)
class Gate:
    """Where roads lead from one district into another.

    Attributes:
        source: Index of the district it leaves, or `OUTSIDE`.
        target: Index of the district it leads into.
        guards: Entry links that cross and that a signal rules; their stop lines are the gate.
        unguarded: Entry links that cross without a signal; no limit holds them.
        edges: The first edges inside `target`.
        lanes: Lanes of these edges.
        storage_m: m of these lanes: how long a queue from the next stop lines they hold.
    """

    source: int
    target: int
    guards: tuple[int, ...]
    unguarded: tuple[int, ...]
    edges: tuple[int, ...]
    lanes: int
    storage_m: float

    @property
    def enforceable(self) -> bool:
        """Whether signals can keep a limit: nobody gets in without passing one."""
        return bool(self.guards) and not self.unguarded


@dataclass(frozen=True, eq=False)
class Districts:
    """A network's edges and signals, each in one district.

    Attributes:
        names: Of the districts, [D].
        edge: District of each normal edge, [E].
        signal: District of each signal of the network, [N].
        site: District of each controlled signal, [A]; `WorldSpec.site`.
        gates: By source and target.
        link_gate: Gate of each link, -1 for those that stay inside, [K].
        approach: Edges before the first signals that traffic from outside meets, [E]; None: no gates to the outside.
    """

    names: tuple[str, ...]
    edge: I32
    signal: I32
    site: I64
    gates: tuple[Gate, ...]
    link_gate: I32
    approach: Flags | None = None

    def index(self, name: str) -> int:
        """Place of a district; raises IntersectionsError for an unknown one."""
        if name not in self.names:
            raise IntersectionsError(f"no district {name!r}; there are {', '.join(self.names)}")
        return self.names.index(name)

    def gate(self, source: str, target: str) -> int:
        """Number of the gate between two districts; raises IntersectionsError where no road leads across."""
        ends = self.index(source), self.index(target)
        for number, gate in enumerate(self.gates):
            if (gate.source, gate.target) == ends:
                return number
        raise IntersectionsError(f"no road leads from district {source!r} into {target!r}; name two that touch")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names, edges and signals."""
        approach = [] if self.approach is None else self.approach.tolist()
        told = (self.names, self.edge.tolist(), self.signal.tolist(), approach)
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def ends(self, gate: int) -> str:
        """A gate's two sides in words."""
        own = self.gates[gate]
        return f"{'outside' if own.source == OUTSIDE else self.names[own.source]} to {self.names[own.target]}"

    @cached_property
    def guard_links(self) -> tuple[int, ...]:
        """The guards of all gates, gate by gate, [H]."""
        return tuple(link for gate in self.gates for link in gate.guards)


def split(problem: Problem, given: Mapping[str, Sequence[str]]) -> Districts:
    """Districts by the signals, edges or junctions (all edges that lead there) that a user names for each.

    What nobody names goes where its next signal is. Every controlled signal must be named, by itself, by its junction
    or by an edge before it.

    Raises:
        IntersectionsError: An unknown name, a signal in two districts or in none, a district without a controlled
            signal or in several pieces.
    """
    group = Groups(problem)
    label = np.full(group.count, UNLABELLED, dtype=np.int32)
    fixed: dict[int, int] = {}
    for number, members in enumerate(given.values()):
        for member in members:
            edges = _edges_of(problem, group, member)
            for edge in edges:
                fixed[edge] = _agree(fixed.get(edge, number), number, f"edge {problem.network.edges[edge].id!r}", given)
                atom = group.before[edge]
                if atom >= 0:
                    what = f"signal {group.names(atom)[0]!r}"
                    label[atom] = _agree(int(label[atom]), number, what, given)
    _check_named(problem, group, label)
    return make_districts(problem, group, tuple(given), _spread_labels(group, label), fixed)


def _agree(known: int, number: int, what: str, given: Mapping[str, Sequence[str]]) -> int:
    if known not in (UNLABELLED, number):
        names = list(given)
        raise IntersectionsError(f"{what} is in districts {names[known]!r} and {names[number]!r}; name it once")
    return number


def _edges_of(problem: Problem, group: Groups, member: str) -> list[int]:
    """The edges that a name stands for."""
    network = problem.network
    for number, signal in enumerate(network.signals):
        if signal.id == member:
            return np.flatnonzero(group.before == group.of_signal[number]).tolist()
    for number, edge in enumerate(network.edges):
        if edge.id == member and not edge.internal:
            return [number]
    for junction, node in enumerate(network.junctions):
        if node.id == member:
            return [n for n, edge in enumerate(network.edges) if edge.target == junction and not edge.internal]
    raise IntersectionsError(f"no signal, edge or junction {member!r} in the network; correct the districts")


def _check_named(problem: Problem, group: Groups, label: I32) -> None:
    missing = [signal.id for signal in problem.signals if label[group.of_signal[signal.index]] == UNLABELLED]
    if missing:
        raise IntersectionsError(f"signals in no district: {', '.join(missing)}; add each to one")


def _spread_labels(group: Groups, label: I32) -> I32:
    """Signals that nobody controls go to the district of the nearest one that has a label."""
    found = nearest({n: int(value) for n, value in enumerate(label) if value >= 0}, group.near, [1.0] * group.count)
    return np.array([found.get(n, 0) for n in range(group.count)], dtype=np.int32)


def make_districts(
    problem: Problem, group: Groups, names: tuple[str, ...], label: I32, fixed: Mapping[int, int] | None = None
) -> Districts:
    """Districts from the label of every group; edges in `fixed` have one of their own.

    Raises:
        IntersectionsError: A district without a controlled signal, or in several pieces.
    """
    edge = label[group.edge].astype(np.int32)
    for number, own in (fixed or {}).items():
        edge[number] = own
    signal = label[group.of_signal].astype(np.int32)
    site = np.array([signal[own.index] for own in problem.signals], dtype=np.int64)
    for number, name in enumerate(names):
        if number not in site:
            raise IntersectionsError(f"district {name!r} has no controlled signal; give it one or leave it out")
    followed = _follow_traffic(problem, group, edge, fixed or {})
    if _pieces(problem, group, names, followed) is None:
        edge = followed
    elif piece := _pieces(problem, group, names, edge):
        raise IntersectionsError(piece)
    gates, link_gate = _gates(problem.tables, edge)
    return Districts(names, edge, signal, site, gates, link_gate)


def _follow_traffic(problem: Problem, group: Groups, edge: I32, fixed: Mapping[int, int]) -> I32:
    """Gives each edge between signals to the district with which it shares most vehicles, until none changes.

    Vehicles that cross where no signal guards get fewer with each change.
    """
    flows, found = edge_flows(problem), edge.copy()
    shared: list[list[tuple[int, int]]] = [[] for _ in found]
    for (one, other), guarded in group.guarded.items():
        if not guarded:
            shared[one].append((other, flows[one, other]))
            shared[other].append((one, flows[one, other]))
    free = [n for n, own in enumerate(shared) if own and group.before[n] < 0 and n not in fixed]
    changed = True
    while changed:
        changed = False
        for n in free:
            vehicles: Counter[int] = Counter()
            for other, flow in shared[n]:
                vehicles[int(found[other])] += flow
            most = min(vehicles, key=lambda k: (-vehicles[k], k))
            if vehicles[most] > vehicles[int(found[n])]:
                found[n], changed = most, True
    return found


def _pieces(problem: Problem, group: Groups, names: tuple[str, ...], edge: I32) -> str | None:
    """What is wrong with districts in several pieces; None where each hangs together.

    Edges do where one leads onto the other, or where they belong to the same group of signals.
    """
    ways: list[list[int]] = [[] for _ in edge]
    first: dict[tuple[int, int], int] = {}
    together = [(n, first.setdefault((int(own), int(group.edge[n])), n)) for n, own in enumerate(edge)]
    for one, other in (*group.guarded, *together):
        if edge[one] == edge[other]:
            ways[one].append(other)
            ways[other].append(one)
    edges = problem.network.edges
    for number, name in enumerate(names):
        own = np.flatnonzero(edge == number).tolist()
        reached = nearest({own[0]: 0}, ways, [1.0] * len(edge))
        if len(reached) < len(own):
            lone = next(n for n in own if n not in reached)
            return (
                f"district {name!r} is not connected: no road of it joins edges {edges[own[0]].id!r} and "
                f"{edges[lone].id!r}; split it or add what lies between"
            )
    return None


def _gates(tables: Tables, edge: I32) -> tuple[tuple[Gate, ...], I32]:
    lanes, links = tables.lanes, tables.links
    entry = np.flatnonzero(links.kind == LinkKind.ENTRY)
    ends = edge[lanes.edge[links.source[entry]]], edge[lanes.edge[links.target[entry]]]
    found: dict[tuple[int, int], list[int]] = {}
    for link, one, other in zip(entry.tolist(), *(end.tolist() for end in ends), strict=True):
        if one != other:
            found.setdefault((one, other), []).append(link)
    link_gate = np.full(len(links.source), -1, dtype=np.int32)
    gates = []
    for number, ((one, other), crossing) in enumerate(sorted(found.items())):
        link_gate[crossing] = number
        guards = tuple(link for link in crossing if links.signal[link] >= 0)
        edges = tuple(sorted({int(lanes.edge[links.target[link]]) for link in crossing}))
        inside = np.isin(lanes.edge, edges) & ~lanes.internal
        rest = tuple(link for link in crossing if link not in guards)
        gates.append(Gate(one, other, guards, rest, edges, int(inside.sum()), float(lanes.length[inside].sum())))
    return tuple(gates), link_gate
