"""Worlds whose traffic another simulator drives: when their signals change, and what a film of it amounts to.

Decisions, yellow, counts and rewards are those of the kernels that drive the traffic themselves.
"""

import warp as wp

from fedsched.envs.intersections.kernels.control import Control, Plan, end_yellow
from fedsched.envs.intersections.kernels.measure import Count, Sight, measure
from fedsched.envs.intersections.kernels.second import decide_all, goes_on, settle
from fedsched.envs.intersections.kernels.state import STANDING, Road, Traffic, real
from fedsched.envs.intersections.kernels.ways import allowed


@wp.struct
class Film:
    """What happened since the last decision; seconds of one world after those of another (`sumo.film.Film`)."""

    first: wp.array1d[wp.int32]  # [B + 1] the first second of each world
    on: wp.array1d[wp.int32]  # [T + 1] where each second's vehicles begin
    trip: wp.array1d[wp.int32]
    lane: wp.array1d[wp.int32]
    position: wp.array1d[real]
    speed: wp.array1d[real]
    entered_on: wp.array1d[wp.int32]  # [T + 1]
    entered: wp.array1d[wp.int32]
    factor: wp.array1d[real]
    left_on: wp.array1d[wp.int32]  # [T + 1]
    left: wp.array1d[wp.int32]
    states: wp.array2d[wp.int32]  # [T, Q] what the signal links showed


@wp.struct
class Memory:
    """What is known of each trip, [B, V]."""

    factor: wp.array2d[real]
    place: wp.array2d[wp.int32]
    waiting: wp.array2d[wp.int32]


@wp.kernel
def schedule(
    t: Traffic,
    p: Plan,
    c: Control,
    go: wp.array1d[wp.bool],
    chosen: wp.array2d[wp.int64],
    until_s: wp.array1d[wp.float64],
    seconds: wp.array1d[wp.int32],
    green_at: wp.array2d[wp.int32],
):
    """Applies the choices; how many seconds pass until the next decision, and after how many each signal's new green
    begins, -1 for none."""
    b = wp.tid()
    seconds[b] = 0
    if go[b]:
        decide_all(t, p, c, chosen, b)
        begun = t.now[b]
        for a in range(p.signal.shape[0]):
            green_at[b, a] = -1
        while goes_on(t, p, c, until_s, b):
            for a in range(p.signal.shape[0]):
                if c.target[b, a] != c.phase[b, a] and t.now[b] >= c.yellow_until[b, a]:
                    green_at[b, a] = t.now[b] - begun
            end_yellow(t, p, c, b)
            t.now[b] = t.now[b] + 1
        seconds[b] = t.now[b] - begun
        t.now[b] = begun


@wp.func
def edge_before(r: Road, lane: int) -> int:
    """The edge of the route that a lane belongs to: its own, or the one before the junction."""
    if r.lane_internal[lane]:
        return r.lane_edge[r.link_source[r.lane_entry[lane]]]
    return r.lane_edge[lane]


@wp.func
def enter(t: Traffic, e: Memory, b: int, trip: int, factor: real):
    t.trip_inserted[b, trip] = t.now[b]
    e.factor[b, trip] = factor
    e.place[b, trip] = 0
    e.waiting[b, trip] = 0


@wp.func
def take(r: Road, t: Traffic, f: Film, e: Memory, b: int, s: int, i: int):
    """Fills a slot with what is shown of a vehicle; notes what it has lost and waited in this second."""
    trip = f.trip[i]
    row = t.first_trip[b] + trip
    lane, speed = f.lane[i], f.speed[i]
    t.id[b, s] = trip
    t.kind[b, s] = r.trip_type[row]
    t.way[b, s] = r.trip_way[row]
    t.last[b, s] = r.trip_last[row]
    t.factor[b, s] = e.factor[b, trip]
    t.lane[b, s] = lane
    t.position[b, s] = f.position[i]
    t.speed[b, s] = speed
    t.inserted[b, s] = t.trip_inserted[b, trip]
    edge = edge_before(r, lane)
    place = int(e.place[b, trip])
    while place < t.last[b, s] and r.way_edge[t.way[b, s] + place] != edge:
        place += 1
    e.place[b, trip] = place
    t.place[b, s] = place
    if t.inserted[b, s] < t.now[b]:
        if speed <= STANDING:
            if e.waiting[b, trip] == 0:
                t.trip_stops[b, trip] = t.trip_stops[b, trip] + 1
            e.waiting[b, trip] = e.waiting[b, trip] + 1
            t.trip_waiting[b, trip] = t.trip_waiting[b, trip] + 1
        else:
            e.waiting[b, trip] = 0
        own = allowed(r, t, b, s, lane)
        t.trip_loss[b, trip] = t.trip_loss[b, trip] + wp.float32((own - speed) / own)
    t.waiting[b, s] = e.waiting[b, trip]


@wp.func
def show_second(r: Road, t: Traffic, f: Film, e: Memory, b: int, k: int):
    """Everything as it stands after second k of the film."""
    for q in range(f.states.shape[1]):
        t.state[b, r.signal_link[q]] = f.states[k, q]
    for i in range(f.entered_on[k], f.entered_on[k + 1]):
        enter(t, e, b, f.entered[i], f.factor[i])
    first = f.on[k]
    t.count[b] = f.on[k + 1] - first
    for s in range(t.count[b]):
        take(r, t, f, e, b, s, first + s)
    for i in range(f.left_on[k], f.left_on[k + 1]):
        t.trip_arrived[b, f.left[i]] = t.now[b]
        t.arrived[b] = t.arrived[b] + 1
    t.now[b] = t.now[b] + 1


@wp.kernel
def replay(r: Road, t: Traffic, p: Plan, c: Control, v: Sight, m: Count, f: Film, e: Memory, go: wp.array1d[wp.bool]):
    """Lets the seconds of the film pass."""
    b = wp.tid()
    if go[b]:
        begun = t.now[b]
        for k in range(f.first[b], f.first[b + 1]):
            show_second(r, t, f, e, b, k)
            measure(r, t, v, m, b)
        settle(t, p, c, m, begun, b)
