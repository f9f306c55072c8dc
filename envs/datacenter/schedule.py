"""A finished schedule: the field's figures, and the reward parts integrated from its start times alone.

The kernels add the same integrals up event by event; nothing is shared, so that each is a check of the other.
"""

import math
from dataclasses import dataclass

import numpy as np

from fedsched.envs.datacenter.model import FloatArray, IntArray, Jobs, SiteModel

HOUR_S = 3600.0
SHORTEST_RUN_S = 10.0
PARTS = ("utilization", "qos", "wait", "energy_efficiency", "carbon", "cost")


@dataclass(frozen=True)
class Schedule:
    """When and where every job ran.

    Attributes:
        jobs: The J jobs.
        start_s: [J], NaN where a job never started.
        end_s: [J], NaN where a job never started; may lie beyond `clock_s`.
        cluster: [J], -1 where a job never started.
        decisions: How often the chooser was asked.
        clock_s: Time that the episode reached.
    """

    jobs: Jobs
    start_s: FloatArray
    end_s: FloatArray
    cluster: IntArray
    decisions: int
    clock_s: float

    def wait_s(self) -> FloatArray:
        """Waiting times, [J]."""
        return self.start_s - self.jobs.submit_s

    def bounded_slowdown(self) -> FloatArray:
        """max(1, (wait + run) / max(run, 10 s)), [J] (Feitelson and Rudolph, 1998)."""
        run = self.end_s - self.start_s
        return np.maximum(1.0, (self.wait_s() + run) / np.maximum(run, SHORTEST_RUN_S))

    def utilization(self, processors: int) -> float:
        """Work over the capacity between the first submission and the last end."""
        return self._work() / (float(np.nanmax(self.end_s) - self.jobs.submit_s[0]) * processors)

    def utilization_published(self, processors: int) -> float:
        """Work over the capacity between the first submission and the last start, as in the RLScheduler tables."""
        return self._work() / (float(np.nanmax(self.start_s) - self.jobs.submit_s[0]) * processors)

    def _work(self) -> float:
        return float(np.nansum((self.end_s - self.start_s) * self.jobs.processors))


def reward_parts(schedule: Schedule, site: SiteModel, start_hour: int = 0) -> FloatArray:
    """The reward parts of a whole episode, [C, 6] in the order of PARTS, as docs/datacenter.md defines them.

    Args:
        schedule: Of this site, up to its `clock_s`.
        site: Power of the clusters and the hourly series.
        start_hour: Hour of the series at time 0.
    """
    jobs, clock = schedule.jobs, schedule.clock_s
    start = np.where(np.isnan(schedule.start_s), clock, schedule.start_s)
    end = np.minimum(np.where(np.isnan(schedule.end_s), clock, schedule.end_s), clock)
    wait = np.maximum(start - jobs.submit_s, 0.0)
    grown = np.maximum(wait - np.maximum(SHORTEST_RUN_S - jobs.run_s, 0.0), 0.0)
    growth = float((grown / np.maximum(jobs.run_s, SHORTEST_RUN_S)).sum())
    whole = sum(cluster.processors for cluster in site.clusters)
    parts = np.empty((len(site.clusters), len(PARTS)))
    for c, cluster in enumerate(site.clusters):
        mine = np.flatnonzero(schedule.cluster == c)
        intervals = [(0.0, clock, cluster.processors * cluster.idle_w)]
        intervals += [(start[j], end[j], jobs.processors[j] * (cluster.busy_w - cluster.idle_w)) for j in mine]
        busy = float((jobs.processors[mine] * (end[mine] - start[mine])).sum())
        series = (np.ones(1), site.carbon_g_per_kwh / 1000.0, site.price_per_kwh)
        power = [
            sum(watts * _integral(hourly, start_hour, a, b) for a, b, watts in intervals) * cluster.pue / 1000.0
            for hourly in series
        ]
        parts[c] = (busy / (whole * HOUR_S), -growth, -wait.sum() / HOUR_S, *(-value for value in power))
    return parts


def _integral(hourly: FloatArray, start_hour: int, a_s: float, b_s: float) -> float:
    """Integral over [a, b] of a cyclic hourly series, in unit-hours."""
    hours = np.arange(math.floor(a_s / HOUR_S), math.ceil(b_s / HOUR_S))
    overlap = np.minimum(b_s, (hours + 1) * HOUR_S) - np.maximum(a_s, hours * HOUR_S)
    return float((hourly[(start_hour + hours) % len(hourly)] * overlap).sum() / HOUR_S)
