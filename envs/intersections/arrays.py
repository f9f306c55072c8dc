"""The arrays behind a batch of streets: allocated once as torch tensors, seen by the kernels without a copy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsched.envs.intersections.kernels.control import Control
from fedsched.envs.intersections.kernels.measure import Count
from fedsched.envs.intersections.kernels.state import ITEMS, REARS, Road, Traffic, bind, columns_of, real
from fedsched.envs.intersections.links import begins
from fedsched.envs.intersections.network import CLASSES, Turn
from fedsched.envs.intersections.problem import Problem, next_signals
from fedsched.envs.intersections.tables import LinkKind, Tables
from fedsched.envs.intersections.timing import Timing

Columns = dict[str, torch.Tensor]
REAL = torch.float64 if "64" in real.__name__ else torch.float32
STACK = 32
_I32, _BOOL = torch.int32, torch.bool
_KINDS = {"float64": torch.float64, "float32": torch.float32, "int32": _I32, "bool": _BOOL}
_NONE = (
    "lane_first", "lane_last", "rear_first", "approach_first", "shown", "failed", "trip_inserted", "trip_arrived",
    "behind",
)  # fmt: skip
"""Columns in which -1 stands for nothing."""

DETECTOR_S = 2.0
"""How far before the stop line a detector lies, at the speed limit; SUMO's default."""

VIEW_M = 200.0
"""How far a lane behind a signal counts."""

GRAVITY, AIR_KG_PER_M3 = 9.81, 1.3
HEAVY = ("bus", "coach", "truck", "trailer")
PRIORITY = {"emergency": 10.0, "bus": 3.0}
"""Weight of a vehicle class in the reward `priority_delay`; others 1."""


@dataclass(frozen=True)
class Engine:
    """What a second of driving burns: (max(0, m a + m g c_r + rho c_d A v^2 / 2) v + P_0) times consumption per work.

    Source: Treiber and Kesting, Traffic Flow Dynamics (2013), chapter 20, without overrun fuel cut-off; the figures of
    heavy vehicles are our assumption. No gradients.
    """

    mass_kg: float
    rolling: float
    drag: float
    area_m2: float
    idling_w: float
    ml_per_kwh: float


ENGINES = {
    "car": Engine(1500.0, 0.015, 0.3, 2.2, 3000.0, 300.0),
    "heavy": Engine(15000.0, 0.008, 0.6, 8.0, 6000.0, 250.0),
}

_TURN = {
    Turn.RIGHT: 0, Turn.PARTIAL_RIGHT: 0, Turn.STRAIGHT: 1, Turn.LEFT: 2, Turn.PARTIAL_LEFT: 2, Turn.TURN: 3,
}  # fmt: skip


def road_columns(tables: Tables, begin_s: float, device: str) -> Columns:
    """The static tables as the kernels read them.

    Args:
        tables: Network, programs, routes and demand.
        begin_s: The clock of the files at second 0 of an episode.
        device: Where the tensors live.
    """
    lanes, links, conflicts, signals = tables.lanes, tables.links, tables.conflicts, tables.signals
    ways, types, vehicles = tables.ways, tables.types, tables.vehicles
    before_begin, before = _before(tables)
    edge_lane, wide = _edges(tables)
    signal_link_begin, signal_link = _signal_links(tables)
    ends, offsets = _cycles(tables, begin_s)
    into = np.full(len(lanes.length), -1, dtype=np.int32)
    into[links.next] = np.arange(len(links.next))
    into[~lanes.internal] = -1
    into_kind = np.append(links.kind, -1)[into]
    columns: dict[str, npt.NDArray[Any]] = {
        "lane_length": lanes.length, "lane_speed": lanes.speed, "lane_edge": lanes.edge, "lane_index": lanes.index,
        "lane_right": lanes.right, "lane_left": lanes.left, "lane_internal": lanes.internal,
        "lane_waiting": lanes.waiting, "lane_single": np.bincount(lanes.edge)[lanes.edge] == 1,
        "lane_second": into_kind == LinkKind.INNER, "lane_into": into, "lane_radius": lanes.radius,
        "lane_junction": np.append(links.junction, -1)[np.where(lanes.internal, lanes.entry, -1)],
        "lane_allowed": lanes.allowed.astype(np.int32), "lane_link": lanes.link_begin, "lane_entry": lanes.entry,
        "lane_before_begin": before_begin, "lane_before": before, "edge_lane": edge_lane, "wide_edge": wide,
        "signal_link_begin": signal_link_begin, "signal_link": signal_link, "phase_begin": signals.phase_begin,
        "phase_end_s": ends, "phase_state": signals.state, "offset_s": offsets,
        "link_source": links.source, "link_next": links.next, "link_target": links.target, "link_kind": links.kind,
        "link_entry": links.entry, "link_signal": links.signal, "link_signal_index": links.signal_index,
        "link_fixed": links.state, "link_cont": links.cont, "link_clear": links.has_foes & links.keep_clear,
        "link_through": np.where(lanes.internal[links.next], lanes.length[links.next], 0.0),
        "response_begin": links.response_begin, "response": links.response,
        "foe_begin": links.foe_begin, "foe": links.foe, "conflict_begin": conflicts.begin,
        "conflict_lane": conflicts.lane, "conflict_kind": conflicts.kind, "own_begin": conflicts.own_begin,
        "own_end": conflicts.own_end, "other_begin": conflicts.other_begin, "other_end": conflicts.other_end,
        "must_yield": conflicts.must_yield, "other_yields": conflicts.other_yields,
        "way_edge": ways.edge, "way_length": ways.length, "way_offset": ways.offset, "way_link": ways.link,
        "size": types.length, "gap": types.min_gap, "accel": types.accel, "decel": types.decel,
        "emergency": types.emergency_decel, "sigma": types.sigma, "tau": types.tau, "fastest": types.max_speed,
        "factor_mean": types.speed_factor, "factor_deviation": types.speed_deviation,
        "factor_low": types.speed_low, "factor_high": types.speed_high, "vehicle_class": types.vehicle_class,
        "trip_depart": np.ceil(vehicles.depart_s).astype(np.int32), "trip_way": vehicles.way,
        "trip_last": vehicles.edges - 1, "trip_type": vehicles.type, "trip_lane": vehicles.lane,
        "trip_speed": vehicles.speed, "trip_position": vehicles.position,
    }  # fmt: skip
    return {name: _tensor(values, device) for name, values in columns.items()}


def _tensor(values: npt.NDArray[Any], device: str) -> torch.Tensor:
    kinds = {"f": REAL, "i": _I32, "u": _I32, "b": _BOOL}
    return torch.from_numpy(np.ascontiguousarray(values).copy()).to(kinds[values.dtype.kind]).to(device)


def _before(tables: Tables) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The lanes that lead onto each lane, as lists one after another."""
    order = np.argsort(tables.links.next, kind="stable")
    counts = np.bincount(tables.links.next, minlength=len(tables.lanes.length))
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int32), tables.links.source[order].astype(np.int32)


def _edges(tables: Tables) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The first lane of each normal edge, and the edges of several lanes."""
    normal = tables.lanes.edge[~tables.lanes.internal]
    counts = np.bincount(normal)
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int32), np.flatnonzero(counts > 1).astype(np.int32)


def _signal_links(tables: Tables) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The entry links of each signal."""
    links, signals = tables.links, len(tables.signals.offset_s)
    controlled = (links.signal >= 0) & (links.kind == LinkKind.ENTRY)
    found = [np.flatnonzero(controlled & (links.signal == n)) for n in range(signals)]
    begin = np.concatenate(([0], np.cumsum([len(f) for f in found])))
    flat = np.concatenate(found) if found else np.zeros(0)
    return begin.astype(np.int32), flat.astype(np.int32)


def _cycles(tables: Tables, begin_s: float) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Where each phase ends in its cycle, and the place in the cycle at second 0."""
    s = tables.signals
    ends = np.zeros(len(s.duration_s), dtype=np.int32)
    offsets = np.zeros(len(s.offset_s), dtype=np.int32)
    for n in range(len(s.offset_s)):
        part = slice(int(s.phase_begin[n]), int(s.phase_begin[n + 1]))
        ends[part] = np.cumsum(s.duration_s[part])
        offsets[n] = (begin_s - s.offset_s[n]) % max(1, ends[part][-1])
    return ends, offsets


def traffic_columns(tables: Tables, batch: int, slots: int, device: str, trips: int | None = None) -> Columns:
    """Empty streets: everything that changes, for `batch` worlds with room for `slots` vehicles each.

    Args:
        tables: What the streets are.
        batch: Number of worlds.
        slots: Most vehicles that are on the road at once.
        device: Where the tensors live.
        trips: Most trips of a world; all of the tables by default.
    """
    lanes, links = len(tables.lanes.length), len(tables.links.source)
    trips = len(tables.vehicles.way) if trips is None else trips
    signals, most = len(tables.signals.offset_s), max(1, tables.signals.state.shape[1])
    sizes = {
        "now": (), "seed": (), "flag": (), "count": (), "departed": (), "pending_count": (), "arrived": (),
        "first_trip": (), "trips": (),
        "behind": (slots, REARS), "lane_first": (lanes,), "lane_last": (lanes,), "rear_first": (lanes,),
        "rear_next": (slots * REARS,), "rear_at": (slots * REARS,), "cursor": (lanes,), "failed": (lanes,),
        "first_blocked": (lanes,), "last_blocked": (lanes,),
        "stack": (STACK,), "stack_at": (STACK,), "space": (ITEMS,), "met": (ITEMS,),
        "approach_first": (links,), "approach_next": (slots * ITEMS,), "state": (links,),
        "forced": (signals, most), "shown": (signals,), "pending": (trips,),
        **dict.fromkeys(("trip_inserted", "trip_arrived", "trip_loss", "trip_waiting", "trip_stops"), (trips,)),
        **dict.fromkeys(
            (
                "link", "request", "passing", "stopping", "distance", "arrival", "arrival_braking", "arrival_speed",
                "braking_speed", "leave", "leave_speed",
            ),
            (slots, ITEMS),
        ),
    }  # fmt: skip
    return _empty(columns_of(Traffic), batch, sizes, (slots,), device)


def clear(columns: Columns, road: Columns, row: int, seed: int) -> None:
    """Puts a row back to the start: empty streets, all trips of the tables, the randomness of `seed`."""
    rows = torch.tensor([row], device=columns["now"].device)
    clear_rows(columns, road, rows, rows * 0 + seed, rows * 0, rows * 0 + len(road["trip_depart"]))


def clear_rows(
    columns: Columns, road: Columns, rows: torch.Tensor, seeds: torch.Tensor, first: torch.Tensor, trips: torch.Tensor
) -> None:
    """Puts rows back to the start: empty streets.

    Args:
        columns: What changes.
        road: What does not.
        rows: Which ones, int64 [R].
        seeds: Their randomness, [R], below 2^31.
        first: Where the demand of each begins among the trips of the tables, [R].
        trips: How many trips it has, [R].
    """
    for name, tensor in columns.items():
        fill(tensor, rows, -1 if name in _NONE else 0)
    for name, values in (("seed", seeds), ("first_trip", first), ("trips", trips)):
        columns[name][rows] = values.to(_I32)
    columns["state"][rows] = road["link_fixed"]


def fill(tensor: torch.Tensor, rows: torch.Tensor, value: float) -> None:
    """Writes one value into rows, quickly where these are all."""
    if len(rows) == len(tensor):
        tensor.fill_(value)
    else:
        tensor.index_fill_(0, rows, value)


def structs(road: Columns, traffic: Columns) -> tuple[object, object]:
    """The kernels' structs over these columns."""
    return bind(Road, road), bind(Traffic, traffic)


def host(columns: Mapping[str, torch.Tensor]) -> dict[str, npt.NDArray[Any]]:
    """Copies for the host."""
    return {name: tensor.cpu().numpy().copy() for name, tensor in columns.items()}


def plan_columns(problem: Problem, timing: Timing, device: str) -> tuple[Columns, dict[str, int]]:
    """The controlled signals and their green phases; their timing (`kernels.control.Plan`)."""
    most = max(1, problem.tables.signals.state.shape[1])
    phases = [phase for signal in problem.signals for phase in signal.phases]
    green = np.full((len(phases), most), ord("r"), dtype=np.int32)
    for row, phase in zip(green, phases, strict=True):
        row[: len(phase)] = [ord(character) for character in phase]
    columns = {
        "signal": _ints([signal.index for signal in problem.signals], device),
        "phase_first": _ints(begins([signal.phases for signal in problem.signals]), device),
        "green": _tensor(green, device),
        **_detectors(problem, device),
    }  # fmt: skip
    numbers = {
        "phases": problem.phases, "period": timing.period_s, "yellow": timing.yellow_s, "least": timing.least_s,
        "longest": timing.longest_s, "horizon": problem.seconds,
    }  # fmt: skip
    return columns, numbers


def _detectors(problem: Problem, device: str) -> Columns:
    """Where actuated programs look for vehicles, and which of these places lengthens which phase.

    A detector lies `DETECTOR_S` before the stop line at the speed limit. It lengthens the phases that give every link
    of its lane a protected green, or a permissive one where the link never has another or the road has a single lane.
    SUMO's rules, in outline.
    """
    lanes, links, signals = problem.tables.lanes, problem.tables.links, problem.tables.signals
    before = sorted({int(lane) for lane in links.source[problem.signal_links]})
    places = [_detector_place(problem.tables, lane) for lane in before]
    single = np.bincount(lanes.edge)[lanes.edge] == 1
    number = np.full(len(lanes.length), -1, dtype=np.int32)
    order = {lane: i for i, lane in enumerate(dict.fromkeys(lane for lane, _ in places))}
    number[before] = [order[lane] for lane, _ in places]
    detector = np.full(len(lanes.length), -1, dtype=np.int32)
    detector[list(order)] = np.arange(len(order))
    at = np.zeros(len(order))
    for lane, place in reversed(places):
        at[order[lane]] = place
    rows: list[list[int]] = []
    greens: list[bool] = []
    for n in range(len(signals.offset_s)):
        own = problem.signal_links[links.signal[problem.signal_links] == n]
        shown = signals.state[signals.phase_begin[n] : signals.phase_begin[n + 1]]
        states = shown[:, links.signal_index[own]]
        weak = ~(states == ord("G")).any(0) | single[links.source[own]]
        for state, whole in zip(states, shown, strict=True):
            counts = (state == ord("G")) | ((state == ord("g")) & weak)
            lanes_on, lanes_off = (set(number[links.source[own[which]]].tolist()) for which in (counts, ~counts))
            green = np.isin(state, [ord("g"), ord("G")]).any() and not np.isin(whole, [ord("y"), ord("Y")]).any()
            greens.append(bool(green))
            rows.append(sorted(lanes_on - lanes_off) if green else [])
    return {
        "detector": _tensor(detector, device), "detector_at": _tensor(at, device),
        "phase_green": _tensor(np.array(greens), device), "phase_detector_begin": _tensor(begins(rows), device),
        "phase_detector": _ints([i for row in rows for i in row], device),
    }  # fmt: skip


def _detector_place(tables: Tables, lane: int) -> tuple[int, float]:
    """The lane on which the detector of a lane lies, and m from its start: further back where the lane is short."""
    lanes, links = tables.lanes, tables.links
    at = float(lanes.length[lane] - DETECTOR_S * lanes.speed[lane])
    while at < 0:
        into = np.flatnonzero((links.target == lane) & (links.kind == LinkKind.ENTRY))
        if len(into) != 1 or links.signal[into[0]] >= 0:
            return lane, 0.0
        lane = int(links.source[into[0]])
        at += float(lanes.length[lane])
    return lane, at


def control_columns(problem: Problem, batch: int, device: str) -> Columns:
    """What the signals do (`kernels.control.Control`)."""
    before = {int(lane) for lane in problem.tables.links.source[problem.signal_links]}
    sizes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("ended", "time_s", "elapsed_s"), ()),
        "detected": (len(before),),
    }
    return _empty(columns_of(Control), batch, sizes, (len(problem.signals),), device)


def sight_columns(problem: Problem, device: str) -> Columns:
    """Which signal a vehicle meets next, what counts behind it, and what its engine needs (`kernels.measure.Sight`)."""
    lanes, links, types = problem.tables.lanes, problem.tables.links, problem.tables.types
    number, place = _signal_numbers(problem), _out_numbers(problem)
    ahead, distance = next_signals(problem.tables, number)
    agent = {signal.index: a for a, signal in enumerate(problem.signals)}
    rest, goal = _through(problem.tables)
    outs = [sorted({place[lane] for targets in signal.targets for lane in targets}) for signal in problem.signals]
    classes = [CLASSES[number] for number in types.vehicle_class]
    engines = [ENGINES["heavy" if name in HEAVY else "car"] for name in classes]
    columns: dict[str, npt.NDArray[Any]] = {
        "ahead": ahead, "distance": distance, "rest": rest, "goal": goal,
        "link_agent": np.array([agent.get(int(links.signal[k]), -1) for k in problem.signal_links], dtype=np.int32),
        "lane_out": place, "out_m": np.minimum(lanes.length[problem.out_lanes], VIEW_M),
        "agent_out_begin": begins(outs), "agent_out": np.array([o for row in outs for o in row], dtype=np.int32),
        "mass": np.array([e.mass_kg for e in engines]),
        "rolling": np.array([e.mass_kg * GRAVITY * e.rolling for e in engines]),
        "drag": np.array([0.5 * AIR_KG_PER_M3 * e.drag * e.area_m2 for e in engines]),
        "idling": np.array([e.idling_w for e in engines]),
        "ml_per_joule": np.array([e.ml_per_kwh / 3.6e6 for e in engines]),
        "weight": np.array([PRIORITY.get(name, 1.0) for name in classes]),
    }  # fmt: skip
    return {name: _tensor(values, device) for name, values in columns.items()}


def _signal_numbers(problem: Problem) -> npt.NDArray[np.int32]:
    """The place of each link among the signal links, -1 for others, [K]."""
    found = np.full(len(problem.tables.links.source), -1, dtype=np.int32)
    found[problem.signal_links] = np.arange(len(problem.signal_links))
    return found


def _out_numbers(problem: Problem) -> npt.NDArray[np.int32]:
    """The place of each lane among those behind controlled signals, -1 for others, [L]."""
    found = np.full(len(problem.tables.lanes.length), -1, dtype=np.int32)
    found[problem.out_lanes] = np.arange(len(problem.out_lanes))
    return found


def _through(tables: Tables) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """For internal lanes: m from the start to the normal lane behind the junction, and that lane; [L]."""
    lanes, links = tables.lanes, tables.links
    rest, goal = np.zeros(len(lanes.length)), np.zeros(len(lanes.length), dtype=np.int32)
    for lane in np.flatnonzero(lanes.internal):
        if lanes.link_begin[lane] < lanes.link_begin[lane + 1]:
            link = lanes.link_begin[lane]
            rest[lane], goal[lane] = lanes.length[lane] + links.via_length[link], links.target[link]
    return rest, goal


def count_columns(problem: Problem, batch: int, trips: int, parts: int, device: str) -> Columns:
    """Counts before and behind the signals, and rewards (`kernels.measure.Count`)."""
    links, outs, agents = len(problem.signal_links), len(problem.out_lanes), len(problem.signals)
    sizes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("out_seen", "out_halting", "out_used"), (outs,)),
        **dict.fromkeys(("trip_link", "trip_distance", "trip_speed"), (trips,)),
        **dict.fromkeys(("total", "paid", "reward"), (agents, parts)),
        **dict.fromkeys(("fuel_ml", "jammed", "seconds"), ()),
    }
    return _empty(columns_of(Count), batch, sizes, (links,), device)


def view_columns(problem: Problem, batch: int, own: int, entity: int, device: str) -> Columns:
    """The tokens and how movements are laid out (`kernels.observe.View` without its number)."""
    signals, number, place = problem.signals, _signal_numbers(problem), _out_numbers(problem)
    moves = [move for signal in signals for move in signal.movements]
    count = [len(signal.movements) for signal in signals]
    agents, phases, most = len(signals), problem.phases, problem.movements
    mask = torch.arange(most) < torch.tensor(count)[:, None]
    actions = torch.zeros((agents, phases + 1, 3))
    for kind in (1, 2):
        shares = (problem.served == 3 - kind).sum(2) / np.array(count)[:, None]
        actions[:, :phases, kind] = torch.as_tensor(shares)
    links = [number[list(own)] for signal in signals for own in signal.links]
    outs = [place[list(lanes)] for signal in signals for lanes in signal.targets]
    return {
        "movement_first": _ints(begins([signal.movements for signal in signals]), device),
        "movement_link_begin": _ints(begins(links), device), "movement_link": _tensor(np.concatenate(links), device),
        "movement_out_begin": _ints(begins(outs), device), "movement_out": _tensor(np.concatenate(outs), device),
        "movement_lanes": _ints([len(move.lanes) for move in moves], device),
        "movement_turn": _ints([_TURN[move.turn] for move in moves], device),
        "own": torch.zeros((batch, agents, own), device=device),
        "entities": torch.zeros((batch, agents, most, entity), device=device),
        "entity_mask": mask.to(device).expand(batch, -1, -1).contiguous(),
        "actions": actions.to(device).expand(batch, -1, -1, -1).contiguous(),
        "action_mask": torch.zeros((batch, agents, phases + 1), dtype=_BOOL, device=device),
    }  # fmt: skip


def _ints(values: Sequence[int] | npt.NDArray[np.int32], device: str) -> torch.Tensor:
    return _tensor(np.array(values, dtype=np.int32), device)


def _empty(
    columns: Mapping[str, str], batch: int, sizes: Mapping[str, tuple[int, ...]], usual: tuple[int, ...], device: str
) -> Columns:
    """Zeros for the columns of a struct, `usual` where no size is given."""
    return {
        name: torch.zeros((batch, *sizes.get(name, usual)), dtype=_KINDS[kind], device=device)
        for name, kind in columns.items()
    }
