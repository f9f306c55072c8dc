"""The intersections world with SUMO's traffic: the same signals, observations, rewards and figures.

SUMO drives in worker processes, one per row, and reports every second where everybody is; decisions, yellow, counts,
rewards and observations are then those of the kernels (`kernels.replay`). The trips are those of the problem, with
their routes where its files give them.
"""

import tempfile
import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
import warp as wp

from fedsched.envs.core import Observation, Snapshot, WorldError
from fedsched.envs.intersections.actuation import actuated
from fedsched.envs.intersections.arrays import fill, replace_ways, to_tensor
from fedsched.envs.intersections.closures import closures_text
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.kernels import observe, replay
from fedsched.envs.intersections.kernels.state import Vehicle, bind, layout
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.netwriter import write_network
from fedsched.envs.intersections.priorities import Priority
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.routefile import write_routes
from fedsched.envs.intersections.signal_arrays import see_ways
from fedsched.envs.intersections.signals import transition
from fedsched.envs.intersections.sumo.batch import SumoBatch
from fedsched.envs.intersections.sumo.film import Film, Stage, cut, join
from fedsched.envs.intersections.sumo.gatekeeper import Limits
from fedsched.envs.intersections.sumo.gates import gate_plan
from fedsched.envs.intersections.sumo.routes import FoundRoutes
from fedsched.envs.intersections.sumo.simulation import Names, SumoError, SumoSetup, names_of
from fedsched.envs.intersections.tables import I32, Ways
from fedsched.envs.intersections.timing import Timing
from fedsched.envs.intersections.world import IntersectionsWorld


class SumoWorld(IntersectionsWorld):
    """B copies of one city, driven by SUMO; whatever decides in an `IntersectionsWorld` decides here.

    A row takes a process and about 130 MB from its reset to the end of its episode. Two worlds that are asked for the
    same agree to the bit on one machine and SUMO version, but a snapshot holds no traffic: `restore` starts the
    episodes anew, so `spec.exact` is False. The timing `actuated` is SUMO's own rule. Until an episode ends, the last
    second of the trips that are over is missing from their time loss; then SUMO's tripinfo replaces it.

    Trips whose file gives no route (`Trip.places`) are routed by SUMO, as it routes those of the file: by the travel
    times of the moment in which they depart. So they need not take the problem's routes, and `ways` has more ways than
    the problem's tables once they do not. Vehicles count for the links of the routes that they really take.

    Use as a context manager or call `close`; a world that is forgotten ends its processes too.

    Args:
        problem: Streets, signals and demands; instance k is demand k. It is written out for SUMO.
        batch: Number of copies B.
        timing: When signals decide, by name or as it is.
        districts: Of this problem: its sites, and the gates at which crossings are counted.
        priorities: Room for so many in each row.

    Raises:
        SumoError: SUMO is missing.
        IntersectionsError: An unknown timing, or an episode that begins within a second.
        WorldError: No copies, or no signal to control.
    """

    def __init__(
        self,
        problem: Problem,
        batch: int,
        timing: str | Timing = "resco",
        districts: Districts | None = None,
        priorities: int = 0,
    ) -> None:
        if problem.begin_s != round(problem.begin_s):
            raise IntersectionsError(
                f"the episode begins at {problem.begin_s:g} s; SUMO needs a whole second, begin at one"
            )
        self._batch = SumoBatch()
        trips = int(np.diff(problem.first_trip).max(initial=1))
        super().__init__(problem, batch, timing, slots=max(1, trips), districts=districts, priorities=priorities)
        self.spec = replace(self.spec, exact=False)
        self._folder = tempfile.TemporaryDirectory(prefix="fedsched-sumo-")
        self._end = weakref.finalize(self, _end, self._batch, self._folder)
        self._net = Path(self._folder.name) / "net.xml"
        network = problem.network
        if self.timing.longest_s:
            network = actuated(network, self.timing, [signal.index for signal in problem.signals])
        write_network(network, self._net)
        self._names: dict[int, Names] = {}
        self._episodes = torch.full((batch, 2), -1, dtype=torch.int64)
        self._driving: set[int] = set()
        self._places = _places(problem)
        self._guarded = districts is not None and bool(self.timing.period_s)
        self._routes = FoundRoutes(problem)
        self._seconds = torch.zeros(batch, dtype=torch.int32)
        self._green_at = torch.full((batch, len(problem.signals)), -1, dtype=torch.int32)
        bytes_each = layout(Vehicle)[1]
        self._memory = torch.zeros((batch, self.slots, bytes_each), dtype=torch.uint8)
        self._keys = torch.zeros((batch, self.slots), dtype=torch.int32)
        self._bind()

    def limit_inflow(
        self, vehicles: torch.Tensor, until_s: torch.Tensor, where: torch.Tensor | None = None
    ) -> Observation:
        """As in an `IntersectionsWorld`; the workers keep the limits, second by second.

        Raises:
            WorldError: A limit where signals run SUMO's programs, or what `inflow.begin_epoch` refuses.
        """
        if not self.timing.period_s and bool((vehicles >= 0).any()):
            raise WorldError(f"programs keep no limits in SUMO; use another timing than {self.timing.name!r}")
        return super().limit_inflow(vehicles, until_s, where)

    def _limits(self, rows: list[int]) -> dict[int, Limits]:
        """The limits now in force at each gate."""
        columns = [self.traffic[f"gate_{name}"].tolist() for name in ("limit", "begin", "end")]
        return {row: tuple(zip(*(column[row] for column in columns), strict=True)) for row in rows}

    def prioritise(self, wanted: Mapping[int, Sequence[Priority]]) -> Observation:
        """Lets signals serve some movements first, see `IntersectionsWorld.prioritise`.

        Raises:
            WorldError: One for a trip that SUMO routes: it need not come by; or what `set_priorities` refuses.
        """
        for row, own in wanted.items():
            trips = self.problem.demands[int(self._episodes[row, 0])].trips if row < self.batch else ()
            if free := [one.trip for one in own if 0 <= one.trip < len(trips) and trips[one.trip].places]:
                raise WorldError(f"row {row}: SUMO finds the route of trip {free[0]} itself; give it one in the demand")
        return super().prioritise(wanted)

    @property
    def ways(self) -> Ways:
        """The ways of everybody: those of the problem's tables, and behind them others that SUMO has found."""
        return self._routes.ways

    def snapshot(self) -> Snapshot:
        """Which episode each row is in: instance and seed, -1 before the first."""
        return Snapshot({"episodes": self._episodes.numpy().copy()}, {"problem": self._identity})

    def restore(self, snapshot: Snapshot) -> Observation:
        """Starts the episodes of a snapshot anew: SUMO's state cannot be put back.

        Raises:
            WorldError: A snapshot of another problem.
        """
        if snapshot.extra["problem"] != self._identity:
            raise WorldError("the snapshot is of another problem")
        episodes = torch.as_tensor(snapshot.arrays["episodes"])
        return self.reset(episodes[:, 0], episodes[:, 1], where=episodes[:, 0] >= 0)

    def branch(self, source: Self, rows: torch.Tensor) -> Observation:
        """Raises WorldError: SUMO's state cannot be copied."""
        del source, rows
        raise WorldError("SUMO's traffic cannot be copied; try actions out in an IntersectionsWorld")

    def close(self) -> None:
        """Ends all workers and removes what was written for them; rows can be reset no more."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bind(self) -> None:
        """The kernels' structs over the arrays, which stay where they are."""
        for module in (replay, observe):
            wp.load_module(module, device=self.device)
        *self._world, view, asked = self._bound()
        self._seen = view, asked
        self._bound_memory = bind(replay.Memory, {"vehicle": self._memory, "key": self._keys})
        self._go_array = wp.from_torch(self._go)

    def _start(self, rows: torch.Tensor, instances: torch.Tensor, seeds: torch.Tensor) -> None:
        super()._start(rows, instances, seeds)
        fill(self._memory, rows, 0)
        self._episodes[rows] = torch.stack([instances, seeds], 1)
        chosen = list(zip(rows.tolist(), instances.tolist(), seeds.tolist(), strict=True))
        self._batch.start({row: self._setup(instance, seed) for row, instance, seed in chosen})
        self._driving.update(rows.tolist())
        if self._guarded:
            assert self.districts is not None
            plans = {row: gate_plan(self.problem, self.districts, self.timing, instance) for row, instance, _ in chosen}
            self._batch.guard(plans)
        if self.timing.period_s:
            shown = {signal.index: signal.phases[0] for signal in self.problem.signals}
            self._batch.advance({row: [(shown, 0)] for row in rows.tolist()})

    def _setup(self, instance: int, seed: int) -> SumoSetup:
        demand, network = self.problem.demands[instance], self.problem.network
        path, closed = (Path(self._folder.name) / f"{instance}.{kind}.xml" for kind in ("rou", "add"))
        if instance not in self._names:
            write_routes(demand, network, path)
            closed.write_text(closures_text(demand.closures, network), encoding="utf-8")
            self._names[instance] = names_of(network, demand)
        begin = round(self.problem.begin_s)
        options = ("-a", str(closed), "--ignore-route-errors", "true") if demand.closures else ()
        end, names = begin + self.problem.seconds, self._names[instance]
        return SumoSetup(self._net, (path,), begin, end, seed, names, options)

    def _run(self) -> None:
        begun, phase = self.traffic["now"].clone(), self.control["phase"].clone()
        _, traffic, plan, control, *_ = self._world
        times = [wp.from_torch(self._chosen), wp.from_torch(self._until), wp.from_torch(self._seconds)]
        inputs = [traffic, plan, control, self._go_array, *times, wp.from_torch(self._green_at)]
        wp.launch(replay.schedule, self.batch, inputs=inputs, device=self.device)
        film = self._bound_film(self._drive(begun, phase))
        inputs = [*self._world, film, self._bound_memory, self._go_array]
        wp.launch(replay.replay, self.batch, inputs=inputs, device=self.device)
        shape = tuple(self._chosen.shape)
        wp.launch(observe.observe, shape, inputs=[*self._world, *self._seen], device=self.device)
        over = [row for row in sorted(self._driving) if bool(self.control["ended"][row])]
        self._finish(over)

    def _drive(self, begun: torch.Tensor, phase: torch.Tensor) -> Mapping[int, Film]:
        """Lets SUMO run all rows to their next decisions, with the yellow and green that lies between.

        Raises:
            SumoError: A worker failed; all rows must be reset, since the others have driven on.
        """
        rows = self._seconds.nonzero().flatten().tolist()
        try:
            stages = {row: self._stages(row, begun, phase) for row in rows}
            films = self._batch.advance(stages, self._limits(rows) if self._guarded else None)
        except SumoError:
            self._batch.drop()
            self._driving.clear()
            raise
        for row, film in films.items():
            if len(film.states) != int(self._seconds[row]):
                raise SumoError(f"SUMO stopped after {len(film.states)} of {int(self._seconds[row])} s")
        return films

    def _stages(self, row: int, begun: torch.Tensor, phase: torch.Tensor) -> list[Stage]:
        """What is shown from when on, for one row."""
        control, seconds, now = self.control, int(self._seconds[row]), int(begun[row])
        states: dict[int, dict[int, str]] = defaultdict(dict)
        yellow = (control["changed_at"][row] == now) & (control["yellow_until"][row] > now)
        for a in yellow.nonzero().flatten().tolist():
            signal = self.problem.signals[a]
            old, new = signal.phases[int(phase[row, a])], signal.phases[int(control["target"][row, a])]
            states[0][signal.index] = transition(old, new)
        for a in (self._green_at[row] >= 0).nonzero().flatten().tolist():
            signal = self.problem.signals[a]
            states[int(self._green_at[row, a])][signal.index] = signal.phases[int(control["phase"][row, a])]
        times = sorted({0, *states})
        return [(states[at], end - at) for at, end in zip(times, [*times[1:], seconds], strict=True)]

    def _bound_film(self, films: Mapping[int, Film]) -> object:
        """The films of all rows as the kernels read them."""
        rows = sorted(films)
        joined = join([films[row] for row in rows]) if films else cut([])
        entered = [films[row].entered + int(self.traffic["first_trip"][row]) for row in rows]
        key, last = self._driven(np.concatenate(entered) if films else joined.entered, joined)
        states = joined.states[:, self._places] if films else np.zeros((0, len(self._places)))
        first = np.cumsum([0, *self._seconds.tolist()])
        columns = {**vars(joined), "states": states.astype(np.int32), "first": first, "key": key, "last": last}
        self._film = {name: to_tensor(values, self.device) for name, values in columns.items()}
        return bind(replay.Film, self._film)

    def _driven(self, trips: I32, film: Film) -> tuple[I32, I32]:
        """The (route, class) and the last place of those who entered; ways that are new are made known."""
        before = self.ways.begin.shape[1]
        key, last, new = self._routes.meet(trips, film)
        if new is not None:
            replace_ways(self.road, self.traffic, self.ways, before)
            see_ways(self._sight, self.problem, new)
            self._bind()
        return key, last

    def _finish(self, rows: list[int]) -> None:
        """Takes over what SUMO says of the trips of episodes that are over."""
        for row, trips in self._batch.finish(rows).items():
            self._driving.discard(row)
            names = self._names[int(self._episodes[row, 0])].trips
            number = {name: n for n, name in enumerate(names)}
            place = torch.tensor([number[name] for name in trips.id], dtype=torch.int64)
            self._correct(row, "time_loss", "trip_loss", place, torch.as_tensor(trips.time_loss_s))
            self._correct(row, "total_waiting", "trip_waiting", place, torch.as_tensor(trips.waiting_s))

    def _correct(self, row: int, running: str, done: str, trips: torch.Tensor, values: torch.Tensor) -> None:
        """Writes a figure of trips where those who drive and those who have arrived have it."""
        traffic = self.traffic
        of_trip = torch.zeros(traffic[done].shape[1], dtype=torch.float64)
        of_trip[trips] = values
        arrived = traffic["trip_arrived"][row] >= 0
        traffic[done][row] = torch.where(arrived, of_trip, 0.0).to(traffic[done].dtype)
        driving = slice(0, int(traffic["count"][row]))
        ids = traffic["id"][row, driving].long()
        traffic[running][row, driving] = of_trip[ids].to(traffic[running].dtype)


def _end(batch: SumoBatch, folder: tempfile.TemporaryDirectory[str]) -> None:
    batch.close()
    folder.cleanup()


def _places(problem: Problem) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Where each signal link stands among the states of all signals, one after another."""
    widths = [len(signal.connections) for signal in problem.network.signals]
    first = np.concatenate(([0], np.cumsum(widths)))
    links = problem.tables.links
    own = problem.signal_links
    return np.asarray(first[links.signal[own]] + links.signal_index[own], dtype=np.int64)
