"""One second of one world, and the launch that runs many."""

import warp as wp

from fedsched.envs.intersections.kernels.actuated import GreensArrays, LoopsArrays, actuate, detect
from fedsched.envs.intersections.kernels.changing import change_lanes
from fedsched.envs.intersections.kernels.control import (
    Control,
    ControlArrays,
    Plan,
    PlanArrays,
    anyone_decides,
    choose,
    end_yellow,
)
from fedsched.envs.intersections.kernels.gates import close_gates, hold_gates
from fedsched.envs.intersections.kernels.inserting import insert
from fedsched.envs.intersections.kernels.keepclear import keep_clear
from fedsched.envs.intersections.kernels.lists import list_rears
from fedsched.envs.intersections.kernels.measure import Count, CountArrays, Sight, SightArrays, charge, count, pay
from fedsched.envs.intersections.kernels.moving import list_approaches, move
from fedsched.envs.intersections.kernels.planning import plan
from fedsched.envs.intersections.kernels.state import Road, RoadArrays, Traffic, TrafficArrays
from fedsched.envs.intersections.kernels.ways import close_lanes

wp.set_module_options(
    {
        "cpu_compiler_flags": "-march=native -mllvm=-inline-threshold=1000000"
        " -mllvm=-inline-cold-callsite-threshold=1000000 -mllvm=-slp-recursion-max-depth=4"
    }
)
"""On a CPU everything is compiled into the loop over seconds, where the arrays' addresses stay at hand. It runs
faster by far more than the longer compiling costs."""


@wp.func
def switch(r: Road, t: Traffic, b: int):
    """Shows the states that are in force: those set from outside, else those of the programs."""
    for n in range(r.offset_s.shape[0]):
        first = r.signal_link_begin[n]
        if t.forced[b, n, 0] != 0:
            for i in range(first, r.signal_link_begin[n + 1]):
                link = r.signal_link[i]
                t.state[b, link] = t.forced[b, n, r.link_signal_index[link]]
            t.shown[b, n] = -1
        else:
            start, end = r.phase_begin[n], r.phase_begin[n + 1]
            cycle = r.phase_end_s[end - 1]
            at = (t.now[b] + r.offset_s[n]) % cycle
            phase = int(start)
            while r.phase_end_s[phase] <= at:
                phase += 1
            if phase != t.shown[b, n]:
                t.shown[b, n] = phase
                for i in range(first, r.signal_link_begin[n + 1]):
                    link = r.signal_link[i]
                    t.state[b, link] = r.phase_state[phase, r.link_signal_index[link]]


@wp.func
def first_half(r: Road, t: Traffic, b: int):
    """The first part of a second: everyone plans, decides and moves."""
    close_lanes(r, t, b)
    close_gates(r, t, b)
    switch(r, t, b)
    hold_gates(r, t, b)
    for s in range(t.count[b]):
        plan(r, t, b, s)
        keep_clear(r, t, b, s)
    list_approaches(t, b)
    move(r, t, b)


@wp.func
def second_half(r: Road, t: Traffic, b: int):
    """The rest of it: lane changes and insertion."""
    list_rears(r, t, b)
    change_lanes(r, t, b)
    insert(r, t, b)
    t.now[b] = t.now[b] + 1


@wp.func
def decide_all(t: Traffic, p: Plan, c: Control, chosen: wp.array2d[wp.int64], b: int):
    """Applies the active signals' choices."""
    for a in range(p.signal.shape[0]):
        if c.active[b, a]:
            choose(t, p, c, b, a, int(chosen[b, a]))


@wp.func
def goes_on(t: Traffic, p: Plan, c: Control, until_s: wp.array1d[wp.float64], b: int) -> bool:
    """Whether another second passes before anyone must decide."""
    return t.now[b] < p.horizon and wp.float64(t.now[b]) < until_s[b] and not anyone_decides(t, p, c, b)


@wp.func
def settle(r: Road, t: Traffic, p: Plan, c: Control, v: Sight, m: Count, begun: int, b: int):
    """Who must decide now, what there is to see, what has been earned since `begun`, and the clock."""
    anyone_decides(t, p, c, b)
    count(r, t, v, m, b)
    pay(m, b)
    c.ended[b] = t.now[b] >= p.horizon
    for a in range(p.signal.shape[0]):
        c.alive[b, a] = not c.ended[b]
    c.time_s[b] = wp.float64(t.now[b])
    c.elapsed_s[b] = wp.float64(t.now[b] - begun)


@wp.kernel
def run_to_decision(
    r: RoadArrays,
    t: TrafficArrays,
    p: PlanArrays,
    c: ControlArrays,
    v: SightArrays,
    m: CountArrays,
    loops: LoopsArrays,
    greens: GreensArrays,
    go: wp.array1d[wp.bool],
    chosen: wp.array2d[wp.int64],
    until_s: wp.array1d[wp.float64],
):
    """Applies the active signals' choices; then the worlds in `go` run until anyone must decide or to `until_s`."""
    b = wp.tid()
    if go[b]:
        decide_all(t, p, c, chosen, b)
        begun = t.now[b]
        while goes_on(t, p, c, until_s, b):
            end_yellow(t, p, c, b)
            actuate(r, t, loops, greens, b)
            first_half(r, t, b)
            if loops.loop_at.shape[0] > 0:
                detect(r, t, loops, greens, b)
            second_half(r, t, b)
            charge(r, t, v, m, b)
        settle(r, t, p, c, v, m, begun, b)
