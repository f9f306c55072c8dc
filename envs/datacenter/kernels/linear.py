"""Linear scores inside a kernel: whole episodes without leaving it, for searching over dispatching rules.

score of a row = (weights[0] + stage * weights[1]) . (job features, hold flag); the highest score goes,
the first of equals.
"""

import warp as wp

from fedsched.envs.datacenter.kernels.event import ask, carry_out, job_in_slot, next_instant
from fedsched.envs.datacenter.kernels.observe import View, see
from fedsched.envs.datacenter.kernels.state import HOLD, VISIBLE, Jobs, Model, State


@wp.func
def best_slot(s: State, v: View, weights: wp.array3d[wp.float32], b: int, c: int) -> int:
    stage = wp.float32(s.stage[b, c])
    features = v.entities.shape[3]
    best = int(-1)
    highest = wp.float32(0.0)
    for k in range(v.shown[b, c]):
        if v.action_mask[b, c, k]:
            score = wp.float32(0.0)
            for f in range(features):
                score += (weights[b, 0, f] + stage * weights[b, 1, f]) * v.entities[b, c, k, f]
            if best < 0 or score > highest:
                best = k
                highest = score
    if v.action_mask[b, c, VISIBLE]:
        score = weights[b, 0, features] + stage * weights[b, 1, features]
        if best < 0 or score > highest:
            best = VISIBLE
    return best


@wp.kernel
def run_event_linear(
    m: Model,
    jobs: Jobs,
    s: State,
    v: View,
    weights: wp.array3d[wp.float32],
    until: wp.array1d[wp.float64],
):
    b = wp.tid()
    if s.terminated[b] == 1 or s.truncated[b] == 1:
        return
    running = bool(True)
    while running:
        while ask(m, jobs, s, b, VISIBLE) > 0:
            for c in range(m.processors.shape[0]):
                if s.undecided[b, c] == 1:
                    see(m, jobs, s, v, 0, b, c)
                    slot = best_slot(s, v, weights, b, c)
                    s.decisions[b] = s.decisions[b] + 1
                    s.pick[b, c] = HOLD
                    if slot < VISIBLE:
                        s.pick[b, c] = job_in_slot(s, b, slot)
            carry_out(m, jobs, s, b)
        running = next_instant(m, jobs, s, b, until[b])
