"""The static problem of a world: one network, its controlled signals, and one demand per instance."""

import dataclasses
import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fedsched.envs.intersections.compile import compile_tables
from fedsched.envs.intersections.configfile import read_config
from fedsched.envs.intersections.demand import Demand, Trip, VehicleType
from fedsched.envs.intersections.netfile import check_signals, read_network
from fedsched.envs.intersections.network import IntersectionsError, Network, Signal, find
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.signals import Movement, green_phases, movements
from fedsched.envs.intersections.tables import F64, I32, I64, LinkKind, Tables

_DATA = Path(__file__).parent / "data"

Bools = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

MOST_NEIGHBOURS = 8
"""Signals that a signal may message."""


@dataclass(frozen=True)
class SignalModel:
    """A controlled signal.

    Attributes:
        id: SUMO's id.
        index: Its place among the network's signals.
        phases: The states of its green phases.
        movements: What it controls.
        links: The entry links of each movement.
        targets: The lanes that these reach, each once.
    """

    id: str
    index: int
    phases: tuple[str, ...]
    movements: tuple[Movement, ...]
    links: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Neighbours:
    """The nearest signals along the roads, up to `MOST_NEIGHBOURS` of each; -1 and 0 pad.

    Attributes:
        agent: Index of a controlled signal, [A, K].
        time_s: Travel time on the roads between at their speed limits, [A, K].
        lanes: Lanes of the last road between, [A, K].
        downstream: Whether traffic flows from here to there by that time; else from there to here, [A, K].
    """

    agent: I64
    time_s: F64
    lanes: I32
    downstream: Bools


@dataclass(frozen=True)
class Stretch:
    """The fastest way from one controlled signal to the next.

    Attributes:
        source: Index of the agent it leaves.
        target: Index of the agent it leads to.
        time_s: On the roads between at their speed limits.
        lanes: Of the last road.
        first: The edge behind `source`.
        last: The edge before `target`.
    """

    source: int
    target: int
    time_s: float
    lanes: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Problem:
    """What does not change from episode to episode.

    Attributes:
        network: The streets.
        demands: One per instance.
        tables: Network and all demands, the trips of one demand after those of another.
        first_trip: Those of demand k are `first_trip[k]` to `first_trip[k + 1]`.
        begin_s: The clock of the files at second 0 of an episode.
        end_s: The clock at its end.
        signals: The controlled signals: the agents.
        name: Of the map, for messages and named timings.
    """

    network: Network
    demands: tuple[Demand, ...]
    tables: Tables
    first_trip: I64
    begin_s: float
    end_s: float
    signals: tuple[SignalModel, ...]
    name: str = ""

    @property
    def seconds(self) -> int:
        """Length of an episode."""
        return round(self.end_s - self.begin_s)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of files, hours and controlled signals."""
        parts = [self.network.digest, *(demand.digest for demand in self.demands), repr((self.begin_s, self.end_s))]
        return hashlib.sha256("\n".join([*parts, *(signal.id for signal in self.signals)]).encode()).hexdigest()

    @property
    def phases(self) -> int:
        """Most green phases of a signal."""
        return max(len(signal.phases) for signal in self.signals)

    @property
    def movements(self) -> int:
        """Most movements of a signal."""
        return max(len(signal.movements) for signal in self.signals)

    @cached_property
    def served(self) -> I32:
        """What phase n gives movement e: 0 red, 1 permissive, 2 protected green, [A, N, E]."""
        found = np.zeros((len(self.signals), self.phases, self.movements), dtype=np.int32)
        for a, signal in enumerate(self.signals):
            for n, state in enumerate(signal.phases):
                for e, links in enumerate(signal.links):
                    lights = {state[self.tables.links.signal_index[link]] for link in links}
                    found[a, n, e] = 2 if "G" in lights else int("g" in lights)
        return found

    @cached_property
    def competing(self) -> Bools:
        """Whether no phase serves both of two movements of a signal, [A, E, E].

        Which movements a green holds up is what phases compete about (Zheng et al. 2019, FRAP); those that a phase
        serves together are added up in its row.
        """
        green = self.served > 0
        there = np.arange(self.movements) < np.array([len(signal.movements) for signal in self.signals])[:, None]
        together = (green[:, :, :, None] & green[:, :, None, :]).any(1)
        return there[:, :, None] & there[:, None, :] & ~together & ~np.eye(self.movements, dtype=np.bool_)

    @cached_property
    def signal_links(self) -> I32:
        """The entry links of all signals of the network, signal by signal, [Q]."""
        links = self.tables.links
        found = np.flatnonzero((links.signal >= 0) & (links.kind == LinkKind.ENTRY))
        return found[np.argsort(links.signal[found], kind="stable")].astype(np.int32)

    @cached_property
    def out_lanes(self) -> I32:
        """The lanes behind the controlled signals, [O]."""
        lanes = {lane for signal in self.signals for targets in signal.targets for lane in targets}
        return np.array(sorted(lanes), dtype=np.int32)

    @cached_property
    def between(self) -> tuple[Stretch, ...]:
        """The roads from one controlled signal to the next."""
        return find_stretches(self.tables, self.signals)

    @cached_property
    def neighbours(self) -> Neighbours:
        """Who is near whom along the roads."""
        return find_neighbours(self.between, len(self.signals))


def make_problem(
    network: Network,
    demands: Sequence[Demand],
    begin_s: float,
    end_s: float,
    controlled: Sequence[str] | None = None,
    name: str = "",
) -> Problem:
    """A problem from its parts.

    Args:
        network: The streets.
        demands: One per instance.
        begin_s: The clock of the files at second 0.
        end_s: The clock at the end.
        controlled: Ids of the signals that are agents; by default all with a green phase. Others run their program.
        name: Of the map.

    Raises:
        IntersectionsError: No demand, no signal, a signal that is unknown or named twice, or an hour that ends before
            it begins.
    """
    check_signals(network)
    if not demands:
        raise IntersectionsError("a problem needs at least one demand")
    if round(end_s - begin_s) < 1:
        raise IntersectionsError(f"the episode from {begin_s:g} s to {end_s:g} s is empty; give a later end")
    tables = compile_tables(network, merge(demands), begin_s, [demand.closures for demand in demands])
    ids = [signal.id for signal in network.signals]
    if controlled is None:
        numbers = [n for n, signal in enumerate(network.signals) if _has_green(signal)]
    else:
        numbers = [find(signal, ids, "signal") for signal in controlled]
        if twice := [signal for signal in dict.fromkeys(controlled) if list(controlled).count(signal) > 1]:
            raise IntersectionsError(f"signals named twice: {', '.join(twice)}; name each once")
    signals = tuple(_model(network, tables, n) for n in numbers)
    first = np.concatenate(([0], np.cumsum([len(demand.trips) for demand in demands]))).astype(np.int64)
    return Problem(network, tuple(demands), tables, first, begin_s, end_s, signals, name)


def read_problem(config: str | Path, controlled: Sequence[str] | None = None, demands: int = 1) -> Problem:
    """A problem from a `.sumocfg`.

    Args:
        config: Its path.
        controlled: Ids of the signals that are agents; by default all with a green phase.
        demands: How many instances; demand k is what seed k draws from the flows and distributions of the files.

    Raises:
        IntersectionsError: With file, line, element and remedy.
    """
    found = read_config(config)
    if found.end_s == float("inf"):
        raise IntersectionsError("does not say when it ends; add <end value=.../> to its <time>", config)
    network = read_network(found.network)
    files = (*found.additional, *found.routes)
    drawn = [read_demand(files, network, found.begin_s, found.end_s, seed) for seed in range(demands)]
    return make_problem(network, drawn, found.begin_s, found.end_s, controlled, Path(config).stem)


def grid_problem(demands: int = 8, controlled: Sequence[str] | None = None) -> Problem:
    """The small grid that is shipped: nine signals, 20 minutes; demand k is what seed k draws from its flows.

    Raises:
        IntersectionsError: Fewer than one demand.
    """
    network = read_network(_DATA / "grid3x3.net.xml.gz")
    drawn = [read_demand(_DATA / "grid3x3.rou.xml.gz", network, 0.0, 1200.0, seed) for seed in range(demands)]
    return make_problem(network, drawn, 0.0, 1200.0, controlled, "grid3x3")


def merge(demands: Sequence[Demand]) -> Demand:
    """All demands as one: equal types and routes once, trips of one after those of another."""
    types: dict[VehicleType, int] = {}
    routes: dict[tuple[int, ...], int] = {}
    trips: list[Trip] = []
    for demand in demands:
        kind = [types.setdefault(value, len(types)) for value in demand.types]
        route = [routes.setdefault(value, len(routes)) for value in demand.routes]
        trips += [dataclasses.replace(trip, type=kind[trip.type], route=route[trip.route]) for trip in demand.trips]
    return Demand(tuple(types), tuple(routes), tuple(trips), "")


def _has_green(signal: Signal) -> bool:
    try:
        return bool(green_phases(signal))
    except IntersectionsError:
        return False


def _model(network: Network, tables: Tables, number: int) -> SignalModel:
    signal, links, edge = network.signals[number], tables.links, tables.lanes.edge
    phases = tuple(signal.phases[n].state for n in green_phases(signal))
    groups: dict[tuple[int, int], list[int]] = {}
    for link in np.flatnonzero((links.signal == number) & (links.kind == LinkKind.ENTRY)).tolist():
        groups.setdefault((int(edge[links.source[link]]), int(edge[links.target[link]])), []).append(link)
    moves = movements(network, signal)
    entries = tuple(tuple(groups[move.source, move.target]) for move in moves)
    targets = tuple(_once(links.target[list(own)].tolist()) for own in entries)
    return SignalModel(signal.id, number, phases, moves, entries, targets)


def _once(values: list[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(values))


def find_neighbours(stretches: Sequence[Stretch], agents: int) -> Neighbours:
    """Of every signal the next ones, up- and downstream, nearest first."""
    found: list[dict[int, tuple[float, int, bool]]] = [{} for _ in range(agents)]
    for way in stretches:
        for one, other, down in ((way.source, way.target, True), (way.target, way.source, False)):
            if other not in found[one] or way.time_s < found[one][other][0]:
                found[one][other] = (way.time_s, way.lanes, down)
    rows = [sorted(near.items(), key=lambda item: (item[1][0], item[0]))[:MOST_NEIGHBOURS] for near in found]
    width = max((len(row) for row in rows), default=0)
    result = Neighbours(
        np.full((len(rows), width), -1, dtype=np.int64), np.zeros((len(rows), width)),
        np.zeros((len(rows), width), dtype=np.int32), np.zeros((len(rows), width), dtype=np.bool_),
    )  # fmt: skip
    for a, row in enumerate(rows):
        for k, (other, (time_s, lanes, down)) in enumerate(row):
            result.agent[a, k], result.time_s[a, k] = other, time_s
            result.lanes[a, k], result.downstream[a, k] = lanes, down
    return result


def find_stretches(tables: Tables, signals: Sequence[SignalModel]) -> tuple[Stretch, ...]:
    """From every controlled signal to the next ones downstream, past junctions without one."""
    agent = {signal.index: a for a, signal in enumerate(signals)}
    return tuple(way for a, signal in enumerate(signals) for way in _downstream(tables, signal, agent, a))


def _downstream(tables: Tables, signal: SignalModel, agent: dict[int, int], own: int) -> list[Stretch]:
    """Dijkstra over edges; does not go on behind a controlled signal."""
    lanes, links = tables.lanes, tables.links
    queue = [(_time_s(tables, target[0]), target[0], int(lanes.edge[target[0]])) for target in signal.targets]
    heapq.heapify(queue)
    seen: set[int] = set()
    found: dict[int, Stretch] = {}
    while queue:
        time_s, lane, first = heapq.heappop(queue)
        edge = int(lanes.edge[lane])
        if edge in seen:
            continue
        seen.add(edge)
        on_edge = np.flatnonzero((lanes.edge == edge) & ~lanes.internal)
        leaving = [k for n in on_edge for k in range(lanes.link_begin[n], lanes.link_begin[n + 1])]
        met = {agent[int(links.signal[k])] for k in leaving if int(links.signal[k]) in agent}
        for other in met - {own}:
            found.setdefault(other, Stretch(own, other, time_s, len(on_edge), first, edge))
        if not met:
            for target in _once([int(links.target[k]) for k in leaving]):
                heapq.heappush(queue, (time_s + _time_s(tables, target), target, first))
    return list(found.values())


def _time_s(tables: Tables, lane: int) -> float:
    return float(tables.lanes.length[lane] / max(0.1, tables.lanes.speed[lane]))
