"""Dispatch rules from outside a kernel: the slot that a rule picks for every cluster that must decide."""

import warp as wp

from fedsched.envs.datacenter.kernels.event import job_in_slot, legal
from fedsched.envs.datacenter.kernels.rules import priority
from fedsched.envs.datacenter.kernels.state import VISIBLE, Jobs, Model, State


@wp.kernel
def pick_by_rule(m: Model, jobs: Jobs, s: State, rule: int, easy: int, committing: int, actions: wp.array2d[wp.int64]):
    b, c = wp.tid()
    best = int(VISIBLE)
    least = wp.float64(0.0)
    decides = s.undecided[b, c] == 1 and s.terminated[b] == 0 and s.truncated[b] == 0
    if decides and (s.stage[b, c] == 0 or easy == 1):
        for k in range(wp.min(s.queued[b], VISIBLE)):
            j = job_in_slot(s, b, k)
            if committing == 1 or legal(m, jobs, s, b, c, j):
                key = priority(rule, jobs, s, b, j)
                if best == VISIBLE or key < least:
                    best = k
                    least = key
    actions[b, c] = wp.int64(best)
