"""What the agents see: one thread per world and cluster writes its own token and the tokens of the visible jobs.

Logarithms are ln(1 + x) / 16 and shares lie in [0, 1], so that one policy reads sites of any size.
"""

import warp as wp

from fedsched.envs.datacenter.kernels.cluster import earliest_fit, integral
from fedsched.envs.datacenter.kernels.event import job_in_slot, legal, reserved_elsewhere
from fedsched.envs.datacenter.kernels.state import HOUR, VISIBLE, Jobs, Model, State


@wp.struct
class View:
    """The token arrays; `shown` [B, C] is how many slots hold a job."""

    own: wp.array3d[wp.float32]
    entities: wp.array4d[wp.float32]
    entity_mask: wp.array3d[wp.bool]
    action_mask: wp.array3d[wp.bool]
    active: wp.array2d[wp.bool]
    alive: wp.array2d[wp.bool]
    shown: wp.array2d[wp.int32]


@wp.func
def log_scale(x: wp.float64) -> wp.float32:
    return wp.float32(wp.log(wp.float64(1.0) + wp.max(x, wp.float64(0.0))) / wp.float64(16.0))


@wp.func
def share(x: wp.float64, whole: wp.float64) -> wp.float32:
    return wp.float32(x / wp.max(whole, wp.float64(1.0)))


@wp.func
def relative(prefix: wp.array1d[wp.float64], hours: int, begin: wp.float64, span: wp.float64) -> wp.float32:
    """Mean of a series over a span against its overall mean, minus one; zero for an all-zero series."""
    mean = prefix[hours] / wp.float64(hours)
    if mean == wp.float64(0.0):
        return wp.float32(0.0)
    here = (integral(prefix, hours, begin + span) - integral(prefix, hours, begin)) * HOUR / span
    return wp.float32(here / mean - wp.float64(1.0))


@wp.func
def see_job(m: Model, jobs: Jobs, s: State, v: View, b: int, c: int, slot: int, j: int, mean_log: wp.float32):
    now = s.now[b]
    need = jobs.processors[b, j]
    n = wp.float64(need)
    estimate = wp.max(jobs.estimate[b, j], wp.float64(1.0)) / m.speed[c]
    wait = now - jobs.submit[b, j]
    fits = need <= s.free[b, c]
    log_estimate = log_scale(estimate)
    v.entities[b, c, slot, 0] = log_scale(wait)
    v.entities[b, c, slot, 1] = log_estimate
    v.entities[b, c, slot, 2] = share(n, wp.float64(m.processors[c]))
    v.entities[b, c, slot, 3] = log_scale(n)
    v.entities[b, c, slot, 4] = log_scale(n * estimate)
    v.entities[b, c, slot, 5] = log_scale(wait / estimate)
    v.entities[b, c, slot, 6] = wp.where(fits, wp.float32(1.0), wp.float32(0.0))
    quadruple = wp.float64(4 * wp.max(s.free[b, c], 1))
    v.entities[b, c, slot, 7] = share(wp.min(n, quadruple), quadruple)
    until_fit = wp.float64(0.0)
    if not fits and need <= m.processors[c]:
        until_fit = earliest_fit(jobs, s, b, c, need) - now
    v.entities[b, c, slot, 8] = log_scale(until_fit)
    ends = s.stage[b, c] == 1 and now + jobs.estimate[b, j] / m.speed[c] <= s.shadow[b, c]
    v.entities[b, c, slot, 9] = wp.where(ends, wp.float32(1.0), wp.float32(0.0))
    v.entities[b, c, slot, 10] = log_estimate - mean_log
    taken = reserved_elsewhere(m, s, b, c, j)
    v.entities[b, c, slot, 11] = wp.where(taken, wp.float32(1.0), wp.float32(0.0))


@wp.func
def see_own(
    m: Model,
    jobs: Jobs,
    s: State,
    v: View,
    b: int,
    c: int,
    work: wp.float64,
    fit_share: wp.float32,
    mean_log: wp.float32,
):
    now = s.now[b]
    mine = wp.float64(m.processors[c])
    left = wp.float64(0.0)
    for k in range(s.running_count[b, c]):
        n = wp.float64(jobs.processors[b, s.running[b, c, k]])
        left += n * wp.max(s.running_until[b, c, k] - now, wp.float64(0.0))
    busy = wp.float64(m.all_processors)
    for other in range(m.processors.shape[0]):
        busy -= wp.float64(s.free[b, other])
    v.own[b, c, 0] = share(wp.float64(s.free[b, c]), mine)
    v.own[b, c, 1] = log_scale(wp.float64(s.queued[b]))
    v.own[b, c, 2] = log_scale(work / mine)
    v.own[b, c, 3] = wp.float32(s.stage[b, c])
    head = wp.float32(0.0)
    ahead = wp.float64(0.0)
    extra = wp.float32(0.0)
    if s.stage[b, c] == 1:
        head = share(wp.float64(jobs.processors[b, s.head[b, c]]), mine)
        ahead = s.shadow[b, c] - now
        extra = share(wp.float64(s.extra[b, c]), mine)
    v.own[b, c, 4] = head
    v.own[b, c, 5] = log_scale(ahead)
    v.own[b, c, 6] = extra
    v.own[b, c, 7] = fit_share
    v.own[b, c, 8] = mean_log
    v.own[b, c, 9] = log_scale(left / mine)
    v.own[b, c, 10] = wp.float32(m.speed[c])
    v.own[b, c, 11] = share(busy, wp.float64(m.all_processors))
    clock = now + wp.float64(jobs.start_hour[b]) * HOUR
    hour = wp.floor(clock / HOUR) * HOUR
    v.own[b, c, 12] = relative(m.carbon, m.carbon_hours, hour, HOUR)
    v.own[b, c, 13] = relative(m.carbon, m.carbon_hours, hour, wp.float64(6.0) * HOUR)
    v.own[b, c, 14] = relative(m.price, m.price_hours, hour, HOUR)
    v.own[b, c, 15] = relative(m.price, m.price_hours, hour, wp.float64(6.0) * HOUR)


@wp.func
def see(m: Model, jobs: Jobs, s: State, v: View, committing: int, b: int, c: int):
    """Writes everything that cluster c of world b sees."""
    n = wp.min(s.queued[b], VISIBLE)
    ended = s.terminated[b] == 1 or s.truncated[b] == 1
    active = s.undecided[b, c] == 1 and not ended
    work = wp.float64(0.0)
    mean_log = wp.float32(0.0)
    fitting = wp.float32(0.0)
    for k in range(n):
        j = job_in_slot(s, b, k)
        estimate = wp.max(jobs.estimate[b, j], wp.float64(1.0)) / m.speed[c]
        work += estimate * wp.float64(jobs.processors[b, j])
        mean_log += log_scale(estimate)
        if jobs.processors[b, j] <= s.free[b, c]:
            fitting += wp.float32(1.0)
    if n > 0:
        mean_log /= wp.float32(n)
        fitting /= wp.float32(n)
    see_own(m, jobs, s, v, b, c, work, fitting, mean_log)
    for k in range(n):
        j = job_in_slot(s, b, k)
        see_job(m, jobs, s, v, b, c, k, j, mean_log)
        v.entity_mask[b, c, k] = True
        v.action_mask[b, c, k] = active and (committing == 1 or legal(m, jobs, s, b, c, j))
    for k in range(n, v.shown[b, c]):
        for f in range(v.entities.shape[3]):
            v.entities[b, c, k, f] = wp.float32(0.0)
        v.entity_mask[b, c, k] = False
        v.action_mask[b, c, k] = False
    v.shown[b, c] = n
    may_hold = committing == 0 and (s.stage[b, c] == 1 or m.deferral == 1)
    v.action_mask[b, c, VISIBLE] = not active or may_hold
    v.active[b, c] = active
    v.alive[b, c] = not ended


@wp.kernel
def observe(m: Model, jobs: Jobs, s: State, v: View, committing: int):
    b, c = wp.tid()
    see(m, jobs, s, v, committing, b, c)
