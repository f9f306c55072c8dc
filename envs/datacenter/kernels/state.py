"""Arrays of the data-centre kernels.

B worlds, J job rows, C clusters, R running slots of a cluster, E visible slots, H hours of the series. Times are
float64 seconds since the start of the episode; single precision would lose the ties that decide schedules.
"""

import math
from collections.abc import Mapping

import warp as wp

from fedsched.envs.core.device import start_warp

start_warp()

VISIBLE = wp.constant(128)
HOLD = wp.constant(-1)
NO_PICK = wp.constant(-2)
GIVEN = wp.constant(-2)
INF = wp.constant(wp.float64(math.inf))
HOUR = wp.constant(wp.float64(3600.0))

FLAG_ILLEGAL = wp.constant(1)
FLAG_STUCK = wp.constant(2)


@wp.struct
class Model:
    """The static site: clusters [C], prefix integrals of the hourly series [H + 1], switches."""

    processors: wp.array1d[wp.int32]
    speed: wp.array1d[wp.float64]
    idle_w: wp.array1d[wp.float64]
    busy_w: wp.array1d[wp.float64]
    pue: wp.array1d[wp.float64]
    carbon: wp.array1d[wp.float64]
    price: wp.array1d[wp.float64]
    carbon_hours: wp.int32
    price_hours: wp.int32
    all_processors: wp.int32
    deferral: wp.int32


@wp.struct
class Jobs:
    """The jobs of every world [B, J], in order of arrival; rows from `count` [B] on are unused."""

    submit: wp.array2d[wp.float64]
    run: wp.array2d[wp.float64]
    estimate: wp.array2d[wp.float64]
    processors: wp.array2d[wp.int32]
    count: wp.array1d[wp.int32]
    start_hour: wp.array1d[wp.int32]
    origin: wp.array1d[wp.float64]


@wp.struct
class State:
    """What changes."""

    now: wp.array1d[wp.float64]
    arrived: wp.array1d[wp.int32]  # jobs that have joined the queue so far
    queue: wp.array2d[wp.int32]  # [B, J] waiting jobs in order of arrival
    queued: wp.array1d[wp.int32]
    start: wp.array2d[wp.float64]  # [B, J], NaN before the start
    rank: wp.array2d[wp.int32]  # [B, J] how many jobs of the world started before
    starts: wp.array1d[wp.int32]
    cluster: wp.array2d[wp.int32]  # [B, J], -1 before the start, GIVEN when handed to a peer
    running: wp.array3d[wp.int32]  # [B, C, R] by estimated end
    running_until: wp.array3d[wp.float64]  # estimated ends
    running_end: wp.array3d[wp.float64]  # true ends
    running_count: wp.array2d[wp.int32]
    free: wp.array2d[wp.int32]
    stage: wp.array2d[wp.int32]  # 1 while a head is reserved
    head: wp.array2d[wp.int32]
    shadow: wp.array2d[wp.float64]
    extra: wp.array2d[wp.int32]
    undecided: wp.array2d[wp.int32]
    pick: wp.array2d[wp.int32]
    deferred: wp.array1d[wp.int32]
    terminated: wp.array1d[wp.int32]
    truncated: wp.array1d[wp.int32]
    limit: wp.array1d[wp.float64]  # seconds after which the episode is truncated
    flag: wp.array1d[wp.int32]
    decisions: wp.array1d[wp.int32]
    total: wp.array3d[wp.float64]  # [B, C, parts] reward parts of the episode so far


def bind(kind, table: Mapping[str, object]) -> object:
    """A struct of this kind over these tensors and numbers; columns that the kernels do not read stay outside."""
    struct = kind()
    for name in kind.vars.keys() & table.keys():
        value = table[name]
        setattr(struct, name, wp.from_torch(value) if hasattr(value, "data_ptr") else value)
    return struct
