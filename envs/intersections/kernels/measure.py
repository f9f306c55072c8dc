"""What happens before the signals: counts of this second, and rewards that accrue every second.

A vehicle belongs to the signal that it meets next, over the link that its lane leads to. Fuel follows Treiber and
Kesting, Traffic Flow Dynamics (2013), chapter 20, see `arrays.FUEL`.
"""

import warp as wp

from fedsched.envs.intersections.kernels.control import shows_green
from fedsched.envs.intersections.kernels.state import STANDING, Road, Traffic, real
from fedsched.envs.intersections.kernels.ways import allowed

DELAY, QUEUE, WAITING, PRESSURE, STOPS, THROUGHPUT, FUEL, CO2, PRIORITY = (
    wp.constant(0), wp.constant(1), wp.constant(2), wp.constant(3), wp.constant(4), wp.constant(5), wp.constant(6),
    wp.constant(7), wp.constant(8),
)  # fmt: skip
VIEW_M, NEAR_M = wp.constant(real(200.0)), wp.constant(real(50.0))
GRAMS_PER_ML = wp.constant(real(2.39))
STUCK_S = wp.constant(300)
STUCK_LEAST = wp.constant(20)


@wp.struct
class SightArrays:
    """Static. Q signal links in the order of `Road.signal_link`, O lanes behind controlled signals."""

    ahead: wp.array2d[wp.int32]  # [W, M] the next signal link from a lane at a place of a way, -1 for none
    distance: wp.array2d[real]  # [W, M] m from the lane's start to its stop line
    rest: wp.array1d[real]  # [L] m from an internal lane's start to the normal lane behind the junction
    goal: wp.array1d[wp.int32]  # [L] that lane
    link_agent: wp.array1d[wp.int32]  # [Q] -1: not controlled
    lane_out: wp.array1d[wp.int32]  # [L] -1: not behind a controlled signal
    out_m: wp.array1d[real]  # [O] how much of the lane counts
    agent_out_begin: wp.array1d[wp.int32]  # [A + 1]
    agent_out: wp.array1d[wp.int32]
    mass: wp.array1d[real]  # kg, by type
    rolling: wp.array1d[real]  # N
    drag: wp.array1d[real]  # N per (m/s)^2
    idling: wp.array1d[real]  # W
    ml_per_joule: wp.array1d[real]
    weight: wp.array1d[real]  # priority


@wp.struct
class CountArrays:
    """What changes."""

    near: wp.array2d[wp.int32]  # [B, Q] vehicles within 50 m
    seen: wp.array2d[wp.int32]  # within 200 m
    halting: wp.array2d[wp.int32]  # of these, slower than 0.1 m/s
    standing_s: wp.array2d[wp.int32]  # s that these have been standing, summed
    pace: wp.array2d[real]  # sum of speed / desired speed of all within 200 m
    last_green: wp.array2d[wp.int32]  # s
    out_seen: wp.array2d[wp.int32]  # [B, O] vehicles on the first 200 m
    out_halting: wp.array2d[wp.int32]
    out_used: wp.array2d[real]  # m
    trip_link: wp.array2d[wp.int32]  # [B, V] of the second before
    trip_distance: wp.array2d[real]
    trip_speed: wp.array2d[real]
    total: wp.array3d[wp.float64]  # [B, A, R] rewards of the episode
    paid: wp.array3d[wp.float64]
    reward: wp.array3d[wp.float32]
    fuel_ml: wp.array1d[wp.float64]
    jammed: wp.array1d[wp.int32]  # 1 + second in which a gridlock was found, 0 for none
    seconds: wp.array1d[wp.int32]


Sight, Count = wp.ref[SightArrays], wp.ref[CountArrays]


@wp.func
def wipe(r: Road, t: Traffic, v: Sight, m: Count, b: int):
    for q in range(v.link_agent.shape[0]):
        m.near[b, q] = 0
        m.seen[b, q] = 0
        m.halting[b, q] = 0
        m.standing_s[b, q] = 0
        m.pace[b, q] = real(0.0)
        if shows_green(t.state[b, r.signal_link[q]]):
            m.last_green[b, q] = t.now[b]
    for o in range(v.out_m.shape[0]):
        m.out_seen[b, o] = 0
        m.out_halting[b, o] = 0
        m.out_used[b, o] = real(0.0)


@wp.func
def next_link(r: Road, t: Traffic, v: Sight, b: int, s: int):
    """The signal link ahead of a vehicle, -1 for none, and m to its stop line."""
    lane = t.vehicle[b, s].lane
    row = t.vehicle[b, s].way + t.vehicle[b, s].place
    if r.lane_internal[lane]:
        goal = v.goal[lane]
        number = r.lane_index[goal]
        return v.ahead[row + 1, number], v.rest[lane] - t.vehicle[b, s].position + v.distance[row + 1, number]
    number = r.lane_index[lane]
    return v.ahead[row, number], v.distance[row, number] - t.vehicle[b, s].position


@wp.func
def fuel_ml(v: Sight, kind: int, speed: real, acceleration: real) -> real:
    """Of one second."""
    force = v.mass[kind] * acceleration + v.rolling[kind] + v.drag[kind] * speed * speed
    return v.ml_per_joule[kind] * (wp.max(force, real(0.0)) * speed + v.idling[kind])


@wp.func
def count_vehicle(r: Road, t: Traffic, v: Sight, m: Count, b: int, s: int):
    """Adds one vehicle to the counts and to what its signal is charged."""
    lane, kind, trip, speed = t.vehicle[b, s].lane, t.vehicle[b, s].kind, t.vehicle[b, s].id, t.vehicle[b, s].speed
    stands = speed < STANDING
    q, distance = next_link(r, t, v, b, s)
    pace = wp.min(speed / allowed(r, t, b, s, lane), real(1.0))
    o = v.lane_out[lane]
    if o >= 0 and t.vehicle[b, s].position <= VIEW_M:
        m.out_seen[b, o] = m.out_seen[b, o] + 1
        m.out_used[b, o] = m.out_used[b, o] + r.size[kind] + r.gap[kind]
        if stands:
            m.out_halting[b, o] = m.out_halting[b, o] + 1
    a = int(-1)
    if q >= 0:
        a = v.link_agent[q]
        if distance <= VIEW_M:
            m.seen[b, q] = m.seen[b, q] + 1
            m.pace[b, q] = m.pace[b, q] + pace
            if distance <= NEAR_M:
                m.near[b, q] = m.near[b, q] + 1
            if stands:
                m.halting[b, q] = m.halting[b, q] + 1
                m.standing_s[b, q] = m.standing_s[b, q] + t.vehicle[b, s].waiting
    if t.vehicle[b, s].inserted < t.now[b] - 1:
        before = m.trip_link[b, trip]
        if before >= 0 and speed > m.trip_distance[b, trip]:
            other = v.link_agent[before]
            if other >= 0:
                m.total[b, other, THROUGHPUT] = m.total[b, other, THROUGHPUT] + wp.float64(1.0)
        burnt = fuel_ml(v, kind, speed, speed - m.trip_speed[b, trip])
        m.fuel_ml[b] = m.fuel_ml[b] + wp.float64(burnt)
        if a >= 0:
            m.total[b, a, FUEL] = m.total[b, a, FUEL] - wp.float64(burnt)
            m.total[b, a, CO2] = m.total[b, a, CO2] - wp.float64(burnt * GRAMS_PER_ML)
    if a >= 0:
        if distance <= VIEW_M:
            lost = real(1.0) - pace
            m.total[b, a, DELAY] = m.total[b, a, DELAY] - wp.float64(lost)
            m.total[b, a, PRIORITY] = m.total[b, a, PRIORITY] - wp.float64(lost * v.weight[kind])
        if stands:
            m.total[b, a, WAITING] = m.total[b, a, WAITING] - wp.float64(1.0)
        if t.vehicle[b, s].waiting == 1:
            m.total[b, a, STOPS] = m.total[b, a, STOPS] - wp.float64(1.0)
    m.trip_link[b, trip] = q
    m.trip_distance[b, trip] = distance
    m.trip_speed[b, trip] = speed


@wp.func
def charge_queues(v: Sight, m: Count, b: int):
    """Queue and pressure of this second."""
    for q in range(v.link_agent.shape[0]):
        a = v.link_agent[q]
        if a >= 0:
            standing = wp.float64(m.halting[b, q])
            m.total[b, a, QUEUE] = m.total[b, a, QUEUE] - standing
            m.total[b, a, PRESSURE] = m.total[b, a, PRESSURE] - standing
    for a in range(m.total.shape[1]):
        for i in range(v.agent_out_begin[a], v.agent_out_begin[a + 1]):
            standing = wp.float64(m.out_halting[b, v.agent_out[i]])
            m.total[b, a, PRESSURE] = m.total[b, a, PRESSURE] + standing


@wp.func
def measure(r: Road, t: Traffic, v: Sight, m: Count, b: int):
    """One pass over the vehicles at the end of a second."""
    wipe(r, t, v, m, b)
    stuck = int(0)
    for s in range(t.count[b]):
        count_vehicle(r, t, v, m, b, s)
        if t.vehicle[b, s].waiting > STUCK_S:
            stuck += 1
            if r.lane_internal[t.vehicle[b, s].lane] and m.jammed[b] == 0:
                m.jammed[b] = t.now[b] + 1
    if stuck >= STUCK_LEAST and 2 * stuck > t.count[b] and m.jammed[b] == 0:
        m.jammed[b] = t.now[b] + 1
    charge_queues(v, m, b)
    m.seconds[b] = m.seconds[b] + 1


@wp.func
def pay(m: Count, b: int):
    """Rewards since the last payment."""
    for a in range(m.total.shape[1]):
        for k in range(m.total.shape[2]):
            m.reward[b, a, k] = wp.float32(m.total[b, a, k] - m.paid[b, a, k])
            m.paid[b, a, k] = m.total[b, a, k]
