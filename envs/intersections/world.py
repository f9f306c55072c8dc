"""The intersections world: B copies of one city, driven by Warp kernels (docs/intersections.md states the rules)."""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
import warp as wp

from fedsched.envs.core import (
    IllegalActionError,
    KindSpec,
    Observation,
    Snapshot,
    Tokens,
    Transition,
    WorldError,
    WorldSpec,
    stream,
)
from fedsched.envs.intersections import inflow, metrics
from fedsched.envs.intersections.actuation import make_actuation
from fedsched.envs.intersections.arrays import (
    clear_rows,
    fill,
    host,
    road_columns,
    stored,
    structs,
    to_tensor,
    traffic_columns,
)
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.kernels import observe, second
from fedsched.envs.intersections.kernels.actuated import Greens, Loops
from fedsched.envs.intersections.kernels.control import LONG_AGO, Control, Plan
from fedsched.envs.intersections.kernels.measure import Count, Sight
from fedsched.envs.intersections.kernels.observe import View
from fedsched.envs.intersections.kernels.priorities import Priorities
from fedsched.envs.intersections.kernels.state import FLAG_FULL, FLAG_PLANS, bind
from fedsched.envs.intersections.priorities import Priority, priority_columns, set_priorities, stored_priorities
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.signal_arrays import (
    control_columns,
    count_columns,
    green_columns,
    loop_columns,
    plan_columns,
    sight_columns,
    start_greens,
    view_columns,
)
from fedsched.envs.intersections.timing import Timing, named_timing

KIND = "signal"
OWN_FEATURES = (
    "log_in_phase", "yellow", "log_since_change", "phases", "movements", "hour_sin", "hour_cos",
)  # fmt: skip
MOVEMENT_FEATURES = (
    "log_queue", "log_approaching", "log_near", "log_waiting", "speed_share", "room_share", "log_queue_behind",
    "lanes", "right", "straight", "left", "back", "protected", "permissive", "yellow", "log_since_green",
    "gate", "inflow_left",
)  # fmt: skip
PHASE_FEATURES = ("current", "protected_share", "permissive_share")
REWARD_PARTS = (
    "delay", "queue", "waiting", "pressure", "stops", "throughput", "fuel", "co2", "priority_delay",
)  # fmt: skip
"""Per signal, of the vehicles that meet it next; accrued every second, costs negative.

delay: 1 - v / desired v, within 200 m. queue: halting ones within 200 m. waiting: standing ones, however far.
pressure: queue minus the halting ones on the first 200 m behind it. stops: vehicles that came to stand.
throughput: passed its stop line (positive). fuel: ml. co2: g. priority_delay: delay, emergency x 10, bus x 3."""


def world_spec(problem: Problem, districts: Districts | None = None) -> WorldSpec:
    """The static description of a problem's world; where it has districts, each is a site."""
    kind = KindSpec(
        name=KIND,
        agents=tuple(signal.id for signal in problem.signals),
        own=OWN_FEATURES,
        entity=MOVEMENT_FEATURES,
        entities=problem.movements,
        action=PHASE_FEATURES,
        actions=problem.phases + 1,
        idle=problem.phases,
        relation=np.pad(problem.served > 0, ((0, 0), (0, 1), (0, 0))),
        links=problem.competing,
        flow=problem.flow,
    )
    site = None if districts is None else districts.site
    names = metrics.names(problem)
    return WorldSpec("intersections", (kind,), problem.neighbours.agent, REWARD_PARTS, names, site=site)


class IntersectionsWorld:
    """B copies of one city.

    Args:
        problem: Streets, signals and demands; instance k is demand k.
        batch: Number of copies B.
        timing: When signals decide, by name or as it is.
        device: `cpu` or a CUDA device.
        slots: Room for vehicles on the road at once; by default as many as there can be.
        districts: Of this problem: its sites, and the gates between them, see `inflow`.
        priorities: Room for so many in each row, see `prioritise`.

    Raises:
        IntersectionsError: An unknown timing.
        WorldError: No copies, or no signal to control.
    """

    def __init__(
        self,
        problem: Problem,
        batch: int,
        timing: str | Timing = "resco",
        device: str = "cpu",
        slots: int | None = None,
        districts: Districts | None = None,
        priorities: int = 0,
    ) -> None:
        if batch < 1:
            raise WorldError(f"a world needs at least one copy, got batch={batch}")
        if not problem.signals:
            raise WorldError("no signal is controlled; name one that has a green phase")
        self.problem, self.batch, self.device, self.districts = problem, batch, device, districts
        self.timing = named_timing(timing, problem.name) if isinstance(timing, str) else timing
        self.spec = world_spec(problem, districts)
        self._identity = problem.digest + (districts.digest if districts else "")
        self.slots = problem.most_vehicles if slots is None else slots
        trips = int(np.diff(problem.first_trip).max())
        self.road = road_columns(problem.tables, problem.begin_s, device, districts, self.timing)
        self.traffic = traffic_columns(problem.tables, batch, self.slots, device, trips, districts)
        self.control = control_columns(problem, batch, device)
        self.counts = count_columns(problem, batch, len(REWARD_PARTS), device)
        features = len(OWN_FEATURES), len(MOVEMENT_FEATURES)
        self.view = view_columns(problem, batch, *features, device, self.road["link_gate"].cpu().numpy())
        self.priorities = priority_columns(problem, batch, priorities, device)
        self._plan, self._numbers = plan_columns(problem, self.timing, device)
        self._actuation = make_actuation(problem, self.timing)
        self._loops = loop_columns(self._actuation, len(problem.tables.lanes.length), device)
        self._greens = green_columns(self._actuation, batch, device)
        self._sight = sight_columns(problem, device)
        self._first = torch.as_tensor(problem.first_trip, device=device)
        self._change = to_tensor(problem.tables.closures.begin, device)
        self._go = torch.zeros(batch, dtype=torch.bool, device=device)
        self._chosen = torch.full((batch, len(problem.signals)), problem.phases, dtype=torch.int64, device=device)
        self._until = torch.full((batch,), torch.inf, dtype=torch.float64, device=device)
        self._never = torch.zeros((batch, len(problem.signals)), dtype=torch.bool, device=device)
        self._graph: wp.Graph | None = None

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        """Starts the demands of these instances on empty streets and runs to the first decision.

        Raises:
            WorldError: An unknown instance, or not one instance and one seed for each copy.
        """
        if {tuple(instances.shape), tuple(seeds.shape)} != {(self.batch,)}:
            told = f"{list(instances.shape)} and {list(seeds.shape)}"
            raise WorldError(f"instances and seeds are [{self.batch}], got {told}")
        go = torch.ones_like(self._go) if where is None else where.to(self.device)
        rows = go.nonzero().flatten()
        chosen = instances.to(self.device)[rows]
        known = len(self.problem.demands)
        if bool(((chosen < 0) | (chosen >= known)).any()):
            raise WorldError(f"instances {chosen.tolist()}: this world has 0 to {known - 1}")
        short = torch.tensor([fold(int(seed)) for seed in seeds.to(self.device)[rows]], device=self.device)
        self._start(rows, chosen, short)
        if until_s is None and not self.timing.period_s:
            until_s = torch.zeros_like(self._until)  # nobody will ever decide: the first step runs it all
        self._launch(go, None, until_s)
        return self.observe()

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        """Shows the chosen phases and runs to the next decision or to `until_s`; `keep` where nobody must decide."""
        if KIND not in actions:
            raise IllegalActionError(f"actions are those of {KIND!r}, got {', '.join(map(repr, actions)) or 'none'}")
        chosen = actions[KIND]
        self._check(chosen)
        self._launch(None, chosen, until_s)
        return Transition(
            observation=self.observe(),
            reward={KIND: self.counts["reward"].clone()},
            elapsed_s=self.control["elapsed_s"].clone(),
            terminated={KIND: self._never},
            truncated=self.control["ended"].clone(),
        )

    def limit_inflow(
        self, vehicles: torch.Tensor, until_s: torch.Tensor, where: torch.Tensor | None = None
    ) -> Observation:
        """Lets so many vehicles [B, G] cross each gate between districts until `until_s` [B]; see `inflow`."""
        inflow.begin_epoch(self, vehicles, until_s, where)
        return self._look()

    def prioritise(self, wanted: Mapping[int, Sequence[Priority]]) -> Observation:
        """Lets signals serve some movements first, by row; replaces what was asked of these; see `priorities`."""
        set_priorities(self, wanted)
        return self._look()

    def _look(self) -> Observation:
        """What the signals see after something has changed from outside."""
        wp.launch(observe.observe, tuple(self._chosen.shape), inputs=self._bound(), device=self.device)
        return self.observe()

    def metrics(self) -> dict[str, torch.Tensor]:
        """The episodes so far, each float64 [B]; see `fedsched.envs.intersections.metrics`."""
        return metrics.of_world(self)

    def snapshot(self) -> Snapshot:
        """The exact state of all rows."""
        arrays = {f"{t}.{name}": column for t, own in self._tables().items() for name, column in host(own).items()}
        return Snapshot(arrays, {"problem": self._identity})

    def restore(self, snapshot: Snapshot) -> Observation:
        """Continues from a snapshot of a world of the same problem, districts, batch and slots.

        Raises:
            WorldError: A snapshot of another problem.
        """
        if snapshot.extra["problem"] != self._identity:
            raise WorldError("the snapshot is of another problem")
        for t, own in self._tables().items():
            for name, column in own.items():
                column.copy_(torch.as_tensor(snapshot.arrays[f"{t}.{name}"]))
        return self.observe()

    def branch(self, source: Self, rows: torch.Tensor) -> Observation:
        """Makes row b an exact copy of `source`'s row `rows[b]`, int64 [B]: what follows depends on actions alone.

        Raises:
            WorldError: `source` has another problem, timing, other districts, or other room for vehicles or priorities.
        """
        mine, other = ((w._identity, w.timing, w.slots, w.priorities["signal"].shape[1]) for w in (self, source))
        if mine != other:
            raise WorldError("not alike: give both worlds one problem, timing, districts, as many slots and priorities")
        for t, own in self._tables().items():
            there = source._tables()[t]
            for name, column in own.items():
                column.copy_(there[name].index_select(0, rows))
        return self.observe()

    def lost(self) -> torch.Tensor:
        """Time loss and departure delay of all who were due, float64 [B], vehicle s: RESCO's delay times trips."""
        return metrics.delays(self).sum(1)

    def observe(self) -> Observation:
        """What the signals see now."""
        view, control = self.view, self.control
        tokens = Tokens(
            view["own"], view["entities"], view["entity_mask"], view["actions"], view["action_mask"],
            control["active"], control["alive"],
        )  # fmt: skip
        return Observation(control["time_s"], {KIND: tokens})

    def _start(self, rows: torch.Tensor, instances: torch.Tensor, seeds: torch.Tensor) -> None:
        """Puts rows to the start of these instances."""
        first = self._first[instances]
        trips, change = self._first[instances + 1] - first, self._change[instances]
        clear_rows(self.traffic, self.road, rows, seeds, first, trips, change)
        self._clear_control(rows)

    def _tables(self) -> dict[str, dict[str, torch.Tensor]]:
        shown = {name: self.view[name] for name in ("own", "entities", "actions", "action_mask")}
        own = {"traffic": stored(self.traffic), "control": self.control, "counts": self.counts, "view": shown}
        return {**own, "greens": self._greens, "priorities": stored_priorities(self.priorities)}

    def _clear_control(self, rows: torch.Tensor) -> None:
        for columns in (self.control, self.counts):
            for column in columns.values():
                fill(column, rows, 0)
        fill(self.control["changed_at"], rows, LONG_AGO)
        fill(self.control["decided"], rows, -1)
        start_greens(self._greens, self._actuation, self.problem, rows)
        fill(self.priorities["signal"], rows, -1)
        if self.timing.period_s:
            shown = self._plan["green"][self._plan["phase_first"][:-1].long()]
            self.traffic["forced"][rows[:, None], self._plan["signal"].long()] = shown

    def _check(self, chosen: torch.Tensor) -> None:
        shape = tuple(self._chosen.shape)
        if tuple(chosen.shape) != shape or chosen.dtype != torch.int64:
            raise IllegalActionError(f"actions are int64 {list(shape)}, got {chosen.dtype} {list(chosen.shape)}")
        mask = self.view["action_mask"]
        inside = chosen.clamp(0, mask.shape[2] - 1)
        legal = mask.gather(2, inside[:, :, None])[:, :, 0] & (inside == chosen)
        if not bool(legal.all()):
            b, a = (~legal).nonzero()[0].tolist()
            allowed = mask[b, a].nonzero().flatten().tolist()
            raise IllegalActionError(
                f"world {b}, signal {self.spec.kinds[0].agents[a]}: action {int(chosen[b, a])} is illegal; "
                f"legal: {allowed}"
            )

    def _launch(self, go: torch.Tensor | None, chosen: torch.Tensor | None, until_s: torch.Tensor | None) -> None:
        if go is None:
            self._go.fill_(True)
        else:
            self._go.copy_(go)
        if chosen is not None:
            self._chosen.copy_(chosen)
        if until_s is None:
            self._until.fill_(torch.inf)
        else:
            self._until.copy_(until_s)
        self._run()
        for flag, what in (
            (FLAG_FULL, f"more than {self.slots} vehicles on the road"),
            (FLAG_PLANS, f"no room for the links that the vehicles of {self.slots} slots plan to pass"),
        ):
            rows = (self.traffic["flag"] & flag).nonzero()
            if len(rows):
                raise WorldError(f"world {int(rows[0])}: {what}; give the world more slots")

    def _run(self) -> None:
        """Applies the choices; lets the rows of `_go` pass to their next decision or to `_until`."""
        wp.capture_launch(self._captured())

    def _captured(self) -> wp.Graph:
        """The kernels of a step, captured once."""
        if self._graph is None:
            for module in (second, observe):  # loaded before the capture, since a capture compiles nothing
                wp.load_module(module, device=self.device)
            *shared, view, asked = self._bound()
            actuated = [bind(Loops, self._loops), bind(Greens, self._greens)]
            inputs = [wp.from_torch(self._go), wp.from_torch(self._chosen), wp.from_torch(self._until)]
            with wp.ScopedCapture(device=self.device) as capture:
                wp.launch(second.run_to_decision, self.batch, inputs=[*shared, *actuated, *inputs], device=self.device)
                wp.launch(observe.observe, tuple(self._chosen.shape), inputs=[*shared, view, asked], device=self.device)
            self._graph = capture.graph
        return self._graph

    def _bound(self) -> list[object]:
        """The kernels' structs over the columns."""
        plan, control = bind(Plan, {**self._plan, **self._numbers}), bind(Control, self.control)
        sight, counts = bind(Sight, self._sight), bind(Count, self.counts)
        view = bind(View, {**self.view, "begin_s": self.problem.begin_s})
        asked = bind(Priorities, self.priorities)
        return [*structs(self.road, self.traffic), plan, control, sight, counts, view, asked]


def fold(seed: int) -> int:
    """A seed as the kernels hold it: itself where it fits."""
    return seed if 0 <= seed < 1 << 31 else int(stream(seed, "intersections/seed").integers(1 << 31))
