"""Gates between districts: how many vehicles have crossed, and no green for those who would once the limit is used."""

import warp as wp

from fedsched.envs.intersections.kernels.state import RED, STOP_SIGN, YELLOW, Road, Traffic, real


@wp.func
def may_pass(state: int) -> bool:
    """Neither red nor a stop sign."""
    return state != RED and state != STOP_SIGN


@wp.func
def is_used(t: Traffic, b: int, g: int) -> bool:
    """Whether as many have crossed in this epoch as may."""
    limit = t.gate_limit[b, g]
    return limit >= 0 and t.now[b] < t.gate_end[b, g] and t.gate_passed[b, g] - t.gate_base[b, g] >= limit


@wp.func
def pass_gate(r: Road, t: Traffic, b: int, link: int):
    """Counts a vehicle that passes a link."""
    g = r.link_gate[link]
    if g >= 0:
        wp.atomic_add(t.gate_passed, b, g, 1)


@wp.func
def lose(r: Road, t: Traffic, b: int, lane: int, seconds: real):
    """Counts time that a vehicle has lost in the district of its lane."""
    if t.district_loss.shape[1] > 0:
        wp.atomic_add(t.district_loss, b, r.lane_district[lane], seconds)


@wp.func
def close_gates(r: Road, t: Traffic, b: int):
    """Before the signals switch: at gates that are used up from now on, links that may be passed will be yellow."""
    for g in range(t.gate_limit.shape[1]):
        used = is_used(t, b, g)
        if used and not t.gate_closed[b, g]:
            for i in range(r.gate_guard_begin[g], r.gate_guard_begin[g + 1]):
                t.guard_yellow[b, i] = t.now[b]
                if may_pass(t.state[b, r.gate_guard[i]]):
                    t.guard_yellow[b, i] = t.now[b] + r.guard_yellow_s[i]
        t.gate_closed[b, g] = used


@wp.func
def hold_gates(r: Road, t: Traffic, b: int):
    """After the signals have switched: yellow and then red at closed gates, whatever the phase says."""
    for g in range(t.gate_limit.shape[1]):
        if t.gate_closed[b, g]:
            for i in range(r.gate_guard_begin[g], r.gate_guard_begin[g + 1]):
                link = r.gate_guard[i]
                yellow = may_pass(t.state[b, link]) and t.now[b] < t.guard_yellow[b, i]
                t.state[b, link] = wp.where(yellow, YELLOW, RED)
                t.shown[b, r.link_signal[link]] = -1  # so that the program shows its own state again
