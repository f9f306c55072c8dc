"""What a site can foresee of itself: when its waiting jobs will start, and what stays free after them.

Conservative backfilling over expected run times: every waiting job, in queue order, gets the earliest place in the
profile of free processors that delays none before it (Mu'alem and Feitelson, 2001). Users ask for more time than their
jobs take, so an expected run time is the estimate times the share of the estimates that the site's ended jobs used
(system-generated predictions: Tsafrir, Etsion, Feitelson, 2007).
"""

from dataclasses import dataclass

import numpy as np

from fedsched.envs.datacenter.model import FloatArray, IntArray


class Profile:
    """Free processors of one cluster from now on: a step function of time.

    Args:
        processors: Of the cluster.
        speed: Of the cluster.
        left_s: Expected time that each running job still takes here, [R].
        widths: Processors of each running job, [R].
    """

    def __init__(self, processors: int, speed: float, left_s: FloatArray, widths: IntArray) -> None:
        self.processors, self.speed = processors, speed
        ends = np.concatenate(([0.0], np.maximum(left_s, 0.0)))
        freed = np.concatenate(([processors - int(widths.sum())], widths))
        self.times_s, place = np.unique(ends, return_inverse=True)
        self.free = np.cumsum(np.bincount(place, weights=freed)).astype(np.int64)

    def earliest(self, width: int, span_s: float) -> float:
        """Seconds from now until `width` processors are free for `span_s` in a row; inf where they never are."""
        enough = self.free >= width
        shortage = np.where(enough, np.inf, self.times_s)
        until = np.minimum.accumulate(shortage[::-1])[::-1]
        found = enough & (until - self.times_s >= span_s)
        return float(self.times_s[found.argmax()]) if found.any() else float("inf")

    def place(self, begin_s: float, width: int, span_s: float) -> None:
        """Takes processors out of the profile."""
        for moment in (begin_s, begin_s + span_s):
            k = int(np.searchsorted(self.times_s, moment))
            if k == len(self.times_s) or self.times_s[k] != moment:
                self.times_s = np.insert(self.times_s, k, moment)
                self.free = np.insert(self.free, k, self.free[k - 1])
        first, last = np.searchsorted(self.times_s, (begin_s, begin_s + span_s))
        self.free[first:last] -= width

    def least(self, span_s: float) -> int:
        """Processors that stay free all the time from now to `span_s`."""
        return int(self.free[self.times_s < max(span_s, 1e-9)].min())

    def idle_s(self, span_s: float) -> float:
        """Idle processor-seconds from now to `span_s`."""
        edges = np.append(np.minimum(self.times_s, span_s), span_s)
        return float(self.free @ np.diff(edges))


@dataclass(frozen=True)
class Outlook:
    """The expected future of one site, if nothing more arrives.

    Attributes:
        wait_s: Expected time until each waiting job starts, [Q] in queue order.
        profiles: What stays free after them, by cluster.
    """

    wait_s: FloatArray
    profiles: list[Profile]


def foresee(profiles: list[Profile], run_s: FloatArray, widths: IntArray) -> Outlook:
    """Places waiting jobs one after the other where they end earliest.

    Args:
        profiles: Of the running jobs alone, by cluster; written into.
        run_s: Expected run times at speed 1, [Q] in queue order.
        widths: Processors, [Q]; a cluster is wide enough for each.
    """
    waits = np.zeros(len(run_s))
    for k, (run, width) in enumerate(zip(run_s, widths, strict=True)):
        begins = [p.earliest(int(width), run / p.speed) for p in profiles]
        best = int(np.argmin([begin + run / p.speed for begin, p in zip(begins, profiles, strict=True)]))
        profiles[best].place(begins[best], int(width), run / profiles[best].speed)
        waits[k] = begins[best]
    return Outlook(waits, profiles)
