"""Dispatch rules inside a kernel: the smallest priority goes first (`fedsched.envs.datacenter.rules` states them)."""

import warp as wp

from fedsched.envs.datacenter.kernels.state import Jobs, State

FCFS = wp.constant(0)
SJF = wp.constant(1)
SAF = wp.constant(2)
WFP3 = wp.constant(3)
UNICEP = wp.constant(4)
F1 = wp.constant(5)
F2 = wp.constant(6)
F3 = wp.constant(7)
F4 = wp.constant(8)
WFP3_PUBLISHED = wp.constant(9)
UNICEP_PUBLISHED = wp.constant(10)


@wp.func
def log10_or_tenth(x: wp.float64) -> wp.float64:
    if x > wp.float64(0.0):
        return wp.log10(x)
    return wp.float64(-1.0)


@wp.func
def priority(rule: int, jobs: Jobs, s: State, b: int, j: int) -> wp.float64:
    estimate = jobs.estimate[b, j]
    n = wp.float64(jobs.processors[b, j])
    submit = jobs.origin[b] + jobs.submit[b, j]
    if rule == FCFS:
        return submit
    if rule == SJF:
        return estimate
    if rule == SAF:
        return estimate * n
    if rule == F1:
        return log10_or_tenth(estimate) * n + wp.float64(870.0) * log10_or_tenth(submit)
    if rule == F2:
        return wp.sqrt(wp.max(estimate, wp.float64(0.0))) * n + wp.float64(25600.0) * log10_or_tenth(submit)
    if rule == F3:
        return estimate * n + wp.float64(6860000.0) * log10_or_tenth(submit)
    if rule == F4:
        return estimate * wp.sqrt(n) + wp.float64(530000.0) * log10_or_tenth(submit)
    wait = s.now[b] - jobs.submit[b, j]
    if rule == WFP3_PUBLISHED or rule == UNICEP_PUBLISHED:
        wait = wp.float64(-1.0) - submit
    else:
        estimate = wp.max(estimate, wp.float64(1.0))
    if rule == WFP3 or rule == WFP3_PUBLISHED:
        ratio = wait / estimate
        return -ratio * ratio * ratio * n
    log2 = wp.log2(n)
    if n <= wp.float64(1.0):
        log2 = wp.log2(wp.float64(1.0) + wp.float64(1.0e-15))
    # the tiny term ranks jobs of one processor before they have waited
    return -(wait + wp.float64(1.0e-15)) / (log2 * estimate)
