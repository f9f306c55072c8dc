"""What the signals see: one thread per world and signal writes its own token, its movements and its phases.

Scaling: counts are ln(1 + x) / 4, seconds ln(1 + x) / 6, so that 54 vehicles and 402 s are 1; shares lie in [0, 1];
lanes are / 4, numbers of phases / 8, of movements / 16. Sums run over the lanes of a movement.
"""

import warp as wp

from fedsched.envs.intersections.kernels.control import Control, ControlArrays, Plan, PlanArrays, shows_green
from fedsched.envs.intersections.kernels.gates import is_used
from fedsched.envs.intersections.kernels.measure import Count, CountArrays, Sight, SightArrays
from fedsched.envs.intersections.kernels.priorities import (
    EVERYBODY,
    NOTHING,
    Priorities,
    PriorityArrays,
    in_time,
    movement_for,
)
from fedsched.envs.intersections.kernels.state import (
    BIG_YELLOW,
    GREEN,
    SMALL_GREEN,
    YELLOW,
    Road,
    RoadArrays,
    Traffic,
    TrafficArrays,
    real,
)

DAY_S = wp.constant(wp.float64(86400.0))
TWO_PI = wp.constant(wp.float64(6.283185307179586))
TURNS = wp.constant(4)


@wp.struct
class ViewArrays:
    """The tokens, and how movements are laid out; M movements in all."""

    movement_first: wp.array1d[wp.int32]  # [A + 1]
    movement_link_begin: wp.array1d[wp.int32]  # [M + 1]
    movement_link: wp.array1d[wp.int32]  # signal links Q
    movement_out_begin: wp.array1d[wp.int32]  # [M + 1]
    movement_out: wp.array1d[wp.int32]  # lanes O
    movement_lanes: wp.array1d[wp.int32]
    movement_gate: wp.array1d[wp.int32]  # -1: it stays in its district
    movement_turn: wp.array1d[wp.int32]  # 0 right, 1 straight, 2 left, 3 back
    begin_s: wp.float64
    own: wp.array3d[wp.float32]
    entities: wp.array4d[wp.float32]
    actions: wp.array4d[wp.float32]
    action_mask: wp.array3d[wp.bool]


View = wp.ref[ViewArrays]


@wp.func
def log_count(x: float) -> float:
    return wp.log(1.0 + wp.max(x, 0.0)) / 4.0


@wp.func
def log_seconds(x: float) -> float:
    return wp.log(1.0 + wp.max(x, 0.0)) / 6.0


@wp.func
def flag(x: bool) -> float:
    return wp.where(x, 1.0, 0.0)


@wp.func
def see_own(t: Traffic, p: Plan, c: Control, w: View, b: int, a: int):
    now = t.now[b]
    yellow = c.yellow_until[b, a] > now
    w.own[b, a, 0] = 0.0
    if not yellow:
        w.own[b, a, 0] = log_seconds(float(now - wp.max(c.yellow_until[b, a], 0)))
    w.own[b, a, 1] = flag(yellow)
    w.own[b, a, 2] = log_seconds(float(now - wp.max(c.changed_at[b, a], 0)))
    w.own[b, a, 3] = float(p.phase_first[a + 1] - p.phase_first[a]) / 8.0
    w.own[b, a, 4] = float(w.movement_first[a + 1] - w.movement_first[a]) / 16.0
    angle = (w.begin_s + wp.float64(now)) / DAY_S * TWO_PI
    w.own[b, a, 5] = wp.float32(wp.sin(angle))
    w.own[b, a, 6] = wp.float32(wp.cos(angle))


@wp.func
def see_queues(v: Sight, m: Count, w: View, b: int, a: int, e: int, move: int):
    """Traffic before and behind the stop line."""
    seen = int(0)
    near = int(0)
    halting = int(0)
    standing = int(0)
    pace = real(0.0)
    for i in range(w.movement_link_begin[move], w.movement_link_begin[move + 1]):
        q = w.movement_link[i]
        seen += m.seen[b, q]
        near += m.near[b, q]
        halting += m.halting[b, q]
        standing += m.standing_s[b, q]
        pace += m.pace[b, q]
    whole = real(0.0)
    used = real(0.0)
    behind = int(0)
    for i in range(w.movement_out_begin[move], w.movement_out_begin[move + 1]):
        o = w.movement_out[i]
        whole += v.out_m[o]
        used += wp.min(m.out_used[b, o], v.out_m[o])
        behind += m.out_halting[b, o]
    mean = real(1.0)
    if seen > 0:
        mean = pace / real(seen)
    w.entities[b, a, e, 0] = log_count(float(halting))
    w.entities[b, a, e, 1] = log_count(float(seen - halting))
    w.entities[b, a, e, 2] = log_count(float(near))
    w.entities[b, a, e, 3] = log_seconds(float(standing))
    w.entities[b, a, e, 4] = wp.float32(mean)
    w.entities[b, a, e, 5] = wp.float32((whole - used) / wp.max(whole, real(0.1)))
    w.entities[b, a, e, 6] = log_count(float(behind))


@wp.func
def see_lights(r: Road, t: Traffic, m: Count, w: View, b: int, a: int, e: int, move: int):
    """Layout and colour."""
    w.entities[b, a, e, 7] = float(w.movement_lanes[move]) / 4.0
    for k in range(TURNS):
        w.entities[b, a, e, 8 + k] = flag(w.movement_turn[move] == k)
    strong = bool(False)
    weak = bool(False)
    yellow = bool(False)
    last = int(0)
    for i in range(w.movement_link_begin[move], w.movement_link_begin[move + 1]):
        q = w.movement_link[i]
        state = t.state[b, r.signal_link[q]]
        strong = strong or state == GREEN
        weak = weak or state == SMALL_GREEN
        yellow = yellow or state == YELLOW or state == BIG_YELLOW
        last = wp.max(last, m.last_green[b, q])
    w.entities[b, a, e, 12] = flag(strong)
    w.entities[b, a, e, 13] = flag(weak and not strong)
    w.entities[b, a, e, 14] = flag(yellow)
    since = wp.where(strong or weak, 0, t.now[b] - last)
    w.entities[b, a, e, 15] = log_seconds(float(since))


@wp.func
def see_gate(t: Traffic, w: View, b: int, a: int, e: int, move: int):
    """Whether it leads into another district, and what share of the epoch's limit is left."""
    g = w.movement_gate[move]
    left = float(1.0)
    if g >= 0 and t.gate_limit[b, g] >= 0 and t.now[b] < t.gate_end[b, g]:
        used = t.gate_passed[b, g] - t.gate_base[b, g]
        left = float(wp.max(t.gate_limit[b, g] - used, 0)) / float(wp.max(t.gate_limit[b, g], 1))
    w.entities[b, a, e, 16] = flag(g >= 0)
    w.entities[b, a, e, 17] = left


@wp.func
def is_void(r: Road, t: Traffic, p: Plan, w: View, b: int, a: int, k: int) -> bool:
    """Whether a phase gives green to links at used gates and to no other."""
    closed = bool(False)
    for move in range(w.movement_first[a], w.movement_first[a + 1]):
        for i in range(w.movement_link_begin[move], w.movement_link_begin[move + 1]):
            link = r.signal_link[w.movement_link[i]]
            if shows_green(p.green[p.phase_first[a] + k, r.link_signal_index[link]]):
                g = r.link_gate[link]
                if g < 0 or not is_used(t, b, g):
                    return False
                closed = True
    return closed


@wp.func
def mask_phases(r: Road, t: Traffic, p: Plan, c: Control, w: View, b: int, a: int):
    """All phases where the signal must decide, but void ones only where there is no other."""
    active = c.active[b, a]
    count = p.phase_first[a + 1] - p.phase_first[a]
    legal = int(0)
    for k in range(count):
        w.action_mask[b, a, k] = active
        if active and t.gate_limit.shape[1] > 0:
            w.action_mask[b, a, k] = not is_void(r, t, p, w, b, a, k)
        if w.action_mask[b, a, k]:
            legal += 1
    if active and legal == 0:
        for k in range(count):
            w.action_mask[b, a, k] = True
    w.action_mask[b, a, p.phases] = not active


@wp.func
def is_seen(m: Count, w: View, b: int, move: int) -> bool:
    """Whether anybody is within 200 m of a movement's stop line."""
    for i in range(w.movement_link_begin[move], w.movement_link_begin[move + 1]):
        if m.seen[b, w.movement_link[i]] > 0:
            return True
    return False


@wp.func
def serve_first(p: Plan, w: View, x: Priorities, b: int, a: int, e: int):
    """Leaves of the legal phases those that serve a movement best, if any serves it."""
    count = p.phase_first[a + 1] - p.phase_first[a]
    best = int(1)
    found = bool(False)
    for k in range(count):
        if w.action_mask[b, a, k] and x.serves[a, k, e] >= best:
            best = x.serves[a, k, e]
            found = True
    if found:
        for k in range(count):
            w.action_mask[b, a, k] = w.action_mask[b, a, k] and x.serves[a, k, e] == best


@wp.func
def wanted_movement(r: Road, t: Traffic, m: Count, w: View, x: Priorities, b: int, i: int) -> int:
    """What the signal of a priority must serve now, -1 for nothing."""
    if not in_time(t, x, b, i):
        return NOTHING
    if x.trip[b, i] != EVERYBODY:
        return movement_for(r, t, x, b, i)
    e = x.movement[b, i]
    return wp.where(is_seen(m, w, b, w.movement_first[x.signal[b, i]] + e), e, NOTHING)


@wp.func
def keep_priorities(r: Road, t: Traffic, p: Plan, c: Control, m: Count, w: View, x: Priorities, b: int, a: int):
    """One priority in force after the other, as long as phases are left that serve it."""
    if c.active[b, a]:
        for i in range(x.signal.shape[1]):
            if x.signal[b, i] == a:
                e = wanted_movement(r, t, m, w, x, b, i)
                if e != NOTHING:
                    serve_first(p, w, x, b, a, e)


@wp.kernel
def observe(
    r: RoadArrays,
    t: TrafficArrays,
    p: PlanArrays,
    c: ControlArrays,
    v: SightArrays,
    m: CountArrays,
    w: ViewArrays,
    x: PriorityArrays,
):
    b, a = wp.tid()
    see_own(t, p, c, w, b, a)
    first = w.movement_first[a]
    for move in range(first, w.movement_first[a + 1]):
        see_queues(v, m, w, b, a, move - first, move)
        see_lights(r, t, m, w, b, a, move - first, move)
        see_gate(t, w, b, a, move - first, move)
    for k in range(p.phase_first[a + 1] - p.phase_first[a]):
        w.actions[b, a, k, 0] = flag(p.period > 0 and c.target[b, a] == k)
    mask_phases(r, t, p, c, w, b, a)
    keep_priorities(r, t, p, c, m, w, x, b, a)
