"""Generated workloads: the model of Lublin and Feitelson, keyed by instance; and the data volume of any job."""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedsched.envs.core import stream
from fedsched.envs.datacenter.model import DatacenterError, FloatArray, IntArray, Jobs, Window
from fedsched.envs.datacenter.splits import HOURS_PER_YEAR, Split, common_hour, locate, number

DAY_S = 86400
_BUCKETS = 48
_FIRST_BUCKET = 11
_FINE = 64
_DRAWS = 64
_TRIED = 16

UIntArray = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class LublinFeitelson:
    """Rigid jobs by the model of Lublin and Feitelson, all job types together, with the authors' parameters.

    Size: 1 with probability `serial`; else 2^u, where u is uniform between `low` and `medium` = log2(processors) - 2.5
    with probability `lower`, and between `medium` and log2(processors) otherwise; u is rounded for the share
    `power_of_two` of all jobs. Run time: exp(x) seconds, x <= 12, x from Gamma(`short`) with probability
    `slope` * size + `level`, else from Gamma(`long`); so wide jobs are longer. Arrivals: exp(y) seconds of weighted
    time apart, y <= 13, y from Gamma(`gap`); a half hour weighs as much as Gamma(`cycle`) has mass there, relative to
    the mean of the day.

    Attributes:
        processors: Of the machine; no job is wider.
        overestimate: f of the f-model: an estimate is uniform between run time and (f + 1) run times; 0 is exact.

    Source: U. Lublin, D. Feitelson, The workload on parallel supercomputers: modeling the characteristics of rigid
    jobs, JPDC 63(11), 2003, and the parameters of their program m_lublin99 (`gap` includes its factor ARAR = 1.0225);
    f-model: A. Mu'alem, D. Feitelson, IEEE TPDS 12(6), 2001.
    """

    processors: int = 256
    overestimate: float = 0.0
    serial: float = 0.244
    power_of_two: float = 0.576
    low: float = 0.8
    lower: float = 0.86
    short: tuple[float, float] = (4.2, 0.94)
    long: tuple[float, float] = (312.0, 0.03)
    slope: float = -0.0054
    level: float = 0.78
    gap: tuple[float, float] = (10.2303 * 1.0225, 0.4871)
    cycle: tuple[float, float] = (8.1737, 3.9631)

    def __post_init__(self) -> None:
        """Refuses machines on which the two stages of the size would not be in order."""
        if self.processors < 12:
            raise DatacenterError(f"the model needs a machine of at least 12 processors, got {self.processors}")
        if self.overestimate < 0:
            raise DatacenterError(f"overestimate must be 0 (exact) or more, got {self.overestimate}")

    @property
    def medium(self) -> float:
        """Where the two stages of the size meet, log2 of processors."""
        return float(np.log2(self.processors)) - 2.5

    def sizes(self, rng: np.random.Generator, count: int) -> IntArray:
        """Processors of so many jobs, [count]."""
        kind = rng.random(count)
        first = rng.random(count) < self.lower
        u = np.where(
            first,
            rng.uniform(self.low, self.medium, count),
            rng.uniform(self.medium, np.log2(self.processors), count),
        )
        return self._size(u, kind < self.serial, kind < self.serial + self.power_of_two)

    def _size(self, u: FloatArray, serial: npt.NDArray[np.bool_], rounded: npt.NDArray[np.bool_]) -> IntArray:
        exponent = np.where(rounded, np.floor(u + 0.5), u)
        size = np.minimum(np.floor(2**exponent + 0.5), self.processors)
        return np.where(serial, 1, size).astype(np.int64)

    def run_times(self, rng: np.random.Generator, sizes: IntArray) -> FloatArray:
        """Run times of jobs of these sizes, whole seconds from 1 to exp(12)."""
        chance = np.clip(self.slope * sizes + self.level, 0.0, 1.0)
        x = np.full(len(sizes), np.inf)
        while (again := np.flatnonzero(x > 12)).size:
            short = rng.random(again.size) < chance[again]
            x[again] = np.where(short, rng.gamma(*self.short, again.size), rng.gamma(*self.long, again.size))
        return np.asarray(np.floor(np.exp(x)))

    def gaps(self, rng: np.random.Generator, count: int) -> FloatArray:
        """Seconds of weighted time between arrivals, [count]."""
        y = np.full(count, np.inf)
        while (again := np.flatnonzero(y > 13)).size:
            y[again] = rng.gamma(*self.gap, again.size)
        return np.asarray(np.exp(y))

    @functools.cached_property
    def weighted(self) -> FloatArray:
        """Weighted seconds since midnight at every half hour of the day, [49]; the day has 86,400 of them."""
        place = _FIRST_BUCKET - 0.5 + (np.arange(_BUCKETS * _FINE) + 0.5) / _FINE
        mass = _density(place, self.cycle).reshape(_BUCKETS, _FINE).sum(1)
        weight = np.roll(mass, _FIRST_BUCKET - 1)
        return np.concatenate(([0.0], np.cumsum(weight / weight.sum() * DAY_S)))

    def clock(self, weighted_s: FloatArray) -> FloatArray:
        """Time since midnight of the first day, seconds, at which so much weighted time has passed."""
        day, rest = np.divmod(weighted_s, DAY_S)
        return np.asarray(day * DAY_S + np.interp(rest, self.weighted, np.linspace(0, DAY_S, _BUCKETS + 1)))

    def mean_load(self) -> float:
        """Expected offered load of the machine: mean of run time * size, over processors * mean gap."""
        place = (np.arange(4096) + 0.5) / 4096
        stages = ((self.lower, self.low, self.medium), (1 - self.lower, self.medium, np.log2(self.processors)))
        work = self.serial * self._mean_work(np.ones(1, dtype=np.int64))
        other = 1 - self.serial - self.power_of_two
        for share, a, b in stages:
            for part, rounded in ((self.power_of_two, True), (other, False)):
                flags = np.zeros(4096, dtype=bool), np.full(4096, rounded)
                work += share * part * self._mean_work(self._size(a + (b - a) * place, *flags))
        total, mass = _exp_moment(self.gap, 13)
        return work / (self.processors * total / mass)

    def _mean_work(self, sizes: IntArray) -> float:
        chance = np.clip(self.slope * sizes + self.level, 0.0, 1.0)
        (short, short_mass), (long, long_mass) = _exp_moment(self.short, 12), _exp_moment(self.long, 12)
        run = (chance * short + (1 - chance) * long) / (chance * short_mass + (1 - chance) * long_mass)
        return float((sizes * run).mean())

    def jobs(self, rng: np.random.Generator, submit_s: FloatArray) -> Jobs:
        """Jobs that are submitted at these times, numbered from 1."""
        count = len(submit_s)
        sizes = self.sizes(rng, count)
        run = self.run_times(rng, sizes)
        estimate = np.ceil(run * rng.uniform(1.0, 1.0 + self.overestimate, count)) if self.overestimate else run.copy()
        return Jobs(submit_s, run, estimate, sizes, np.arange(1, count + 1), np.full(count, -1, dtype=np.int64))


def _density(x: npt.NDArray[np.floating], gamma: tuple[float, float]) -> FloatArray:
    """The density of Gamma(shape, scale) up to a constant factor."""
    shape, scale = gamma
    logarithm = (shape - 1) * np.log(x) - x / scale
    return np.asarray(np.exp(logarithm - ((shape - 1) * np.log((shape - 1) * scale) - (shape - 1))))


def _exp_moment(gamma: tuple[float, float], limit: float) -> tuple[float, float]:
    """Mean of exp(x) for x below the limit, and the mass there, of a Gamma(shape, scale)."""
    x = (np.arange(200_000) + 0.5) * (2 * limit / 200_000)
    density = _density(x, gamma)
    below = x < limit
    total = density.sum()
    return float((density * np.exp(x))[below].sum() / total), float(density[below].sum() / total)


def _stretch(model: LublinFeitelson, processors: int | None, load: float | None) -> float:
    """The factor on all gaps that brings a site of so many processors to a load; 1 where none is wanted."""
    if load is None:
        return 1.0
    if load <= 0:
        raise DatacenterError(f"the load must be above 0, got {load}")
    return model.mean_load() * model.processors / (processors or model.processors) / load


class GeneratedWindows:
    """Windows of a fixed number of generated jobs; the first is submitted at time 0, at a random hour of the year.

    Args:
        model: The generator.
        jobs: Jobs per window.
        processors: Processors of the site, to which `load` refers; default the model's.
        load: Wanted mean load, reached by one factor on all gaps, see `GeneratedPeriods`; None leaves the model as it
            is.
        seed: Two workloads with the same seed have the same windows.
    """

    def __init__(
        self,
        model: LublinFeitelson,
        jobs: int = 1024,
        *,
        processors: int | None = None,
        load: float | None = None,
        seed: int = 0,
    ) -> None:
        if jobs < 1:
            raise DatacenterError(f"a window of {jobs} jobs is empty; ask for at least 1 job")
        self.stretch = _stretch(model, processors, load)
        self.name = "lublin-feitelson"
        self.processors = model.processors
        self._model, self._jobs, self._seed = model, jobs, seed

    def instance(self, split: Split, k: int) -> int:
        """The number of the k-th window."""
        return number(split, k)

    def window(self, instance: int) -> Window:
        """The jobs of a window. Their data volumes are keyed by the instance too."""
        locate(instance)
        rng = stream(self._seed, "datacenter/generated", instance)
        hour = int(rng.integers(HOURS_PER_YEAR))
        start = self._model.weighted[hour % 24 * 2]
        time = np.floor(self._model.clock(start + np.cumsum(self.stretch * self._model.gaps(rng, self._jobs))))
        jobs = self._model.jobs(rng, time - time[0])
        return Window(jobs, hour, f"{self.name}/{self._seed}/{instance}")

    def check(self, split: Split) -> None:
        """A window has as many jobs as it shall have."""


class GeneratedPeriods:
    """Periods of equal duration of generated jobs; with equal `clock`, period k starts at the same hour at every site.

    Arrivals begin five days before the period, the longest possible gap, so that its start is an ordinary moment; only
    the jobs of the period count. An empty period is drawn again, up to 64 times; so short periods hold more than `load`
    on average (at 6 h 27 % of the draws are empty).

    Args:
        model: The generator; its `processors` should be those of the site's widest cluster.
        duration_s: Length of a period, seconds.
        processors: Processors of the site, to which `load` refers; default the model's.
        load: Wanted expectation of (sum of run time * processors)/(processors of the site * time), reached by one
            factor on all gaps; the daily cycle keeps its hours. None leaves the model as it is.
        seed: Of the jobs; differs from site to site.
        clock: Seed of the start hours, the same at every site.
    """

    def __init__(
        self,
        model: LublinFeitelson,
        duration_s: float,
        *,
        processors: int | None = None,
        load: float | None = None,
        seed: int = 0,
        clock: int = 0,
    ) -> None:
        if duration_s <= 0:
            raise DatacenterError(f"the duration must be above 0, got {duration_s} s")
        self.name = "lublin-feitelson"
        self.processors = model.processors
        self._model, self._duration, self._seed, self._clock = model, float(duration_s), seed, clock
        self.stretch = _stretch(model, processors, load)

    def instance(self, split: Split, k: int) -> int:
        """The number of the k-th period."""
        return number(split, k)

    def window(self, instance: int) -> Window:
        """The jobs of a period, and the hour of the year at which it starts."""
        locate(instance)
        hour = common_hour(self._clock, instance)
        for draw in range(_DRAWS):
            rng = stream(self._seed, "datacenter/generated-period", instance, draw)
            submit = self._arrivals(rng, hour % 24)
            if len(submit):
                jobs = self._model.jobs(rng, submit)
                name = f"{self.name}/{self._seed}/{instance}"
                return Window(jobs, hour, name, end_s=self._duration)
        raise DatacenterError(
            f"{self.name}, instance {instance}: empty window, {_DRAWS} draws of {self._duration / 3600:.1f} h "
            "held no job; use longer periods or a higher load"
        )

    def check(self, split: Split) -> None:
        """Raises DatacenterError if periods that start at some hour of the day are nearly always empty.

        Far fewer draws are tried here than for a period, so that one which passes is as good as never empty.
        """
        for hour in range(24):
            rngs = (stream(self._seed, "datacenter/generated-check", hour, k) for k in range(_TRIED))
            if not any(len(self._arrivals(rng, hour)) for rng in rngs):
                raise DatacenterError(
                    f"{self.name}, {split} period at {hour}:00: empty window, {_TRIED} draws of "
                    f"{self._duration / 3600:.1f} h held no job; use longer periods or a higher load"
                )

    def _arrivals(self, rng: np.random.Generator, hour: int) -> FloatArray:
        begin = self._model.weighted[hour * 2]
        warm = 5 * DAY_S * self.stretch
        parts = [np.array([begin - warm])]
        end = begin + self._duration + 2 * DAY_S
        while parts[-1][-1] < end:
            parts.append(parts[-1][-1] + np.cumsum(self.stretch * self._model.gaps(rng, 512)))
        time = np.floor(self._model.clock(np.concatenate(parts)[1:])) - hour * 3600
        return time[(time >= 0) & (time < self._duration)]


def data_mb(log: str, job_id: IntArray, median_mb: float, sigma: float, seed: int = 0) -> FloatArray:
    """Data volume of jobs, megabytes, log-normal; a job's volume depends on (seed, log, id) alone, not on its window.

    Args:
        log: Short name of the log, as in `Window.log`.
        job_id: Numbers of the jobs, [J].
        median_mb: Median.
        sigma: Standard deviation of the logarithm.
        seed: Of the world.

    Source: counter-based hash SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), then Box-Muller.
    """
    digest = hashlib.blake2b(f"{seed}/{log}".encode(), digest_size=8, person=b"fedsched-data").digest()
    key = np.uint64(int.from_bytes(digest, "little"))
    counter = np.asarray(job_id).astype(np.uint64) * np.uint64(2)
    u, v = ((_mixed(counter + np.uint64(half), key) >> np.uint64(11)).astype(np.float64) * 2.0**-53 for half in (0, 1))
    normal = np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)
    return np.asarray(median_mb * np.exp(sigma * normal))


def _mixed(counter: UIntArray, key: np.uint64) -> UIntArray:
    z = key + (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
