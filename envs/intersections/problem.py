"""The static problem of a world: one network, its controlled signals, and one demand per instance."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fedsched.envs.core import Flow
from fedsched.envs.intersections.compile import compile_tables
from fedsched.envs.intersections.configfile import read_config
from fedsched.envs.intersections.demand import Demand, Trip, VehicleType
from fedsched.envs.intersections.netfile import check_signals, read_network
from fedsched.envs.intersections.network import IntersectionsError, Network, Signal, find
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.signals import SignalModel, green_phases, movements
from fedsched.envs.intersections.stretches import Neighbours, Stretch, find_neighbours, find_stretches, movement_flow
from fedsched.envs.intersections.tables import I32, I64, LinkKind, Tables

_DATA = Path(__file__).parent / "data"

Bools = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


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

    @property
    def most_vehicles(self) -> int:
        """Room for everyone: no more than depart, and no more than stand bumper to bumper on all lanes."""
        trips = int(np.diff(self.first_trip).max(initial=1))
        shortest = float(self.tables.types.length.min(initial=5.0))
        standing = np.floor(self.tables.lanes.length / shortest) + 1
        return max(1, min(trips, int(standing.sum())))

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

    @cached_property
    def flow(self) -> Flow:
        """The signals that movements come from and lead to."""
        return movement_flow(self.tables, self.signals, self.movements)


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
        trips += [_numbered(trip, kind[trip.type], route[trip.route]) for trip in demand.trips]
    return Demand(tuple(types), tuple(routes), tuple(trips), "")


def _numbered(trip: Trip, kind: int, route: int) -> Trip:
    """The trip with these numbers; itself where it has them, since millions of copies would take seconds."""
    return trip if (trip.type, trip.route) == (kind, route) else dataclasses.replace(trip, type=kind, route=route)


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
