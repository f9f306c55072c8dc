"""Arrays of the street kernels.

B worlds, L lanes, K links, N signals, S vehicle slots, I items of a plan, R lanes behind a front. Slots 0 to
`count[b] - 1` hold the vehicles of world b. Lists of vehicles are linked: -1 ends them.
"""

from collections.abc import Mapping

import warp as wp

from fedsched.envs.core.device import start_warp

start_warp()

real = wp.float64
"""Width of positions and speeds."""

ITEMS = wp.constant(10)
REARS = wp.constant(4)
NEVER = wp.constant(1 << 30)
NO_ADVICE = wp.constant(real(1.0e9))

ENTRY, INNER, EXIT = wp.constant(0), wp.constant(1), wp.constant(2)
CROSSING, MERGE, SIBLING = wp.constant(0), wp.constant(1), wp.constant(2)

RED, SMALL_GREEN, GREEN, YELLOW, BIG_YELLOW, STOP_SIGN = (
    wp.constant(ord("r")),
    wp.constant(ord("g")),
    wp.constant(ord("G")),
    wp.constant(ord("y")),
    wp.constant(ord("Y")),
    wp.constant(ord("s")),
)

STANDING = wp.constant(real(0.1))
MARGIN = wp.constant(real(0.1))
STOP_LINE = wp.constant(real(1.0))
VISIBILITY = wp.constant(real(4.5))
ARRIVED = wp.constant(real(0.1))

FLAG_FULL = wp.constant(1)
FLAG_PLANS = wp.constant(2)


@wp.struct
class RoadArrays:
    """The static tables; see `tables.Tables` for the columns of the same name."""

    lane_length: wp.array1d[real]
    lane_speed: wp.array1d[real]
    lane_edge: wp.array1d[wp.int32]
    lane_index: wp.array1d[wp.int32]
    lane_right: wp.array1d[wp.int32]
    lane_left: wp.array1d[wp.int32]
    lane_internal: wp.array1d[wp.bool]
    lane_allowed: wp.array1d[wp.int32]  # [V * L] for every set of closed lanes
    lane_single: wp.array1d[wp.bool]  # the only one of its edge
    lane_waiting: wp.array1d[wp.bool]  # ends at a waiting area
    lane_second: wp.array1d[wp.bool]  # begins behind one
    lane_junction: wp.array1d[wp.int32]  # of internal lanes, -1 for normal ones
    lane_radius: wp.array1d[real]
    lane_into: wp.array1d[wp.int32]  # the link onto an internal lane, -1 for normal ones
    lane_link: wp.array1d[wp.int32]  # [L + 1] first link of each lane
    lane_entry: wp.array1d[wp.int32]
    lane_before_begin: wp.array1d[wp.int32]  # [L + 1]
    lane_before: wp.array1d[wp.int32]  # lanes that lead here
    edge_lane: wp.array1d[wp.int32]  # [edges + 1] first lane of each normal edge
    wide_first: wp.array1d[wp.int32]  # first lane of each edge on which lanes may be changed
    wide_end: wp.array1d[wp.int32]  # the lane behind its last
    lane_number: wp.array1d[wp.int32]  # on its edge, inside junctions of the lane it leads to
    signal_link_begin: wp.array1d[wp.int32]  # [N + 1]
    signal_link: wp.array1d[wp.int32]  # the entry links of each signal
    phase_begin: wp.array1d[wp.int32]  # [N + 1] the program of the file
    phase_end_s: wp.array1d[wp.int32]  # [P] s from the cycle's begin
    phase_state: wp.array2d[wp.int32]  # [P, most links]
    offset_s: wp.array1d[wp.int32]  # [N] of the cycle at second 0
    link_source: wp.array1d[wp.int32]
    link_next: wp.array1d[wp.int32]
    link_target: wp.array1d[wp.int32]
    link_kind: wp.array1d[wp.int32]
    link_entry: wp.array1d[wp.int32]
    link_signal: wp.array1d[wp.int32]
    link_signal_index: wp.array1d[wp.int32]
    link_cont: wp.array1d[wp.bool]
    link_clear: wp.array1d[wp.bool]  # has foes and is to be kept clear
    link_through: wp.array1d[real]  # m of the internal lane behind the link
    link_gate: wp.array1d[wp.int32]  # the gate between districts that it leads through, -1 for none; G gates
    gate_guard_begin: wp.array1d[wp.int32]  # [G + 1]
    gate_guard: wp.array1d[wp.int32]  # [H] links with a signal that lead through a gate
    guard_yellow_s: wp.array1d[wp.int32]  # [H]
    lane_district: wp.array1d[wp.int32]  # [L], where there are districts
    response_begin: wp.array1d[wp.int32]
    response: wp.array1d[wp.int32]
    conflict_begin: wp.array1d[wp.int32]
    conflict_lane: wp.array1d[wp.int32]
    conflict_kind: wp.array1d[wp.int32]
    own_begin: wp.array1d[real]
    own_end: wp.array1d[real]
    other_begin: wp.array1d[real]
    other_end: wp.array1d[real]
    must_yield: wp.array1d[wp.bool]
    other_yields: wp.array1d[wp.bool]
    way_edge: wp.array1d[wp.int32]
    way_length: wp.array2d[real]
    way_offset: wp.array2d[wp.int32]
    way_link: wp.array2d[wp.int32]
    way_begin: wp.array1d[wp.int32]  # [V * Y] the first row of each (route, class), for every set of closed lanes
    size: wp.array1d[real]  # types
    gap: wp.array1d[real]
    accel: wp.array1d[real]
    decel: wp.array1d[real]
    emergency: wp.array1d[real]
    sigma: wp.array1d[real]
    tau: wp.array1d[real]
    fastest: wp.array1d[real]
    factor_mean: wp.array1d[real]
    factor_deviation: wp.array1d[real]
    factor_low: wp.array1d[real]
    factor_high: wp.array1d[real]
    vehicle_class: wp.array1d[wp.int32]
    trip_depart: wp.array1d[wp.int32]  # demand, in order of departure; whole seconds since the begin
    trip_key: wp.array1d[wp.int32]
    trip_last: wp.array1d[wp.int32]
    trip_type: wp.array1d[wp.int32]
    trip_lane: wp.array1d[wp.int32]
    trip_speed: wp.array1d[real]
    trip_position: wp.array1d[real]
    change_s: wp.array1d[wp.int32]  # when lanes close or open, instance by instance, NEVER at the end of each
    change_ways: wp.array1d[wp.int32]  # where `way_begin` and `lane_allowed` of the new set begin
    change_lanes: wp.array1d[wp.int32]


@wp.struct
class Vehicle:
    """Everything about one vehicle in one place of memory, what is read together side by side."""

    position: real  # m of its front from the lane's start
    speed: real
    factor: real
    acceleration: real
    kind: wp.int32
    lane: wp.int32
    ahead: wp.int32  # the next one on the lane, -1 for none
    after: wp.int32
    way: wp.int32
    place: wp.int32
    id: wp.int32
    last: wp.int32
    end_speed: real
    next_speed: real  # of this second, before it is committed
    time_loss: real
    first_item: wp.int32  # of its plan
    items: wp.int32  # how many
    next_lane: wp.int32
    waiting: wp.int32
    total_waiting: wp.int32
    stops: wp.int32
    inserted: wp.int32
    junction_entry: wp.int32
    conflict_entry: wp.int32
    first_entry: wp.int32
    hindered: wp.bool
    wants: wp.bool  # whether it meant to pass the link at the end of its lane
    ends: wp.bool
    gives_up: wp.bool
    look: real
    keep_right: real
    gain: real
    advice: real
    left_space: real
    reserved: real
    helps: wp.int32
    wants_side: wp.int32
    leads_blocked: wp.bool
    change_blocked: wp.bool
    gone: wp.bool
    signal: wp.int32  # the signal link it met next a second ago, -1 for none
    stop_line: real  # m to it


@wp.struct
class Item:
    """A link on the way of a vehicle, as it plans to pass it; see `reference.state.Item`."""

    link: wp.int32
    vehicle: wp.int32
    next: wp.int32  # the next item with this link, -1 for none
    request: wp.bool
    passing: real
    stopping: real
    distance: real
    arrival: real
    arrival_speed: real
    braking_speed: real
    leave: real
    leave_speed: real


@wp.struct
class TrafficArrays:
    """What changes."""

    now: wp.array1d[wp.int32]
    seed: wp.array1d[wp.int32]
    flag: wp.array1d[wp.int32]
    count: wp.array1d[wp.int32]
    most: wp.array1d[wp.int32]  # slots used so far
    vehicle: wp.array2d[Vehicle]  # [B, S]
    behind: wp.array3d[wp.int32]  # [B, S, R]
    first_blocked: wp.array2d[wp.int32]  # [B, L] who cannot get onto a lane: the first and the last of this second
    last_blocked: wp.array2d[wp.int32]
    lane_first: wp.array2d[wp.int32]  # [B, L] the front vehicle of a lane
    lane_last: wp.array2d[wp.int32]  # the rearmost one
    rear_first: wp.array2d[wp.int32]  # [B, L] rears that stick into a lane: node = slot * R + how far behind
    rear_next: wp.array2d[wp.int32]  # [B, S * R]
    rear_at: wp.array2d[real]  # m from the lane's start
    item: wp.array2d[Item]  # [B, J] the items of all plans, vehicle by vehicle
    planned: wp.array1d[wp.int32]  # how many there are
    load: wp.array2d[real]  # [B, L] m that the vehicles on a lane take
    load_at: wp.array2d[wp.int32]  # when that was summed
    cursor: wp.array2d[wp.int32]  # [B, L] the next vehicle to consider on a lane
    stack: wp.array2d[wp.int32]  # [B, 32] lanes still to look at
    stack_at: wp.array2d[real]
    space: wp.array2d[real]  # [B, I] of the vehicle that plans
    met: wp.array2d[wp.bool]
    approach_first: wp.array2d[wp.int32]  # [B, K] the first item that wants to pass a link
    forced: wp.array3d[wp.int32]  # [B, N, most links] a state that holds a signal; 0: its program runs
    shown: wp.array2d[wp.int32]  # [B, N] the phase of the program that is shown, -1: another state
    state: wp.array2d[wp.int32]  # [B, K] the links' states in force
    gate_passed: wp.array2d[wp.int32]  # [B, G] vehicles since the start
    gate_base: wp.array2d[wp.int32]  # [B, G] of these, before the epoch
    gate_limit: wp.array2d[wp.int32]  # [B, G] vehicles that may cross in the epoch, -1: no limit
    gate_begin: wp.array2d[wp.int32]  # [B, G] s, the epoch
    gate_end: wp.array2d[wp.int32]  # [B, G]
    gate_closed: wp.array2d[wp.bool]  # [B, G]
    guard_yellow: wp.array2d[wp.int32]  # [B, H] s, when the yellow of a closed gate ends
    district_loss: wp.array2d[real]  # [B, D] s that vehicles have lost on the lanes of each district
    first_trip: wp.array1d[wp.int32]  # where a world's demand begins among all trips; trips are counted from there
    trips: wp.array1d[wp.int32]  # how many there are
    change: wp.array1d[wp.int32]  # the next closing or opening of lanes
    open_ways: wp.array1d[wp.int32]  # what the last one has set
    open_lanes: wp.array1d[wp.int32]
    departed: wp.array1d[wp.int32]  # trips whose time has come
    pending: wp.array2d[wp.int32]  # [B, V] trips that could not be inserted yet, in order
    pending_count: wp.array1d[wp.int32]
    failed: wp.array2d[wp.int32]  # [B, L] the second in which an insertion failed on a lane
    edge_failed: wp.array2d[wp.int32]  # [B, edges] the same of all lanes of an edge
    trip_inserted: wp.array2d[wp.int32]  # [B, V], -1 before
    trip_arrived: wp.array2d[wp.int32]  # [B, V], -1 before
    trip_loss: wp.array2d[wp.float32]
    trip_waiting: wp.array2d[wp.int32]
    trip_stops: wp.array2d[wp.int32]
    arrived: wp.array1d[wp.int32]


Road, Traffic = wp.ref[RoadArrays], wp.ref[TrafficArrays]
"""How functions take them: a struct by value would be copied, kilobytes, at every call."""


def bind(kind, table: Mapping[str, object]) -> object:
    """A struct of this kind over these tensors and numbers."""
    struct = kind.value_type()
    for name, column in kind.value_type.vars.items():
        if name in table:
            value = table[name]
            setattr(struct, name, value if not hasattr(value, "data_ptr") else _seen(value, column.type.dtype))
    return struct


def _seen(tensor, dtype):
    """A tensor as the kernels see it; records come as [..., bytes]."""
    if not hasattr(dtype, "numpy_dtype"):
        return wp.from_torch(tensor)
    shape, device = tuple(tensor.shape[:-1]), wp.device_from_torch(tensor.device)
    records = wp.array(ptr=tensor.data_ptr(), dtype=dtype, shape=shape, device=device)
    records.owner_of_memory = tensor
    return records


def columns_of(kind) -> dict[str, str]:
    """The arrays of a struct by name, with the names of their types; of records, the number of bytes."""
    dtypes = {name: column.type.dtype for name, column in kind.value_type.vars.items()}
    return {
        name: str(layout(dtype)[1]) if hasattr(dtype, "numpy_dtype") else dtype.__name__
        for name, dtype in dtypes.items()
    }


def layout(record) -> tuple[dict[str, tuple[str, int]], int]:
    """Name of the type and first byte of every field of a record, and how many bytes it takes."""
    found = record.numpy_dtype()
    fields = zip(found["names"], record.vars.values(), found["offsets"], strict=True)
    return {name: (column.type.__name__, offset) for name, column, offset in fields}, found["itemsize"]
