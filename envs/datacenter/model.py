"""The static problem of one data centre: jobs, clusters, and hourly series of carbon and price."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedsched.envs.core import WorldError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

VISIBLE_JOBS = 128
"""Job slots an agent sees; of a longer queue the first 64 and the last 64 in order of arrival."""


class DatacenterError(WorldError):
    """A log, a workload or a site that cannot be used; the message says where and what to do."""


@dataclass(frozen=True)
class Jobs:
    """Rigid parallel jobs as columns of equal length J, in order of submission.

    Attributes:
        submit_s: Seconds, not falling.
        run_s: True run time at speed 1, seconds, above zero.
        estimate_s: Requested time at speed 1, seconds; all that a scheduler may see of the run time.
        processors: Processors needed at once.
        id: Number of the job in its log.
        user: Number of its user, -1 where unknown.
    """

    submit_s: FloatArray
    run_s: FloatArray
    estimate_s: FloatArray
    processors: IntArray
    id: IntArray
    user: IntArray

    def __len__(self) -> int:
        """Number of jobs."""
        return len(self.submit_s)

    def take(self, index: slice | IntArray) -> "Jobs":
        """The jobs at these places."""
        return Jobs(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Cluster:
    """Equal processors that share one power feed; one agent.

    Attributes:
        processors: Number of processors.
        speed: Work per second relative to the log's machine; run time and estimate are divided by it.
        idle_w: Power of an idle processor, watts.
        busy_w: Power of a busy processor, watts.
        pue: Power usage effectiveness: facility power over IT power.
    """

    processors: int
    speed: float = 1.0
    idle_w: float = 20.0
    busy_w: float = 170.0
    pue: float = 1.3


def _flat(value: float) -> FloatArray:
    return np.full(1, value)


@dataclass(frozen=True)
class SiteModel:
    """One queue before C clusters, and what power costs there.

    Attributes:
        clusters: The agents, in order.
        carbon_g_per_kwh: Hourly carbon intensity, [H], repeated cyclically.
        price_per_kwh: Hourly price in the scenario's currency, [H], repeated cyclically.
        deferral: Whether an agent may hold although a job could be chosen (waits for price or carbon).
        data_median_mb: Median of the log-normal data volume of a job, megabytes.
        data_sigma: Sigma of its logarithm.
    """

    clusters: tuple[Cluster, ...]
    carbon_g_per_kwh: FloatArray = field(default_factory=lambda: _flat(0.0))
    price_per_kwh: FloatArray = field(default_factory=lambda: _flat(0.0))
    deferral: bool = False
    data_median_mb: float = 0.0
    data_sigma: float = 0.0

    def __post_init__(self) -> None:
        """Checks what no schedule could mend."""
        if not self.clusters:
            raise DatacenterError("a site needs at least one cluster")
        for k, cluster in enumerate(self.clusters):
            if cluster.processors < 1 or cluster.speed <= 0 or cluster.pue < 1:
                raise DatacenterError(f"cluster {k}: processors >= 1, speed > 0 and pue >= 1 are needed, got {cluster}")

    @property
    def widest(self) -> int:
        """Processors of the largest cluster: no wider job can ever run here."""
        return max(cluster.processors for cluster in self.clusters)


@dataclass(frozen=True)
class Window:
    """One instance: the jobs of an episode and where its clock stands.

    Attributes:
        jobs: Submission times count from the start of the episode.
        start_hour: Hour of the hourly series at time 0.
        log: Short name of the log, part of the key of a job's data volume.
        origin_s: Submission time in the log of the episode's time 0; the rules F1 to F4 read absolute times.
        end_s: End of the period in which jobs arrive, seconds.
        dropped: Jobs left out because no cluster of the site is wide enough.
    """

    jobs: Jobs
    start_hour: int = 0
    log: str = ""
    origin_s: float = 0.0
    end_s: float = float("inf")
    dropped: int = 0
