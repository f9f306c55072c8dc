"""The `event` engine: docs/datacenter.md, rules 1 to 9. One thread runs one world to its next decision."""

import warp as wp

from fedsched.envs.datacenter.kernels.cluster import (
    admit,
    complete,
    earliest_fit,
    elapse,
    next_completion,
    reopen,
    reserve,
    start_job,
)
from fedsched.envs.datacenter.kernels.rules import FCFS, priority
from fedsched.envs.datacenter.kernels.state import (
    FLAG_ILLEGAL,
    FLAG_STUCK,
    HOLD,
    HOUR,
    INF,
    NO_PICK,
    VISIBLE,
    Jobs,
    Model,
    State,
)


@wp.func
def job_in_slot(s: State, b: int, slot: int) -> int:
    """Of a queue longer than the slots its head and its tail are shown."""
    n = s.queued[b]
    if n > VISIBLE and slot >= VISIBLE / 2:
        return s.queue[b, n - VISIBLE + slot]
    return s.queue[b, slot]


@wp.func
def reserved_elsewhere(m: Model, s: State, b: int, c: int, j: int) -> bool:
    for other in range(m.processors.shape[0]):
        if other != c and s.head[b, other] == j:
            return True
    return False


@wp.func
def legal(m: Model, jobs: Jobs, s: State, b: int, c: int, j: int) -> bool:
    """Rules 3 and 4."""
    need = jobs.processors[b, j]
    fits = need <= s.free[b, c]
    if s.stage[b, c] == 0:
        if need > m.processors[c]:
            return False
        return fits or not reserved_elsewhere(m, s, b, c, j)
    if not fits:
        return False
    ends = s.now[b] + jobs.estimate[b, j] / m.speed[c]
    return ends <= s.shadow[b, c] or need <= s.extra[b, c]


@wp.func
def goes_before(m: Model, jobs: Jobs, s: State, b: int, c: int, other: int, j: int) -> bool:
    """Rule 5: whether cluster c < other wins job j."""
    need = jobs.processors[b, j]
    start = earliest_fit(jobs, s, b, c, need)
    start_other = earliest_fit(jobs, s, b, other, need)
    if start != start_other:
        return start < start_other
    return start + jobs.estimate[b, j] / m.speed[c] <= start_other + jobs.estimate[b, j] / m.speed[other]


@wp.func
def carry_out(m: Model, jobs: Jobs, s: State, b: int):
    """Carries out the picks of all clusters (rule 5): holds, then conflicts, then the picks that won."""
    clusters = m.processors.shape[0]
    for c in range(clusters):
        if s.pick[b, c] == HOLD:
            s.undecided[b, c] = 0
            if s.stage[b, c] == 0:
                s.deferred[b] = 1
    for c in range(clusters):
        for other in range(c + 1, clusters):
            if s.pick[b, c] >= 0 and s.pick[b, c] == s.pick[b, other]:
                if goes_before(m, jobs, s, b, c, other, s.pick[b, c]):
                    s.pick[b, other] = NO_PICK
                else:
                    s.pick[b, c] = NO_PICK
    for c in range(clusters):
        j = s.pick[b, c]
        if j >= 0:
            if jobs.processors[b, j] <= s.free[b, c]:
                start_job(m, jobs, s, b, c, j)
            else:
                reserve(jobs, s, b, c, j)


@wp.func
def ask(m: Model, jobs: Jobs, s: State, b: int, slots: int) -> int:
    """Carries out what is forced (rule 7); returns how many clusters have a real choice."""
    while True:
        asked = int(0)
        forced = int(0)
        n = wp.min(s.queued[b], slots)
        for c in range(m.processors.shape[0]):
            s.pick[b, c] = NO_PICK
            if s.undecided[b, c] == 1:
                count = int(0)
                only = int(0)
                startable = bool(False)
                k = int(0)
                while k < n and s.free[b, c] > 0 and (count < 2 or not startable):
                    j = job_in_slot(s, b, k)
                    if legal(m, jobs, s, b, c, j):
                        count += 1
                        only = j
                        startable = startable or jobs.processors[b, j] <= s.free[b, c]
                    k += 1
                if not startable:
                    s.undecided[b, c] = 0
                elif count == 1 and s.stage[b, c] == 0 and m.deferral == 0:
                    forced += 1
                    s.pick[b, c] = only
                else:
                    asked += 1
        if asked > 0 or forced == 0:
            return asked
        carry_out(m, jobs, s, b)
    return 0


@wp.func
def choose_by_rule(m: Model, jobs: Jobs, s: State, b: int, rule: int, easy: int) -> bool:
    """Sets the picks of all undecided clusters; False where nothing is left to decide."""
    any_pick = bool(False)
    for c in range(m.processors.shape[0]):
        s.pick[b, c] = NO_PICK
        if s.undecided[b, c] == 1:
            best = int(-1)
            startable = bool(False)
            if s.free[b, c] > 0 and (s.stage[b, c] == 0 or easy == 1):
                least = INF
                n = s.queued[b]
                k = int(0)
                while k < n:
                    j = s.queue[b, k]
                    k += 1
                    if legal(m, jobs, s, b, c, j):
                        startable = startable or jobs.processors[b, j] <= s.free[b, c]
                        if best < 0 or rule != FCFS:
                            key = priority(rule, jobs, s, b, j)
                            if best < 0 or key < least:
                                best = j
                                least = key
                        if startable and rule == FCFS:
                            k = n  # the queue is in this order already
            if not startable:
                s.undecided[b, c] = 0
            else:
                s.pick[b, c] = best
                any_pick = True
    return any_pick


@wp.func
def next_event(m: Model, jobs: Jobs, s: State, b: int) -> wp.float64:
    t = next_completion(m, s, b)
    if s.arrived[b] < jobs.count[b]:
        t = wp.min(t, jobs.submit[b, s.arrived[b]])
    if s.deferred[b] == 1:
        t = wp.min(t, (wp.floor(s.now[b] / HOUR) + wp.float64(1.0)) * HOUR)
    return t


@wp.func
def drained(m: Model, jobs: Jobs, s: State, b: int) -> bool:
    if s.queued[b] > 0 or s.arrived[b] < jobs.count[b]:
        return False
    for c in range(m.processors.shape[0]):
        if s.running_count[b, c] > 0:
            return False
    return True


@wp.func
def next_instant(m: Model, jobs: Jobs, s: State, b: int, until: wp.float64) -> bool:
    """Handles the events of the next instant before `until` (rules 1, 2, 9); False where the world stops."""
    if drained(m, jobs, s, b):
        if until < INF:
            elapse(m, jobs, s, b, until)
        else:
            s.terminated[b] = 1
        return False
    t = next_event(m, jobs, s, b)
    if t == INF:
        s.flag[b] = FLAG_STUCK
        return False
    if t >= until or t > s.limit[b]:
        elapse(m, jobs, s, b, wp.min(until, s.limit[b]))
        if s.limit[b] < until:
            s.truncated[b] = 1
        return False
    elapse(m, jobs, s, b, t)
    s.deferred[b] = 0
    complete(m, jobs, s, b)
    while s.arrived[b] < jobs.count[b] and jobs.submit[b, s.arrived[b]] <= t:
        admit(s, b)
    for c in range(m.processors.shape[0]):
        reopen(s, b, c)
    return True


@wp.kernel
def step_event(m: Model, jobs: Jobs, s: State, actions: wp.array2d[wp.int64], until: wp.array1d[wp.float64]):
    b = wp.tid()
    clusters = m.processors.shape[0]
    if s.terminated[b] == 1 or s.truncated[b] == 1:
        for c in range(clusters):
            if int(actions[b, c]) != VISIBLE:
                s.flag[b] = FLAG_ILLEGAL
        return
    n = wp.min(s.queued[b], VISIBLE)
    any_pick = bool(False)
    for c in range(clusters):
        slot = int(actions[b, c])
        s.pick[b, c] = NO_PICK
        if s.undecided[b, c] == 1:
            any_pick = True
            if slot == VISIBLE and (s.stage[b, c] == 1 or m.deferral == 1):
                s.pick[b, c] = HOLD
            elif slot >= 0 and slot < n:
                j = job_in_slot(s, b, slot)
                if legal(m, jobs, s, b, c, j):
                    s.pick[b, c] = j
            if s.pick[b, c] == NO_PICK:
                s.flag[b] = FLAG_ILLEGAL
            s.decisions[b] = s.decisions[b] + 1
        elif slot != VISIBLE:
            s.flag[b] = FLAG_ILLEGAL
    if s.flag[b] != 0:
        return
    if any_pick:
        carry_out(m, jobs, s, b)
    while ask(m, jobs, s, b, VISIBLE) == 0:
        if not next_instant(m, jobs, s, b, until[b]):
            return


@wp.kernel
def open_event(m: Model, jobs: Jobs, s: State, where: wp.array1d[wp.int32], until: wp.array1d[wp.float64]):
    """Runs freshly reset worlds to their first decision or to `until`."""
    b = wp.tid()
    if where[b] == 0:
        return
    while ask(m, jobs, s, b, VISIBLE) == 0:
        if not next_instant(m, jobs, s, b, until[b]):
            return


@wp.kernel
def run_event_rule(
    m: Model,
    jobs: Jobs,
    s: State,
    rule: wp.array1d[wp.int32],
    easy: wp.array1d[wp.int32],
    until: wp.array1d[wp.float64],
):
    """Runs worlds by a rule to the end or to `until`, without observations."""
    b = wp.tid()
    if s.terminated[b] == 1 or s.truncated[b] == 1 or rule[b] < 0:
        return
    running = bool(True)
    while running:
        while choose_by_rule(m, jobs, s, b, rule[b], easy[b]):
            for c in range(m.processors.shape[0]):
                if s.pick[b, c] >= 0:
                    s.decisions[b] = s.decisions[b] + 1
            carry_out(m, jobs, s, b)
        running = next_instant(m, jobs, s, b, until[b])
