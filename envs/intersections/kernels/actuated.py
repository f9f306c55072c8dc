"""Actuated programs; see `actuation.Actuation` and `reference.actuated`."""

import warp as wp

from fedsched.envs.intersections.kernels.state import REARS, Road, Traffic, real

ROUNDING = wp.constant(real(5.0e-4))


@wp.struct
class LoopsArrays:
    """Static. U actuated signals, I detectors."""

    signal: wp.array1d[wp.int32]  # [U]
    max_gap: wp.array1d[real]
    detector_gap: wp.array1d[real]
    shortest: wp.array1d[wp.int32]  # [P] s
    longest: wp.array1d[wp.int32]
    extends: wp.array1d[wp.bool]
    lane_loop: wp.array1d[wp.int32]  # [L + 1] the first detector of each lane
    loop_at: wp.array1d[real]  # [I]
    phase_loop_begin: wp.array1d[wp.int32]  # [P + 1]
    phase_loop: wp.array1d[wp.int32]


@wp.struct
class GreensArrays:
    """What changes."""

    step: wp.array2d[wp.int32]  # [B, U] phase, counted within the program
    since: wp.array2d[wp.int32]  # s when it began
    due: wp.array2d[wp.int32]  # s when its end is next considered
    detected: wp.array2d[real]  # [B, I] s when a vehicle was last at a detector


Loops, Greens = wp.ref[LoopsArrays], wp.ref[GreensArrays]


@wp.func
def detect(r: Road, t: Traffic, p: Loops, c: Greens, b: int):
    """Notes who is at a detector, or has left it in the second that passes; after all moves, before lane changes."""
    begun = real(t.now[b])
    for s in range(t.count[b]):
        speed = t.vehicle[b, s].speed
        lane = int(t.vehicle[b, s].lane)
        front = real(t.vehicle[b, s].position)
        for k in range(REARS + 1):
            rear = front - r.size[t.vehicle[b, s].kind]
            for i in range(p.lane_loop[lane], p.lane_loop[lane + 1]):
                at = p.loop_at[i]
                if front >= at and rear - speed <= at:
                    seen = begun + real(1.0)
                    if rear > at:
                        seen = begun + (at - rear + speed) / speed
                    c.detected[b, i] = wp.max(c.detected[b, i], seen)
            if rear - speed >= real(0.0) or k == REARS:
                break
            lane = t.behind[b, s, k]
            if lane < 0:
                break
            front += r.lane_length[lane]


@wp.func
def longer(t: Traffic, p: Loops, c: Greens, b: int, u: int, phase: int) -> int:
    """For how many seconds a phase goes on; 0 where it ends."""
    now = t.now[b]
    passed = now - c.since[b, u]
    if not p.extends[phase] or passed >= p.longest[phase]:
        return 0
    gap = real(p.max_gap[u])
    for k in range(p.phase_loop_begin[phase], p.phase_loop_begin[phase + 1]):
        gap = wp.min(gap, real(now) - c.detected[b, p.phase_loop[k]])
    if gap >= p.max_gap[u]:
        return 0
    more = wp.max(1, int(wp.ceil(p.detector_gap[u] - gap - ROUNDING)))
    return wp.min(more, p.longest[phase] - passed)


@wp.func
def actuate(r: Road, t: Traffic, p: Loops, c: Greens, b: int):
    """Lets every actuated program go on to its next phase when it is time."""
    now = t.now[b]
    for u in range(p.signal.shape[0]):
        n = p.signal[u]
        first = r.phase_begin[n]
        changed = bool(now == 0)
        if now >= c.due[b, u] and now > 0:
            more = longer(t, p, c, b, u, first + c.step[b, u])
            if more > 0:
                c.due[b, u] = now + more
            else:
                c.step[b, u] = (c.step[b, u] + 1) % (r.phase_begin[n + 1] - first)
                c.since[b, u] = now
                c.due[b, u] = now + p.shortest[first + c.step[b, u]]
                changed = True
        if changed:
            for i in range(r.phase_state.shape[1]):
                t.forced[b, n, i] = r.phase_state[first + c.step[b, u], i]
