"""What both engines do with one cluster: start and end jobs, reserve a head, account for time."""

import warp as wp

from fedsched.envs.datacenter.kernels.state import HOUR, INF, Jobs, Model, State


@wp.func
def remove_from_queue(s: State, b: int, j: int):
    n = s.queued[b]
    k = int(0)
    while k < n and s.queue[b, k] != j:
        k += 1
    while k < n - 1:
        s.queue[b, k] = s.queue[b, k + 1]
        k += 1
    s.queued[b] = n - 1


@wp.func
def reopen(s: State, b: int, c: int):
    s.stage[b, c] = 0
    s.head[b, c] = -1
    s.undecided[b, c] = 1


@wp.func
def start_job(m: Model, jobs: Jobs, s: State, b: int, c: int, j: int):
    remove_from_queue(s, b, j)
    now = s.now[b]
    until = now + jobs.estimate[b, j] / m.speed[c]
    need = jobs.processors[b, j]
    if s.stage[b, c] == 1 and until > s.shadow[b, c]:
        s.extra[b, c] = s.extra[b, c] - need
    k = s.running_count[b, c]
    s.running_count[b, c] = k + 1
    while k > 0 and s.running_until[b, c, k - 1] > until:
        s.running[b, c, k] = s.running[b, c, k - 1]
        s.running_until[b, c, k] = s.running_until[b, c, k - 1]
        s.running_end[b, c, k] = s.running_end[b, c, k - 1]
        k -= 1
    s.running[b, c, k] = j
    s.running_until[b, c, k] = until
    s.running_end[b, c, k] = now + jobs.run[b, j] / m.speed[c]
    s.free[b, c] = s.free[b, c] - need
    s.start[b, j] = now
    s.rank[b, j] = s.starts[b]
    s.starts[b] = s.starts[b] + 1
    s.cluster[b, j] = c
    for other in range(m.processors.shape[0]):
        if other != c and s.head[b, other] == j:
            reopen(s, b, other)


@wp.func
def earliest_fit(jobs: Jobs, s: State, b: int, c: int, need: int) -> wp.float64:
    """Earliest time by estimates at which `need` processors are free; overdue jobs count as ending now."""
    free = s.free[b, c]
    now = s.now[b]
    if free >= need:
        return now
    for k in range(s.running_count[b, c]):
        free += jobs.processors[b, s.running[b, c, k]]
        if free >= need:
            return wp.max(s.running_until[b, c, k], now)
    return INF


@wp.func
def reserve(jobs: Jobs, s: State, b: int, c: int, j: int):
    need = jobs.processors[b, j]
    now = s.now[b]
    shadow = earliest_fit(jobs, s, b, c, need)
    free = s.free[b, c]
    for k in range(s.running_count[b, c]):
        if wp.max(s.running_until[b, c, k], now) <= shadow:
            free += jobs.processors[b, s.running[b, c, k]]
    s.stage[b, c] = 1
    s.head[b, c] = j
    s.shadow[b, c] = shadow
    s.extra[b, c] = free - need


@wp.func
def next_completion(m: Model, s: State, b: int) -> wp.float64:
    t = INF
    for c in range(m.processors.shape[0]):
        for k in range(s.running_count[b, c]):
            t = wp.min(t, s.running_end[b, c, k])
    return t


@wp.func
def complete(m: Model, jobs: Jobs, s: State, b: int):
    """Frees the processors of every job whose true end has come."""
    now = s.now[b]
    for c in range(m.processors.shape[0]):
        kept = int(0)
        free = s.free[b, c]
        for k in range(s.running_count[b, c]):
            if s.running_end[b, c, k] <= now:
                free += jobs.processors[b, s.running[b, c, k]]
            else:
                if kept != k:
                    s.running[b, c, kept] = s.running[b, c, k]
                    s.running_until[b, c, kept] = s.running_until[b, c, k]
                    s.running_end[b, c, kept] = s.running_end[b, c, k]
                kept += 1
        s.running_count[b, c] = kept
        s.free[b, c] = free


@wp.func
def admit(s: State, b: int):
    """The next arrival joins the end of the queue."""
    j = s.arrived[b]
    s.queue[b, s.queued[b]] = j
    s.queued[b] = s.queued[b] + 1
    s.arrived[b] = j + 1


@wp.func
def integral(prefix: wp.array1d[wp.float64], hours: int, t: wp.float64) -> wp.float64:
    """Integral of a cyclic hourly series from hour 0 to t seconds, in unit-hours."""
    hour = t / HOUR
    whole = wp.floor(hour)
    turns = wp.floor(whole / wp.float64(hours))
    h = int(whole - turns * wp.float64(hours))
    value = prefix[h + 1] - prefix[h]
    return turns * prefix[hours] + prefix[h] + (hour - whole) * value


@wp.func
def elapse(m: Model, jobs: Jobs, s: State, b: int, t: wp.float64):
    """Moves the clock to t and adds what accrues meanwhile to the reward parts (docs/datacenter.md, Rewards)."""
    now = s.now[b]
    dt = t - now
    if dt <= wp.float64(0.0):
        return
    growth = wp.float64(0.0)
    for k in range(s.queued[b]):
        j = s.queue[b, k]
        run = jobs.run[b, j]
        since = now
        bound = run
        if run < wp.float64(10.0):
            bound = wp.float64(10.0)
            since = wp.clamp(jobs.submit[b, j] + wp.float64(10.0) - run, now, t)
        growth += (t - since) / bound
    waiting = wp.float64(s.queued[b]) * dt / HOUR
    offset = wp.float64(jobs.start_hour[b]) * HOUR
    carbon = integral(m.carbon, m.carbon_hours, offset + t) - integral(m.carbon, m.carbon_hours, offset + now)
    price = integral(m.price, m.price_hours, offset + t) - integral(m.price, m.price_hours, offset + now)
    for c in range(m.processors.shape[0]):
        busy = wp.float64(m.processors[c] - s.free[b, c])
        idle = wp.float64(m.processors[c])
        kw = m.pue[c] * (m.idle_w[c] * idle + (m.busy_w[c] - m.idle_w[c]) * busy) / wp.float64(1000.0)
        s.total[b, c, 0] = s.total[b, c, 0] + busy * dt / (wp.float64(m.all_processors) * HOUR)
        s.total[b, c, 1] = s.total[b, c, 1] - growth
        s.total[b, c, 2] = s.total[b, c, 2] - waiting
        s.total[b, c, 3] = s.total[b, c, 3] - kw * dt / HOUR
        s.total[b, c, 4] = s.total[b, c, 4] - kw * carbon / wp.float64(1000.0)
        s.total[b, c, 5] = s.total[b, c, 5] - kw * price
    s.now[b] = t
