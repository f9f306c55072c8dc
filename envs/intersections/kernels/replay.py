"""Worlds whose traffic another simulator drives: when their signals change, and what a film of it amounts to.

Decisions, yellow, counts and rewards are those of the kernels that drive the traffic themselves.
"""

import warp as wp

from fedsched.envs.intersections.kernels.control import ControlArrays, PlanArrays, end_yellow
from fedsched.envs.intersections.kernels.gates import lose, pass_gate
from fedsched.envs.intersections.kernels.measure import CountArrays, SightArrays, charge
from fedsched.envs.intersections.kernels.moving import count_standing
from fedsched.envs.intersections.kernels.second import decide_all, goes_on, settle
from fedsched.envs.intersections.kernels.state import (
    Road,
    RoadArrays,
    Traffic,
    TrafficArrays,
    Vehicle,
    real,
)
from fedsched.envs.intersections.kernels.ways import allowed, close_lanes


@wp.struct
class FilmArrays:
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
    key: wp.array1d[wp.int32]  # the (route, class) that each of these drives
    last: wp.array1d[wp.int32]  # number of the last edge of its route
    left_on: wp.array1d[wp.int32]  # [T + 1]
    left: wp.array1d[wp.int32]
    states: wp.array2d[wp.int32]  # [T, Q] what the signal links showed


@wp.struct
class MemoryArrays:
    """What is known of the vehicles, wherever they stand in the film."""

    vehicle: wp.array2d[Vehicle]  # [B, V]
    key: wp.array2d[wp.int32]  # [B, V]


Film, Memory = wp.ref[FilmArrays], wp.ref[MemoryArrays]


@wp.kernel
def schedule(
    t: TrafficArrays,
    p: PlanArrays,
    c: ControlArrays,
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
def enter(r: Road, t: Traffic, f: Film, e: Memory, b: int, i: int):
    """Begins to remember a vehicle."""
    trip = f.entered[i]
    row = t.first_trip[b] + trip
    t.trip_inserted[b, trip] = t.now[b]
    e.vehicle[b, trip].id = trip
    e.vehicle[b, trip].factor = f.factor[i]
    e.vehicle[b, trip].kind = r.trip_type[row]
    e.vehicle[b, trip].last = f.last[i]
    e.key[b, trip] = f.key[i]
    e.vehicle[b, trip].lane = -1
    e.vehicle[b, trip].inserted = t.now[b]
    e.vehicle[b, trip].signal = -1


@wp.func
def lines_passed(r: Road, lane: int, place: int) -> int:
    """How many stop lines of its route a vehicle has passed."""
    if r.lane_internal[lane]:
        return place + 1
    return place


@wp.func
def pass_lines(r: Road, t: Traffic, b: int, s: int, before: int, first: int):
    """Counts the stop lines that it has passed in this second, from the lane where it was before."""
    lane = int(before)
    if r.lane_internal[before]:
        lane = r.link_target[r.lane_entry[before]]
    for place in range(first, lines_passed(r, t.vehicle[b, s].lane, t.vehicle[b, s].place)):
        link = r.way_link[t.vehicle[b, s].way + place, r.lane_index[lane]]
        if link >= 0:
            pass_gate(r, t, b, link)
            lane = r.link_target[link]


@wp.func
def take(r: Road, t: Traffic, f: Film, e: Memory, b: int, s: int, i: int):
    """Gives a vehicle a slot for this second; notes what it has lost and waited."""
    lane, speed = f.lane[i], f.speed[i]
    t.vehicle[b, s] = e.vehicle[b, f.trip[i]]
    before = int(t.vehicle[b, s].lane)
    t.vehicle[b, s].way = r.way_begin[t.open_ways[b] + e.key[b, f.trip[i]]]
    t.vehicle[b, s].lane = lane
    t.vehicle[b, s].position = f.position[i]
    t.vehicle[b, s].acceleration = speed - t.vehicle[b, s].speed
    t.vehicle[b, s].speed = speed
    edge = edge_before(r, lane)
    place = int(t.vehicle[b, s].place)
    first = int(place)
    while place < t.vehicle[b, s].last and r.way_edge[t.vehicle[b, s].way + place] != edge:
        place += 1
    t.vehicle[b, s].place = place
    if before >= 0:
        pass_lines(r, t, b, s, before, lines_passed(r, before, first))
    if t.vehicle[b, s].inserted < t.now[b]:
        count_standing(t, b, s, speed)
        own = allowed(r, t, b, s, lane)
        t.vehicle[b, s].time_loss = t.vehicle[b, s].time_loss + (own - speed) / own
        lose(r, t, b, lane, (own - speed) / own)


@wp.func
def leave(t: Traffic, e: Memory, b: int, trip: int):
    """Notes an ended trip."""
    t.trip_arrived[b, trip] = t.now[b]
    t.trip_loss[b, trip] = wp.float32(e.vehicle[b, trip].time_loss)
    t.trip_waiting[b, trip] = e.vehicle[b, trip].total_waiting
    t.trip_stops[b, trip] = e.vehicle[b, trip].stops
    t.arrived[b] = t.arrived[b] + 1


@wp.func
def show_second(r: Road, t: Traffic, f: Film, e: Memory, b: int, k: int):
    """Everything as it stands after second k of the film."""
    close_lanes(r, t, b)
    for q in range(f.states.shape[1]):
        t.state[b, r.signal_link[q]] = f.states[k, q]
    for i in range(f.entered_on[k], f.entered_on[k + 1]):
        enter(r, t, f, e, b, i)
    first = f.on[k]
    t.count[b] = f.on[k + 1] - first
    t.most[b] = wp.max(t.most[b], t.count[b])
    for s in range(t.count[b]):
        take(r, t, f, e, b, s, first + s)
    for i in range(f.left_on[k], f.left_on[k + 1]):
        leave(t, e, b, f.left[i])
    t.now[b] = t.now[b] + 1


@wp.kernel
def replay(
    r: RoadArrays,
    t: TrafficArrays,
    p: PlanArrays,
    c: ControlArrays,
    v: SightArrays,
    m: CountArrays,
    f: FilmArrays,
    e: MemoryArrays,
    go: wp.array1d[wp.bool],
):
    """Lets the seconds of the film pass."""
    b = wp.tid()
    if go[b]:
        begun = t.now[b]
        for k in range(f.first[b], f.first[b + 1]):
            show_second(r, t, f, e, b, k)
            charge(r, t, v, m, b)
            for s in range(t.count[b]):
                e.vehicle[b, t.vehicle[b, s].id] = t.vehicle[b, s]
        settle(r, t, p, c, v, m, begun, b)
