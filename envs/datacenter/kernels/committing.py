"""The `committing` engine: the published batch-scheduling protocol (RLScheduler, SC'20), one cluster.

A picked job blocks until it fits; arrivals join the queue one by one, and only while time moves.
"""

import warp as wp

from fedsched.envs.datacenter.kernels.cluster import admit, elapse, next_completion, start_job
from fedsched.envs.datacenter.kernels.event import job_in_slot
from fedsched.envs.datacenter.kernels.rules import priority
from fedsched.envs.datacenter.kernels.state import FLAG_ILLEGAL, INF, VISIBLE, Jobs, Model, State


@wp.func
def release_one(jobs: Jobs, s: State, b: int, t: wp.float64):
    """Frees the processors of a job whose true end is t; of several the one that started first."""
    n = s.running_count[b, 0]
    k = int(-1)
    for other in range(n):
        if s.running_end[b, 0, other] == t:
            if k < 0 or s.rank[b, s.running[b, 0, other]] < s.rank[b, s.running[b, 0, k]]:
                k = other
    s.free[b, 0] = s.free[b, 0] + jobs.processors[b, s.running[b, 0, k]]
    while k < n - 1:
        s.running[b, 0, k] = s.running[b, 0, k + 1]
        s.running_until[b, 0, k] = s.running_until[b, 0, k + 1]
        s.running_end[b, 0, k] = s.running_end[b, 0, k + 1]
        k += 1
    s.running_count[b, 0] = n - 1


@wp.func
def move_one_event(m: Model, jobs: Jobs, s: State, b: int):
    """One arrival or one completion, whichever is first; an arrival first at a tie."""
    end = next_completion(m, s, b)
    if s.arrived[b] < jobs.count[b] and jobs.submit[b, s.arrived[b]] <= end:
        elapse(m, jobs, s, b, jobs.submit[b, s.arrived[b]])
        admit(s, b)
    else:
        elapse(m, jobs, s, b, end)
        release_one(jobs, s, b, end)


@wp.func
def backfill(m: Model, jobs: Jobs, s: State, b: int, head: int, shadow: wp.float64):
    """First come first served among the jobs that fit now and end before the shadow time by their estimate."""
    k = int(0)
    while k < s.queued[b]:
        j = s.queue[b, k]
        fits = jobs.processors[b, j] <= s.free[b, 0]
        if j != head and fits and s.now[b] + jobs.estimate[b, j] / m.speed[0] < shadow:
            start_job(m, jobs, s, b, 0, j)
        else:
            k += 1


@wp.func
def commit(m: Model, jobs: Jobs, s: State, b: int, j: int, with_backfill: int):
    need = jobs.processors[b, j]
    if need > s.free[b, 0]:
        shadow = s.now[b]
        free = s.free[b, 0]
        k = int(0)
        while free < need and k < s.running_count[b, 0]:
            free += jobs.processors[b, s.running[b, 0, k]]
            shadow = s.running_until[b, 0, k]
            k += 1
        while need > s.free[b, 0]:
            if with_backfill == 1:
                backfill(m, jobs, s, b, j, shadow)
            move_one_event(m, jobs, s, b)
    start_job(m, jobs, s, b, 0, j)


@wp.func
def to_next_decision(m: Model, jobs: Jobs, s: State, b: int) -> bool:
    """Moves time until a job waits; False at the end, after the last job has run."""
    while s.queued[b] == 0:
        if s.arrived[b] == jobs.count[b] and s.running_count[b, 0] == 0:
            s.terminated[b] = 1
            return False
        move_one_event(m, jobs, s, b)
    return True


@wp.func
def settle_forced(m: Model, jobs: Jobs, s: State, b: int, with_backfill: int):
    """A lone waiting job leaves no choice."""
    while to_next_decision(m, jobs, s, b):
        if s.queued[b] > 1:
            s.undecided[b, 0] = 1
            return
        commit(m, jobs, s, b, s.queue[b, 0], with_backfill)
    s.undecided[b, 0] = 0


@wp.kernel
def step_committing(m: Model, jobs: Jobs, s: State, actions: wp.array2d[wp.int64], with_backfill: int):
    b = wp.tid()
    slot = int(actions[b, 0])
    if s.undecided[b, 0] == 1 and s.terminated[b] == 0:
        if slot < 0 or slot >= wp.min(s.queued[b], VISIBLE):
            s.flag[b] = FLAG_ILLEGAL
            return
        s.decisions[b] = s.decisions[b] + 1
        commit(m, jobs, s, b, job_in_slot(s, b, slot), with_backfill)
    elif slot != VISIBLE:
        s.flag[b] = FLAG_ILLEGAL
    if s.terminated[b] == 0 and s.flag[b] == 0:
        settle_forced(m, jobs, s, b, with_backfill)


@wp.kernel
def open_committing(
    m: Model,
    jobs: Jobs,
    s: State,
    where: wp.array1d[wp.int32],
    with_backfill: int,
    until: wp.array1d[wp.float64],
):
    """Runs freshly reset worlds to their first decision, or leaves them at time 0 if they shall stop there."""
    b = wp.tid()
    if where[b] == 1 and until[b] > wp.float64(0.0):
        settle_forced(m, jobs, s, b, with_backfill)


@wp.kernel
def run_committing_rule(m: Model, jobs: Jobs, s: State, rule: wp.array1d[wp.int32], with_backfill: int):
    """Runs worlds by a rule to the end, without observations."""
    b = wp.tid()
    if s.terminated[b] == 1 or rule[b] < 0:
        return
    while to_next_decision(m, jobs, s, b):
        best = int(-1)
        least = INF
        for k in range(s.queued[b]):
            j = s.queue[b, k]
            key = priority(rule[b], jobs, s, b, j)
            if best < 0 or key < least:
                best = j
                least = key
        s.decisions[b] = s.decisions[b] + 1
        commit(m, jobs, s, b, best, with_backfill)
