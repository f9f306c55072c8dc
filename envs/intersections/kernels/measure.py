"""What happens before the signals: rewards that accrue every second, and counts at a decision.

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
    out_agent_begin: wp.array1d[wp.int32]  # [O + 1] signals that such a lane lies behind
    out_agent: wp.array1d[wp.int32]
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
    passed: wp.array2d[wp.int32]  # vehicles over the stop line in the episode
    out_seen: wp.array2d[wp.int32]  # [B, O] vehicles on the first 200 m
    out_halting: wp.array2d[wp.int32]
    out_used: wp.array2d[real]  # m
    total: wp.array3d[wp.float64]  # [B, A, R] rewards of the episode
    paid: wp.array3d[wp.float64]
    reward: wp.array3d[wp.float32]
    fuel_ml: wp.array1d[wp.float64]
    jammed: wp.array1d[wp.int32]  # 1 + second in which a gridlock was found, 0 for none
    seconds: wp.array1d[wp.int32]


Sight, Count = wp.ref[SightArrays], wp.ref[CountArrays]


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
def pace_of(r: Road, t: Traffic, b: int, s: int) -> real:
    """Its speed as a share of the one it desires."""
    return wp.min(t.vehicle[b, s].speed / allowed(r, t, b, s, t.vehicle[b, s].lane), real(1.0))


@wp.func
def charge_driving(v: Sight, m: Count, t: Traffic, b: int, s: int, a: int):
    """What a vehicle burns, and the stop line it has passed: not in the second of its insertion."""
    kind, speed = t.vehicle[b, s].kind, t.vehicle[b, s].speed
    before = t.vehicle[b, s].signal
    if before >= 0 and speed > t.vehicle[b, s].stop_line:
        m.passed[b, before] = m.passed[b, before] + 1
        other = v.link_agent[before]
        if other >= 0:
            m.total[b, other, THROUGHPUT] = m.total[b, other, THROUGHPUT] + wp.float64(1.0)
    burnt = wp.float64(fuel_ml(v, kind, speed, t.vehicle[b, s].acceleration))
    m.fuel_ml[b] = m.fuel_ml[b] + burnt
    if a >= 0:
        m.total[b, a, FUEL] = m.total[b, a, FUEL] - burnt
        m.total[b, a, CO2] = m.total[b, a, CO2] - wp.float64(real(burnt) * GRAMS_PER_ML)


@wp.func
def charge_vehicle(r: Road, t: Traffic, v: Sight, m: Count, b: int, s: int):
    """What the signals are charged for one vehicle."""
    lane = t.vehicle[b, s].lane
    stands = t.vehicle[b, s].speed < STANDING
    q, distance = next_link(r, t, v, b, s)
    a = int(-1)
    if q >= 0:
        a = v.link_agent[q]
    if t.vehicle[b, s].inserted < t.now[b] - 1:
        charge_driving(v, m, t, b, s, a)
    if a >= 0:
        if distance <= VIEW_M:
            lost = real(1.0) - pace_of(r, t, b, s)
            weight = v.weight[t.vehicle[b, s].kind]
            m.total[b, a, DELAY] = m.total[b, a, DELAY] - wp.float64(lost)
            m.total[b, a, PRIORITY] = m.total[b, a, PRIORITY] - wp.float64(lost * weight)
            if stands:
                m.total[b, a, QUEUE] = m.total[b, a, QUEUE] - wp.float64(1.0)
                m.total[b, a, PRESSURE] = m.total[b, a, PRESSURE] - wp.float64(1.0)
        if stands:
            m.total[b, a, WAITING] = m.total[b, a, WAITING] - wp.float64(1.0)
        if t.vehicle[b, s].waiting == 1:
            m.total[b, a, STOPS] = m.total[b, a, STOPS] - wp.float64(1.0)
    o = v.lane_out[lane]
    if stands and o >= 0 and t.vehicle[b, s].position <= VIEW_M:
        for i in range(v.out_agent_begin[o], v.out_agent_begin[o + 1]):
            other = v.out_agent[i]
            m.total[b, other, PRESSURE] = m.total[b, other, PRESSURE] + wp.float64(1.0)
    t.vehicle[b, s].signal = q
    t.vehicle[b, s].stop_line = distance


@wp.func
def charge(r: Road, t: Traffic, v: Sight, m: Count, b: int):
    """Rewards of a second that has passed, what was green in it, and whether traffic is stuck."""
    for q in range(v.link_agent.shape[0]):
        if shows_green(t.state[b, r.signal_link[q]]):
            m.last_green[b, q] = t.now[b]
    stuck = int(0)
    for s in range(t.count[b]):
        charge_vehicle(r, t, v, m, b, s)
        if t.vehicle[b, s].waiting > STUCK_S:
            stuck += 1
            if r.lane_internal[t.vehicle[b, s].lane] and m.jammed[b] == 0:
                m.jammed[b] = t.now[b] + 1
    if stuck >= STUCK_LEAST and 2 * stuck > t.count[b] and m.jammed[b] == 0:
        m.jammed[b] = t.now[b] + 1
    m.seconds[b] = m.seconds[b] + 1


@wp.func
def wipe(v: Sight, m: Count, b: int):
    for q in range(v.link_agent.shape[0]):
        m.near[b, q] = 0
        m.seen[b, q] = 0
        m.halting[b, q] = 0
        m.standing_s[b, q] = 0
        m.pace[b, q] = real(0.0)
    for o in range(v.out_m.shape[0]):
        m.out_seen[b, o] = 0
        m.out_halting[b, o] = 0
        m.out_used[b, o] = real(0.0)


@wp.func
def count_vehicle(r: Road, t: Traffic, v: Sight, m: Count, b: int, s: int):
    """Adds one vehicle to what the signals see."""
    lane, kind = t.vehicle[b, s].lane, t.vehicle[b, s].kind
    stands = t.vehicle[b, s].speed < STANDING
    q, distance = next_link(r, t, v, b, s)
    o = v.lane_out[lane]
    if o >= 0 and t.vehicle[b, s].position <= VIEW_M:
        m.out_seen[b, o] = m.out_seen[b, o] + 1
        m.out_used[b, o] = m.out_used[b, o] + r.size[kind] + r.gap[kind]
        if stands:
            m.out_halting[b, o] = m.out_halting[b, o] + 1
    if q >= 0 and distance <= VIEW_M:
        m.seen[b, q] = m.seen[b, q] + 1
        m.pace[b, q] = m.pace[b, q] + pace_of(r, t, b, s)
        if distance <= NEAR_M:
            m.near[b, q] = m.near[b, q] + 1
        if stands:
            m.halting[b, q] = m.halting[b, q] + 1
            m.standing_s[b, q] = m.standing_s[b, q] + t.vehicle[b, s].waiting


@wp.func
def count(r: Road, t: Traffic, v: Sight, m: Count, b: int):
    """What stands and drives before and behind the signals now."""
    wipe(v, m, b)
    for s in range(t.count[b]):
        count_vehicle(r, t, v, m, b, s)


@wp.func
def pay(m: Count, b: int):
    """Rewards since the last payment."""
    for a in range(m.total.shape[1]):
        for k in range(m.total.shape[2]):
            m.reward[b, a, k] = wp.float32(m.total[b, a, k] - m.paid[b, a, k])
            m.paid[b, a, k] = m.total[b, a, k]
