"""The road network and its routes as flat read-only arrays: what the dynamics read, on any device.

Lanes: the normal ones edge by edge, rightmost first, then the internal ones. A *link* leads from a lane onto the next
one: an *entry* link onto a junction (or straight onto a normal lane where the network has no internal lanes), an
*inner* link from a waiting area onto the rest of the way through the junction, an *exit* link off the junction.
Lists of unequal length are stored one after another with the place where each begins: list i of `x` is
`x[x_begin[i]:x_begin[i + 1]]`.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


NEVER_S = 1 << 30
"""A second that does not come."""


class LinkKind(IntEnum):
    """Where a link lies on the way through a junction."""

    ENTRY = 0
    INNER = 1
    EXIT = 2


class ConflictKind(IntEnum):
    """How two internal lanes get into each other's way."""

    CROSSING = 0
    MERGE = 1
    SIBLING = 2


@dataclass(frozen=True)
class Lanes:
    """Lanes, [L] each.

    Attributes:
        length: m.
        speed: m/s.
        width: m.
        edge: Index of the edge.
        index: Number on the edge, 0 is rightmost.
        right: The lane to the right on the same edge, -1 for none.
        left: The lane to the left, -1.
        internal: Whether it lies inside a junction.
        waiting: Whether it ends at a waiting area: an internal lane left by an inner link.
        allowed: Bit per vehicle class.
        link_begin: Its links are `link_begin[l]` to `link_begin[l + 1]`, [L + 1].
        entry: The entry link that leads onto an internal lane, -1 for normal lanes.
        radius: m of the bend of an internal lane that does not lead straight on or right; infinite elsewhere.
    """

    length: F64
    speed: F64
    width: F64
    edge: I32
    index: I32
    right: I32
    left: I32
    internal: Flags
    waiting: Flags
    allowed: I64
    link_begin: I32
    entry: I32
    radius: F64


@dataclass(frozen=True)
class Links:
    """Links, [K] each, sorted by the lane they leave.

    Attributes:
        source: The lane it leaves.
        next: The lane directly behind it: an internal one, or the normal one it leads to.
        target: The normal lane that is reached in the end.
        kind: A `LinkKind`.
        entry: The entry link of the same movement; of an entry link, itself.
        junction: Index of the junction it belongs to.
        turn: A `network.Turn`.
        signal: The signal that controls it, -1 for none; inner and exit links have none of their own.
        signal_index: Its place in the signal's state.
        state: ASCII code of its state in the file; what counts where there is no signal.
        cont: Whether an entry link leads onto a waiting area.
        keep_clear: Whether its junction is to be kept clear.
        has_foes: Whether its junction has conflicts at all (entry links; SUMO's sense), always of inner links, never of
            exit links.
        via_length: m, internal lanes between it and `target`.
        response_begin: [K + 1]
        response: Links whose vehicles it must respect at gap acceptance.
        foe_begin: [K + 1]
        foe: Links that conflict with it; of entry links: entry links, by the requests' foes bits.
    """

    source: I32
    next: I32
    target: I32
    kind: I32
    entry: I32
    junction: I32
    turn: I32
    signal: I32
    signal_index: I32
    state: I32
    cont: Flags
    keep_clear: Flags
    has_foes: Flags
    via_length: F64
    response_begin: I32
    response: I32
    foe_begin: I32
    foe: I32


@dataclass(frozen=True)
class Conflicts:
    """Pairs of internal lanes that meet, sorted by the first lane.

    Attributes:
        begin: Those of lane l are `begin[l]` to `begin[l + 1]`, [L + 1].
        lane: The other lane, [Q].
        kind: A `ConflictKind`, [Q].
        own_begin: m from the start of the own lane, where the shared zone begins, [Q].
        own_end: Where it ends, [Q].
        other_begin: The same on the other lane, [Q].
        other_end: [Q].
        must_yield: Whether the movement of the own lane must yield to that of the other (response bits), [Q].
        other_yields: Whether the other must yield to the own, [Q].
    """

    begin: I32
    lane: I32
    kind: I32
    own_begin: F64
    own_end: F64
    other_begin: F64
    other_end: F64
    must_yield: Flags
    other_yields: Flags


@dataclass(frozen=True)
class Signals:
    """Signals and their programs, N signals, P phases in all.

    Attributes:
        link_begin: Where the states of each signal begin in an array over all signals' links, [N + 1].
        phase_begin: [N + 1]
        duration_s: [P]
        minimum_s: [P]
        maximum_s: [P]
        state: ASCII codes; of phase p of signal n: `state[p, :link_begin[n + 1] - link_begin[n]]`, [P, most links].
        offset_s: [N]
        actuated: [N]
    """

    link_begin: I32
    phase_begin: I32
    duration_s: F64
    minimum_s: F64
    maximum_s: F64
    state: I32
    offset_s: F64
    actuated: Flags


@dataclass(frozen=True)
class Ways:
    """Routes as the vehicles read them: for every place on a route, where each lane leads.

    A *row* is a (route, vehicle class, place on the route).

    Attributes:
        edge: The edge at each row, [W].
        last: Whether it is the route's last edge, [W].
        length: m that can be driven from a lane of this edge without a change, by lane number, [W, M].
        offset: Lanes to change by: to the left positive, 0 for the best lanes, [W, M].
        link: The link that continues the route from this lane, -1 where none does, [W, M].
        begin: First row of each (route, class) in use, [Y].
    """

    edge: I32
    last: Flags
    length: F64
    offset: I32
    link: I32
    begin: I32


@dataclass(frozen=True)
class Closures:
    """When lanes close and open, and where the tables of the streets as they are then begin.

    The ways of all trips are there once for every set of closed lanes that occurs, the first time for none.

    Attributes:
        begin: The first change of each instance, [D].
        change_s: s from the begin of the episode, ascending; NEVER_S ends each instance's changes, [C].
        ways: What to add to a row of the ways from then on, [C].
        lanes: What to add to a lane to find it in `allowed`, [C].
        allowed: Bit per vehicle class, for every set of closed lanes, [V * L].
    """

    begin: I32
    change_s: I32
    ways: I32
    lanes: I32
    allowed: I64


@dataclass(frozen=True)
class Vehicles:
    """Everyone who wants to drive, in order of departure, [V] each.

    Attributes:
        depart_s: s from the begin of the episode.
        way: Its first row in `Ways`.
        edges: Number of edges of its route.
        type: Index of its type.
        lane: Number of the depart lane, -1: the default rule (best_prob), -2: first allowed, -3: random, -4: free.
        speed: m/s of departure, -1: average of the lane (default), -2: the greatest that is safe, -3: the limit.
        position: m of the front from the lane's start, -1: whole on the lane (default), -2: at random, tried ten times
            and then whole on the lane (`random_free`), -3: at random, tried once.
    """

    depart_s: F64
    way: I32
    edges: I32
    type: I32
    lane: I32
    speed: F64
    position: F64


@dataclass(frozen=True)
class Types:
    """Vehicle types, [T] each: SUMO's attributes by name; see `demand.VehicleType`."""

    length: F64
    min_gap: F64
    accel: F64
    decel: F64
    emergency_decel: F64
    sigma: F64
    tau: F64
    max_speed: F64
    speed_factor: F64
    speed_deviation: F64
    speed_low: F64
    speed_high: F64
    vehicle_class: I32


@dataclass(frozen=True)
class Tables:
    """All of it."""

    lanes: Lanes
    links: Links
    conflicts: Conflicts
    signals: Signals
    ways: Ways
    vehicles: Vehicles
    types: Types
    closures: Closures
