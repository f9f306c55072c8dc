"""One SUMO simulation, stepped from Python: signals in, vehicles out as arrays.

libsumo holds one simulation per process; `batch.SumoBatch` runs several, each in a process of its own.
"""

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fedsched.envs.intersections.demand import Demand
from fedsched.envs.intersections.network import IntersectionsError, Network
from fedsched.envs.intersections.sumo.outputs import EdgeTimes, Outcome, Trips, edge_times, outcome, read_trips
from fedsched.envs.intersections.sumo.seen import FAR, OnRoad, Second, SignalPlan

OPTIONS = ("--step-length", "1", "--time-to-teleport", "-1", "--no-warnings", "true", "--no-step-log", "true")
"""How SUMO runs in every comparison: whole seconds, nobody is teleported out of a jam."""


class SumoError(IntersectionsError):
    """SUMO is missing, refuses its input or is used in a way that libsumo does not allow."""


def load_libsumo() -> Any:  # noqa: ANN401 - libsumo has no types
    """The libsumo module.

    Raises:
        SumoError: It is not installed.
    """
    before = os.environ.get("LIBSUMO_AS_TRACI")
    os.environ["LIBSUMO_AS_TRACI"] = "quiet"  # it would print a warning wherever pyarrow is installed
    try:
        return importlib.import_module("libsumo")
    except ModuleNotFoundError as error:
        raise SumoError("SUMO is not installed: pip install 'fedsched[sumo]'") from error
    finally:
        if before is None:
            del os.environ["LIBSUMO_AS_TRACI"]
        else:
            os.environ["LIBSUMO_AS_TRACI"] = before


@dataclass(frozen=True)
class Names:
    """SUMO's ids in the order of our indices.

    Attributes:
        lanes: Normal and internal lanes.
        signals: Traffic lights.
        types: Vehicle types.
        trips: Vehicles, in order of departure.
        edges: Normal and internal edges.
        routed: Indices of the vehicles whose route SUMO finds.
    """

    lanes: tuple[str, ...]
    signals: tuple[str, ...]
    types: tuple[str, ...] = ()
    trips: tuple[str, ...] = ()
    edges: tuple[str, ...] = ()
    routed: frozenset[int] = frozenset()


def names_of(network: Network, demand: Demand) -> Names:
    """The ids of a network and a demand, so that SUMO's vehicles bear the indices of our tables."""
    return Names(
        lanes=tuple(lane.id for lane in network.lanes),
        signals=tuple(signal.id for signal in network.signals),
        types=tuple(kind.id for kind in demand.types),
        trips=tuple(trip.id for trip in demand.trips),
        edges=tuple(edge.id for edge in network.edges),
        routed=frozenset(n for n, trip in enumerate(demand.trips) if trip.places),
    )


@dataclass(frozen=True)
class SumoSetup:
    """What one simulation needs.

    Attributes:
        net: Network file.
        routes: Route files.
        begin_s: First second, on the clock of the files.
        end_s: No step begins at or after it.
        seed: Of SUMO's random numbers: speed factors, dawdling.
        names: Ids in the order of the indices wanted; None: SUMO's own order, types and trips as they turn up.
        options: Further options of SUMO.
        edge_times: Whether to record when vehicles leave edges.
    """

    net: Path
    routes: tuple[Path, ...]
    begin_s: int
    end_s: int
    seed: int
    names: Names | None = None
    options: tuple[str, ...] = ()
    edge_times: bool = False


@dataclass
class _Index:
    """Indices by id; unknown ids are appended where the order was left to SUMO."""

    what: str
    of: dict[str, int] = field(default_factory=dict)
    closed: bool = True

    @classmethod
    def over(cls, what: str, names: Iterable[str], closed: bool) -> Self:
        return cls(what, {name: k for k, name in enumerate(names)}, closed)

    def __getitem__(self, name: str) -> int:
        found = self.of.get(name)
        if found is not None:
            return found
        if self.closed:
            raise SumoError(f"SUMO has a {self.what} {name!r} that the names do not list")
        return self.of.setdefault(name, len(self.of))


class SumoSimulation:
    """A running simulation; the only one of its process. Use as a context manager, or call `close`.

    libsumo keeps some state when a simulation ends: only the first of a process is repeated exactly by an equal setup,
    later ones agree statistically (SUMO 1.28). `SumoBatch` gives every simulation a fresh process.

    Raises:
        SumoError: SUMO is missing, another simulation runs in this process, or SUMO refuses the files.
    """

    _running = False

    def __init__(self, setup: SumoSetup) -> None:
        if SumoSimulation._running:
            raise SumoError("libsumo holds one simulation per process: close the other one or use SumoBatch")
        self.setup = setup
        self._libsumo = load_libsumo()
        self._folder = Path(tempfile.mkdtemp(prefix="fedsched-sumo-"))
        self._trips: Trips | None = None
        self._edges: EdgeTimes = {}
        try:
            self._libsumo.start(self._command())
        except Exception as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise SumoError(f"SUMO refuses {setup.net}: {error}") from error
        SumoSimulation._running = True
        names = setup.names or Names(self._libsumo.lane.getIDList(), self._libsumo.trafficlight.getIDList())
        listed = setup.names is not None
        self.signals = tuple(names.signals)
        self._lanes = _Index.over("lane", names.lanes, closed=True)
        self._signal = _Index.over("signal", names.signals, closed=True)
        self._types = _Index.over("vehicle type", names.types, listed)
        self._trip = _Index.over("vehicle", names.trips, listed)
        self._edge = _Index.over("edge", names.edges, closed=True)
        self._routed = names.routed

    def _command(self) -> list[str]:
        setup = self.setup
        command = ["sumo", "-n", str(setup.net), "-r", ",".join(map(str, setup.routes)), "--seed", str(setup.seed)]
        command += ["-b", str(setup.begin_s), "-e", str(setup.end_s), *OPTIONS, *setup.options]
        command += ["--tripinfo-output", str(self._folder / "trips.xml"), "--tripinfo-output.write-unfinished", "true"]
        if setup.edge_times:
            command += ["--vehroute-output", str(self._folder / "routes.xml"), "--vehroute-output.exit-times", "true"]
            command += ["--vehroute-output.write-unfinished", "true"]
        return command

    @property
    def time_s(self) -> int:
        """The clock of the files: when the next step begins."""
        return int(self._libsumo.simulation.getTime())

    @property
    def count(self) -> int:
        """Vehicles on the road."""
        return int(self._libsumo.vehicle.getIDCount())

    def plans(self) -> tuple[SignalPlan, ...]:
        """Programs and movements of all signals, in the order of the indices."""
        lights = self._libsumo.trafficlight
        found = []
        for name in self.signals:
            phases = tuple((float(p.duration), str(p.state)) for p in lights.getAllProgramLogics(name)[0].phases)
            links = lights.getControlledLinks(name)
            targets = tuple(tuple(self._lanes[link[1]] for link in place) for place in links)
            sources = tuple(tuple(self._lanes[link[0]] for link in place) for place in links)
            found.append(SignalPlan(name, phases, targets, sources))
        return tuple(found)

    def states(self) -> tuple[str, ...]:
        """What every signal shows, a character per place."""
        show = self._libsumo.trafficlight.getRedYellowGreenState
        return tuple(show(name) for name in self.signals)

    def set_states(self, states: Mapping[int, str]) -> None:
        """Sets signals, by index; they hold until set again and no longer follow their program."""
        for signal, state in states.items():
            self._libsumo.trafficlight.setRedYellowGreenState(self.signals[signal], state)

    def step(self, seconds: int = 1) -> None:
        """Lets time pass, up to the end.

        Raises:
            SumoError: SUMO gave up.
        """
        try:
            for _ in range(min(seconds, self.setup.end_s - self.time_s)):
                self._libsumo.simulationStep()
        except (self._libsumo.TraCIException, self._libsumo.libsumo.FatalTraCIError) as error:
            raise SumoError(f"SUMO stopped: {error}") from error

    def on_road(self) -> OnRoad:
        """Everyone on the road now, in SUMO's order."""
        vehicle = self._libsumo.vehicle
        ids = vehicle.getIDList()
        ahead = [self._next_signal(vehicle.getNextTLS(v)) for v in ids]
        return OnRoad(
            trip=np.array([self._trip[v] for v in ids], dtype=np.int32),
            lane=np.array([self._lanes[vehicle.getLaneID(v)] for v in ids], dtype=np.int32),
            position=np.array([vehicle.getLanePosition(v) for v in ids], dtype=np.float64),
            speed=np.array([vehicle.getSpeed(v) for v in ids], dtype=np.float64),
            waiting_s=np.array([vehicle.getWaitingTime(v) for v in ids], dtype=np.float64),
            type=np.array([self._types[vehicle.getTypeID(v)] for v in ids], dtype=np.int32),
            signal=np.array([a[0] for a in ahead], dtype=np.int32),
            signal_index=np.array([a[1] for a in ahead], dtype=np.int32),
            distance=np.array([a[2] for a in ahead], dtype=np.float64),
        )

    def second(self) -> Second:
        """What the last second has brought; a call per value, which is what takes libsumo least time."""
        vehicle, simulation = self._libsumo.vehicle, self._libsumo.simulation
        ids, entered = vehicle.getIDList(), simulation.getDepartedIDList()
        return Second(
            trip=[self._trip[v] for v in ids],
            lane=[self._lanes[vehicle.getLaneID(v)] for v in ids],
            position=[vehicle.getLanePosition(v) for v in ids],
            speed=[vehicle.getSpeed(v) for v in ids],
            entered=[self._trip[v] for v in entered],
            factor=[vehicle.getSpeedFactor(v) for v in entered],
            routes=[self._found(v) for v in entered],
            left=[self._trip[v] for v in simulation.getArrivedIDList()],
            states="".join(self.states()),
        )

    def _found(self, name: str) -> list[int]:
        """The route that SUMO has found for a vehicle: until it is inserted it may be another."""
        if self._trip[name] not in self._routed:
            return []
        return [self._edge[edge] for edge in self._libsumo.vehicle.getRoute(name)]

    def _next_signal(self, ahead: tuple[tuple[str, int, float, str], ...]) -> tuple[int, int, float]:
        return (self._signal[ahead[0][0]], ahead[0][1], ahead[0][2]) if ahead else (-1, -1, FAR)

    def close(self) -> None:
        """Ends the simulation and reads what it wrote; safe to call again."""
        if not SumoSimulation._running or not self._folder.exists():
            return
        SumoSimulation._running = False
        try:
            self._libsumo.close()
            self._trips = read_trips(self._folder / "trips.xml")
            if self.setup.edge_times:
                self._edges = edge_times(self._folder / "routes.xml")
        finally:
            shutil.rmtree(self._folder)

    def trips(self) -> Trips:
        """All that were inserted; closes the simulation."""
        self.close()
        assert self._trips is not None
        return self._trips

    def outcome(self, departs_s: npt.NDArray[np.float64]) -> Outcome:
        """The run in numbers; closes the simulation.

        Args:
            departs_s: When each vehicle of the demand was to depart, on the clock of the files.
        """
        end = self.time_s if self._trips is None else self.setup.end_s
        return outcome(self.trips(), departs_s, self.setup.begin_s, end)

    def edge_times(self) -> EdgeTimes:
        """Mean seconds per edge and by how many vehicles, where the setup asked for it; closes the simulation."""
        self.close()
        return self._edges

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
