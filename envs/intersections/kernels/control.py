"""What the controlled signals show: chosen green phases, and the yellow between two of them."""

import warp as wp

from fedsched.envs.intersections.kernels.state import GREEN, SMALL_GREEN, YELLOW, Traffic

LONG_AGO = wp.constant(-(1 << 20))


@wp.struct
class PlanArrays:
    """Static: the agents and their timing; N signals of the network, A of them controlled."""

    signal: wp.array1d[wp.int32]  # [A] place among the network's signals
    phase_first: wp.array1d[wp.int32]  # [A + 1] first green phase of each agent
    green: wp.array2d[wp.int32]  # [G, most links] states of the green phases
    phases: wp.int32  # most phases of an agent; the action of that number is to keep
    period: wp.int32  # s between decisions, 0: the programs run
    yellow: wp.int32  # s
    least: wp.int32  # s, shortest green
    horizon: wp.int32  # s, length of an episode


@wp.struct
class ControlArrays:
    """What changes."""

    phase: wp.array2d[wp.int32]  # [B, A] green phase that is shown, or was until the yellow
    target: wp.array2d[wp.int32]  # green phase that comes after the yellow; else the same
    yellow_until: wp.array2d[wp.int32]  # s, when the green of `target` begins
    changed_at: wp.array2d[wp.int32]  # s, start of the last change
    decided: wp.array2d[wp.int32]  # s of the last decision
    active: wp.array2d[wp.bool]  # must decide now
    alive: wp.array2d[wp.bool]
    ended: wp.array1d[wp.bool]
    time_s: wp.array1d[wp.float64]
    elapsed_s: wp.array1d[wp.float64]


Plan, Control = wp.ref[PlanArrays], wp.ref[ControlArrays]


@wp.func
def shows_green(state: int) -> bool:
    return state == GREEN or state == SMALL_GREEN


@wp.func
def show(t: Traffic, p: Plan, b: int, a: int, row: int):
    """Holds a signal in one of its green states."""
    n = p.signal[a]
    for i in range(p.green.shape[1]):
        t.forced[b, n, i] = p.green[row, i]


@wp.func
def show_yellow(t: Traffic, p: Plan, b: int, a: int, old: int, new: int):
    """Yellow for all that lose their green, everything else as it was."""
    n = p.signal[a]
    for i in range(p.green.shape[1]):
        t.forced[b, n, i] = p.green[old, i]
        if shows_green(p.green[old, i]) and not shows_green(p.green[new, i]):
            t.forced[b, n, i] = YELLOW


@wp.func
def choose(t: Traffic, p: Plan, c: Control, b: int, a: int, phase: int):
    """A decision: the phase that shall be shown."""
    now = t.now[b]
    c.decided[b, a] = now
    old = c.phase[b, a]
    if phase != old:
        first = p.phase_first[a]
        c.target[b, a] = phase
        c.changed_at[b, a] = now
        c.yellow_until[b, a] = now + p.yellow
        if p.yellow > 0:
            show_yellow(t, p, b, a, first + old, first + phase)


@wp.func
def end_yellow(t: Traffic, p: Plan, c: Control, b: int):
    """Shows the greens whose time has come."""
    for a in range(p.signal.shape[0]):
        if c.target[b, a] != c.phase[b, a] and t.now[b] >= c.yellow_until[b, a]:
            c.phase[b, a] = c.target[b, a]
            show(t, p, b, a, p.phase_first[a] + c.phase[b, a])


@wp.func
def may_decide(t: Traffic, p: Plan, c: Control, b: int, a: int) -> bool:
    now = t.now[b]
    if p.period == 0 or now % wp.max(p.period, 1) != 0 or now >= p.horizon or c.decided[b, a] == now:
        return False
    return now >= c.yellow_until[b, a] and now - c.changed_at[b, a] >= p.yellow + p.least


@wp.func
def anyone_decides(t: Traffic, p: Plan, c: Control, b: int) -> bool:
    found = bool(False)
    for a in range(p.signal.shape[0]):
        c.active[b, a] = may_decide(t, p, c, b, a)
        found = found or c.active[b, a]
    return found
