"""The arrays behind a batch of streets: allocated once as torch tensors, seen by the kernels without a copy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.gate_arrays import gate_sizes, gate_tables
from fedsched.envs.intersections.kernels.state import (
    ITEMS,
    REARS,
    Road,
    Traffic,
    Vehicle,
    bind,
    columns_of,
    layout,
    real,
)
from fedsched.envs.intersections.tables import LinkKind, Tables, Ways
from fedsched.envs.intersections.timing import Timing

Columns = dict[str, torch.Tensor]
REAL = torch.float64 if "64" in real.__name__ else torch.float32
STACK = 32
PLANNED = 2
"""Links that a vehicle plans to pass, on average: more than that is an error, since there is no room for them."""
_I32, _BOOL = torch.int32, torch.bool
_KINDS = {"float64": torch.float64, "float32": torch.float32, "int32": _I32, "bool": _BOOL}
_NONE = (
    "lane_first", "lane_last", "rear_first", "approach_first", "shown", "failed", "edge_failed", "load_at",
    "trip_inserted", "trip_arrived", "gate_limit",
)  # fmt: skip
"""Columns in which -1 stands for nothing."""
BY_SLOT = {"vehicle": 1, "behind": 1, "rear_next": REARS, "rear_at": REARS, "item": ITEMS}
"""Columns by slots, and how many entries a slot has at most: never touched, and so without memory of their own on a
CPU, behind the last slot that was used."""


def road_columns(
    tables: Tables, begin_s: float, device: str, districts: Districts | None = None, timing: Timing | None = None
) -> Columns:
    """The static tables as the kernels read them.

    Args:
        tables: Network, programs, routes and demand.
        begin_s: The clock of the files at second 0 of an episode.
        device: Where the tensors live.
        districts: Whose gates count; none by default.
        timing: Of their yellow.
    """
    lanes, links, conflicts, signals = tables.lanes, tables.links, tables.conflicts, tables.signals
    ways, types, vehicles, closures = tables.ways, tables.types, tables.vehicles, tables.closures
    before_begin, before = _before(tables)
    edge_lane, wide_first, wide_end = _edges(tables)
    signal_link_begin, signal_link = _signal_links(tables)
    ends, offsets = _cycles(tables, begin_s)
    into = np.full(len(lanes.length), -1, dtype=np.int32)
    into[links.next] = np.arange(len(links.next))
    into[~lanes.internal] = -1
    number = lanes.index.copy()
    number[lanes.internal] = lanes.index[links.target[lanes.link_begin[:-1][lanes.internal]]]
    into_kind = np.append(links.kind, -1)[into]
    columns: dict[str, npt.NDArray[Any]] = {
        "lane_length": lanes.length, "lane_speed": lanes.speed, "lane_edge": lanes.edge, "lane_index": lanes.index,
        "lane_right": lanes.right, "lane_left": lanes.left, "lane_internal": lanes.internal,
        "lane_waiting": lanes.waiting, "lane_single": np.bincount(lanes.edge)[lanes.edge] == 1,
        "lane_second": into_kind == LinkKind.INNER, "lane_into": into, "lane_radius": lanes.radius,
        "lane_junction": np.append(links.junction, -1)[np.where(lanes.internal, lanes.entry, -1)],
        "lane_allowed": closures.allowed.astype(np.int32), "lane_link": lanes.link_begin, "lane_entry": lanes.entry,
        "lane_before_begin": before_begin, "lane_before": before, "edge_lane": edge_lane,
        "wide_first": wide_first, "wide_end": wide_end, "lane_number": number,
        "signal_link_begin": signal_link_begin, "signal_link": signal_link, "phase_begin": signals.phase_begin,
        "phase_end_s": ends, "phase_state": signals.state, "offset_s": offsets,
        "link_source": links.source, "link_next": links.next, "link_target": links.target, "link_kind": links.kind,
        "link_entry": links.entry, "link_signal": links.signal, "link_signal_index": links.signal_index,
        "link_fixed": links.state, "link_cont": links.cont, "link_clear": links.has_foes & links.keep_clear,
        "link_through": np.where(lanes.internal[links.next], lanes.length[links.next], 0.0),
        "response_begin": links.response_begin, "response": links.response,
        "conflict_begin": conflicts.begin, "conflict_lane": conflicts.lane, "conflict_kind": conflicts.kind,
        "own_begin": conflicts.own_begin, "own_end": conflicts.own_end, "other_begin": conflicts.other_begin,
        "other_end": conflicts.other_end, "must_yield": conflicts.must_yield, "other_yields": conflicts.other_yields,
        **_way_tables(ways),
        "size": types.length, "gap": types.min_gap, "accel": types.accel, "decel": types.decel,
        "emergency": types.emergency_decel, "sigma": types.sigma, "tau": types.tau, "fastest": types.max_speed,
        "factor_mean": types.speed_factor, "factor_deviation": types.speed_deviation,
        "factor_low": types.speed_low, "factor_high": types.speed_high, "vehicle_class": types.vehicle_class,
        "trip_depart": np.ceil(vehicles.depart_s).astype(np.int32), "trip_key": vehicles.key,
        "trip_last": vehicles.edges - 1, "trip_type": vehicles.type, "trip_lane": vehicles.lane,
        "trip_speed": vehicles.speed, "trip_position": vehicles.position,
        "change_s": closures.change_s, "change_ways": closures.ways, "change_lanes": closures.lanes,
        **gate_tables(districts, tables, timing),
    }  # fmt: skip
    return {name: to_tensor(values, device) for name, values in columns.items()}


def _way_tables(ways: Ways) -> dict[str, npt.NDArray[Any]]:
    return {
        "way_edge": ways.edge, "way_length": ways.length, "way_offset": ways.offset, "way_link": ways.link,
        "way_begin": ways.begin.ravel(),
    }  # fmt: skip


def replace_ways(road: Columns, traffic: Columns, ways: Ways, before: int) -> None:
    """Lets the streets have these ways from now on: those that there are, and more behind them.

    Args:
        road: What does not change otherwise.
        traffic: What changes; everybody stays on his way.
        ways: All of them.
        before: How many (route, class) there were in `Ways.begin`.
    """
    road.update({name: to_tensor(values, str(road["way_edge"].device)) for name, values in _way_tables(ways).items()})
    for column in (road["change_ways"], traffic["open_ways"]):
        column.copy_(column // max(1, before) * ways.begin.shape[1])


def to_tensor(values: npt.NDArray[Any], device: str) -> torch.Tensor:
    """A copy in the kernels' number formats."""
    kinds = {"f": REAL, "i": _I32, "u": _I32, "b": _BOOL}
    return torch.from_numpy(np.ascontiguousarray(values).copy()).to(kinds[values.dtype.kind]).to(device)


def _before(tables: Tables) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The lanes that lead onto each lane, as lists one after another."""
    order = np.argsort(tables.links.next, kind="stable")
    counts = np.bincount(tables.links.next, minlength=len(tables.lanes.length))
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int32), tables.links.source[order].astype(np.int32)


def _edges(tables: Tables) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The first lane of each normal edge; first lane and end of the edges on which lanes may be changed."""
    lanes = tables.lanes
    counts = np.bincount(lanes.edge[~lanes.internal])
    starts = np.flatnonzero(np.diff(lanes.edge, prepend=-1))
    ends = np.append(starts[1:], len(lanes.edge))
    some = np.logical_or.reduceat((lanes.right >= 0) | (lanes.left >= 0), starts)
    begin = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    return begin, starts[some].astype(np.int32), ends[some].astype(np.int32)


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


def traffic_columns(
    tables: Tables,
    batch: int,
    slots: int,
    device: str,
    trips: int | None = None,
    districts: Districts | None = None,
) -> Columns:
    """Empty streets: everything that changes, for `batch` worlds with room for `slots` vehicles each.

    Args:
        tables: What the streets are.
        batch: Number of worlds.
        slots: Most vehicles that are on the road at once.
        device: Where the tensors live.
        trips: Most trips of a world; all of the tables by default.
        districts: Whose gates count; none by default.
    """
    lanes, links = len(tables.lanes.length), len(tables.links.source)
    trips = len(tables.vehicles.way) if trips is None else trips
    signals, most = len(tables.signals.offset_s), max(1, tables.signals.state.shape[1])
    sizes = {
        "now": (), "seed": (), "flag": (), "count": (), "most": (), "departed": (), "pending_count": (), "arrived": (),
        "first_trip": (), "trips": (), "change": (), "open_ways": (), "open_lanes": (),
        "behind": (slots, REARS), "lane_first": (lanes,), "lane_last": (lanes,), "rear_first": (lanes,),
        "rear_next": (slots * REARS,), "rear_at": (slots * REARS,), "cursor": (lanes,), "failed": (lanes,),
        "load": (lanes,), "load_at": (lanes,), "edge_failed": (1 + int(tables.lanes.edge.max(initial=0)),),
        "first_blocked": (lanes,), "last_blocked": (lanes,),
        "stack": (STACK,), "stack_at": (STACK,), "space": (ITEMS,), "met": (ITEMS,),
        "approach_first": (links,), "planned": (), "item": (ITEMS + slots * PLANNED,), "state": (links,),
        "forced": (signals, most), "shown": (signals,), "pending": (trips,),
        **dict.fromkeys(("trip_inserted", "trip_arrived", "trip_loss", "trip_waiting", "trip_stops"), (trips,)),
        **gate_sizes(districts),
    }  # fmt: skip
    columns = empty_columns(columns_of(Traffic), batch, sizes, (slots,), device)
    return {**columns, **fields_of(columns["vehicle"])}


def fields_of(vehicles: torch.Tensor) -> Columns:
    """What the records of the vehicles hold, field by field, without a copy.

    Args:
        vehicles: uint8 [B, S, bytes].
    """
    fields, size = layout(Vehicle)
    found = {}
    for name, (kind, offset) in fields.items():
        cells = vehicles.view(_KINDS[kind])
        found[name] = cells[..., offset * cells.shape[-1] // size]
    return found


def stored(columns: Columns) -> Columns:
    """The columns with memory of their own."""
    return {name: column for name, column in columns.items() if name not in layout(Vehicle)[0]}


def clear(columns: Columns, road: Columns, row: int, seed: int) -> None:
    """Puts a row back to the start: empty streets, all trips of the tables, the randomness of `seed`."""
    rows = torch.tensor([row], device=columns["now"].device)
    clear_rows(columns, road, rows, rows * 0 + seed, rows * 0, rows * 0 + len(road["trip_depart"]), rows * 0)


def clear_rows(
    columns: Columns,
    road: Columns,
    rows: torch.Tensor,
    seeds: torch.Tensor,
    first: torch.Tensor,
    trips: torch.Tensor,
    change: torch.Tensor,
) -> None:
    """Puts rows back to the start: empty streets.

    Args:
        columns: What changes.
        road: What does not.
        rows: Which ones, int64 [R].
        seeds: Their randomness, [R], below 2^31.
        first: Where the demand of each begins among the trips of the tables, [R].
        trips: How many trips it has, [R].
        change: Its first closing of lanes, [R].
    """
    used = int(columns["most"][rows].max()) if len(rows) else 0
    for name, tensor in stored(columns).items():
        part = tensor[:, : used * BY_SLOT[name]] if name in BY_SLOT else tensor
        fill(part, rows, -1 if name in _NONE else 0)
    for name, values in (("seed", seeds), ("first_trip", first), ("trips", trips), ("change", change)):
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


def to_ints(values: Sequence[int] | npt.NDArray[np.int32], device: str) -> torch.Tensor:
    """The same for whole numbers."""
    return to_tensor(np.array(values, dtype=np.int32), device)


def empty_columns(
    columns: Mapping[str, str], batch: int, sizes: Mapping[str, tuple[int, ...]], usual: tuple[int, ...], device: str
) -> Columns:
    """Zeros for the columns of a struct, `usual` where no size is given."""
    found = {}
    for name, kind in columns.items():
        shape = (batch, *sizes.get(name, usual))
        if kind in _KINDS:
            found[name] = torch.zeros(shape, dtype=_KINDS[kind], device=device)
        else:
            found[name] = torch.zeros((*shape, int(kind)), dtype=torch.uint8, device=device)
    return found
