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
FLAG_LOST = wp.constant(2)


@wp.struct
class Road:
    """The static tables; see `tables.Tables` for the columns of the same name."""

    lane_length: wp.array1d[real]
    lane_speed: wp.array1d[real]
    lane_edge: wp.array1d[wp.int32]
    lane_index: wp.array1d[wp.int32]
    lane_right: wp.array1d[wp.int32]
    lane_left: wp.array1d[wp.int32]
    lane_internal: wp.array1d[wp.bool]
    lane_allowed: wp.array1d[wp.int32]
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
    wide_edge: wp.array1d[wp.int32]  # normal edges of several lanes
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
    link_fixed: wp.array1d[wp.int32]  # state of links without a signal
    link_cont: wp.array1d[wp.bool]
    link_clear: wp.array1d[wp.bool]  # has foes and is to be kept clear
    link_through: wp.array1d[real]  # m of the internal lane behind the link
    link_gate: wp.array1d[wp.int32]  # the gate between districts that it leads through, -1 for none; G gates
    gate_guard_begin: wp.array1d[wp.int32]  # [G + 1]
    gate_guard: wp.array1d[wp.int32]  # [H] links with a signal that lead through a gate
    guard_yellow_s: wp.array1d[wp.int32]  # [H]
    response_begin: wp.array1d[wp.int32]
    response: wp.array1d[wp.int32]
    foe_begin: wp.array1d[wp.int32]
    foe: wp.array1d[wp.int32]
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
    trip_way: wp.array1d[wp.int32]
    trip_last: wp.array1d[wp.int32]
    trip_type: wp.array1d[wp.int32]
    trip_lane: wp.array1d[wp.int32]
    trip_speed: wp.array1d[real]
    trip_position: wp.array1d[real]


@wp.struct
class Traffic:
    """What changes."""

    now: wp.array1d[wp.int32]
    seed: wp.array1d[wp.int32]
    flag: wp.array1d[wp.int32]
    count: wp.array1d[wp.int32]
    id: wp.array2d[wp.int32]  # [B, S] vehicles
    kind: wp.array2d[wp.int32]
    way: wp.array2d[wp.int32]
    last: wp.array2d[wp.int32]
    factor: wp.array2d[real]
    place: wp.array2d[wp.int32]
    lane: wp.array2d[wp.int32]
    position: wp.array2d[real]
    speed: wp.array2d[real]
    behind: wp.array3d[wp.int32]  # [B, S, R]
    junction_entry: wp.array2d[wp.int32]
    conflict_entry: wp.array2d[wp.int32]
    first_entry: wp.array2d[wp.int32]
    waiting: wp.array2d[wp.int32]
    hindered: wp.array2d[wp.bool]
    wants: wp.array2d[wp.bool]  # whether it meant to pass the link at the end of its lane
    look: wp.array2d[real]
    keep_right: wp.array2d[real]
    gain: wp.array2d[real]
    advice: wp.array2d[real]
    acceleration: wp.array2d[real]
    helps: wp.array2d[wp.int32]
    leads_blocked: wp.array2d[wp.bool]
    change_blocked: wp.array2d[wp.bool]
    wants_side: wp.array2d[wp.int32]
    left_space: wp.array2d[real]
    reserved: wp.array2d[real]
    first_blocked: wp.array2d[wp.int32]  # [B, L] who cannot get onto a lane: the first and the last of this second
    last_blocked: wp.array2d[wp.int32]
    inserted: wp.array2d[wp.int32]
    total_waiting: wp.array2d[wp.int32]
    time_loss: wp.array2d[real]
    stops: wp.array2d[wp.int32]
    next_speed: wp.array2d[real]  # of this second, before it is committed
    next_lane: wp.array2d[wp.int32]
    gone: wp.array2d[wp.bool]
    lane_first: wp.array2d[wp.int32]  # [B, L] the front vehicle of a lane
    lane_last: wp.array2d[wp.int32]  # the rearmost one
    ahead: wp.array2d[wp.int32]  # [B, S]
    after: wp.array2d[wp.int32]
    rear_first: wp.array2d[wp.int32]  # [B, L] rears that stick into a lane: node = slot * R + how far behind
    rear_next: wp.array2d[wp.int32]  # [B, S * R]
    rear_at: wp.array2d[real]  # m from the lane's start
    items: wp.array2d[wp.int32]  # [B, S] number of items
    end_speed: wp.array2d[real]
    ends: wp.array2d[wp.bool]
    gives_up: wp.array2d[wp.bool]
    link: wp.array3d[wp.int32]  # [B, S, I]
    request: wp.array3d[wp.bool]
    passing: wp.array3d[real]
    stopping: wp.array3d[real]
    distance: wp.array3d[real]
    arrival: wp.array3d[real]
    arrival_braking: wp.array3d[real]
    arrival_speed: wp.array3d[real]
    braking_speed: wp.array3d[real]
    leave: wp.array3d[real]
    leave_speed: wp.array3d[real]
    cursor: wp.array2d[wp.int32]  # [B, L] the next vehicle to consider on a lane
    stack: wp.array2d[wp.int32]  # [B, 32] lanes still to look at
    stack_at: wp.array2d[real]
    space: wp.array2d[real]  # [B, I] of the vehicle that plans
    met: wp.array2d[wp.bool]
    approach_first: wp.array2d[wp.int32]  # [B, K] who wants to pass a link: node = slot * I + item
    approach_next: wp.array2d[wp.int32]  # [B, S * I]
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
    first_trip: wp.array1d[wp.int32]  # where a world's demand begins among all trips; trips are counted from there
    trips: wp.array1d[wp.int32]  # how many there are
    departed: wp.array1d[wp.int32]  # trips whose time has come
    pending: wp.array2d[wp.int32]  # [B, V] trips that could not be inserted yet, in order
    pending_count: wp.array1d[wp.int32]
    failed: wp.array2d[wp.int32]  # [B, L] the second in which an insertion failed on a lane
    trip_inserted: wp.array2d[wp.int32]  # [B, V], -1 before
    trip_arrived: wp.array2d[wp.int32]  # [B, V], -1 before
    trip_loss: wp.array2d[wp.float32]
    trip_waiting: wp.array2d[wp.int32]
    trip_stops: wp.array2d[wp.int32]
    arrived: wp.array1d[wp.int32]


def bind(kind, table: Mapping[str, object]) -> object:
    """A struct of this kind over these tensors and numbers."""
    struct = kind()
    for name in kind.vars.keys() & table.keys():
        value = table[name]
        setattr(struct, name, wp.from_torch(value) if hasattr(value, "data_ptr") else value)
    return struct


def columns_of(kind) -> dict[str, str]:
    """The arrays of a struct by name, with the names of their types."""
    return {name: column.type.dtype.__name__ for name, column in kind.vars.items()}
