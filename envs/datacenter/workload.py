"""What turns a log into instances: windows of a number of jobs, and periods of equal duration."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np

from fedsched.envs.core import stream
from fedsched.envs.datacenter.model import DatacenterError, FloatArray, IntArray, Jobs, Window
from fedsched.envs.datacenter.splits import (
    HOURS_PER_YEAR,
    SPLITS,
    Segment,
    Split,
    Splits,
    TooWide,
    chronological,
    common_hour,
    fit,
    locate,
    number,
)
from fedsched.envs.datacenter.trace import Trace

_BLOCK = (128, 600)
_GAP_SIGMA = 0.15


class Workload(Protocol):
    """Numbered instances of one site; a window depends on its number and the workload's seed alone."""

    name: str
    processors: int

    def instance(self, split: Split, k: int) -> int:
        """The number of the k-th instance of a split."""
        ...

    def window(self, instance: int) -> Window:
        """The jobs of an instance. Raises DatacenterError if there is none of this number."""
        ...

    def check(self, split: Split) -> None:
        """Raises DatacenterError if some instance of the split would be empty; the message says which."""
        ...


def _hour_zero(trace: Trace) -> int:
    """Seconds from 1970 to the log's time 0, or 0 where the header does not say: the log's own midnight."""
    text = trace.header.get("UnixStartTime", "0")
    return int(text) if text.isdigit() else 0


class LogWindows:
    """Windows of a fixed number of jobs, as in the published protocols.

    A test window is contiguous and starts at its first submission. Training and validation windows are contiguous too,
    with a uniform start in their segments; or, if the splits say `resample`, they are put together from blocks of 128
    to 600 neighbouring jobs with every gap times exp(N(0, 0.15)). A job may then occur twice.
    Estimates are those of the log, -1 included (31 jobs of sdsc-sp2), as the published figures need them.

    Args:
        trace: The log.
        jobs: Jobs per window.
        splits: Default: those of SPLITS, else `chronological`.
        starts: First jobs of the test windows instead of those of the splits, for example the 256-job lists.
        widest: Processors of the site's widest cluster; default the log's machine.
        too_wide: See `fit`.
        stretch: Bounds of a factor on all gaps of a training or validation window, drawn log-uniformly for each, so
            that learners meet loads which these parts of the log do not have.
        load: Wanted mean load of the split, reached by one factor on all its gaps, see `LogPeriods`; None leaves the
            log as it is.
        processors: Processors of the site, to which `load` refers; default the log's machine.
        seed: Of the training and validation windows.
    """

    def __init__(
        self,
        trace: Trace,
        jobs: int = 1024,
        *,
        splits: Splits | None = None,
        starts: tuple[int, ...] | None = None,
        widest: int | None = None,
        too_wide: TooWide = "error",
        stretch: tuple[float, float] = (1.0, 1.0),
        load: float | None = None,
        processors: int | None = None,
        seed: int = 0,
    ) -> None:
        if jobs < 1:
            raise DatacenterError(f"{trace.name}: a window of {jobs} jobs is empty; ask for at least 1 job")
        if not 0.0 < stretch[0] <= stretch[1]:
            raise DatacenterError(f"{trace.name}: stretch needs ascending factors above 0, got {stretch}")
        self.name = trace.name
        self.processors = trace.processors
        self.splits = splits or SPLITS.get(trace.name) or chronological(len(trace.jobs), jobs)
        self.starts = starts or self.splits.starts
        self._trace, self._jobs, self._seed = trace, jobs, seed
        self._widest, self._too_wide = widest or trace.processors, too_wide
        self._stretch = stretch
        demand = LogPeriods(
            trace,
            1.0,
            processors=processors,
            load=load,
            splits=self.splits,
            widest=self._widest,
            too_wide=self._too_wide,
        )
        self._to_load = demand.stretch
        last = len(trace.jobs) - jobs
        for start in self.starts:
            if not 0 <= start <= last:
                raise DatacenterError(
                    f"{trace.name}: no window of {jobs} jobs starts at job {start}, the log has {len(trace.jobs)}; "
                    f"use a longer log, or at most {max(0, len(trace.jobs) - start)} jobs per window"
                )

    def instance(self, split: Split, k: int) -> int:
        """The number of the k-th window; the test split has as many as there are starts."""
        if split == "test" and not 0 <= k < len(self.starts):
            raise DatacenterError(
                f"{self.name}: the test split has windows 0 to {len(self.starts) - 1}, not {k}; play fewer "
                "(evaluation.windows), or use fewer jobs per window or a longer log"
            )
        return number(split, k)

    def indices(self, instance: int) -> IntArray:
        """Places in the log of the jobs of a window, before any is dropped, [jobs]."""
        split, k = locate(instance)
        self.instance(split, k)
        if split == "test":
            return self.starts[k] + np.arange(self._jobs)
        rng = stream(self._seed, "datacenter/window", instance)
        segments = self._segments(split)
        return self._blocks(rng, segments) if self.splits.resample else self._contiguous(rng, segments, split)

    def window(self, instance: int) -> Window:
        """The jobs of a window, from its first submission; the start hour is the log's hour of the year (UTC)."""
        index = self.indices(instance)
        jobs = self._trace.jobs.take(index)
        first = jobs.submit_s[0]
        jobs = replace(jobs, submit_s=self._submit(instance, index))
        where = f"{self.name}, instance {instance}"
        fitted, dropped = fit(jobs, self._widest, self._too_wide, where)
        if not len(fitted):
            raise DatacenterError(f"{where}: empty window, every job is too wide; give a wider cluster")
        hour = int(_hour_zero(self._trace) + first) // 3600 % HOURS_PER_YEAR
        return Window(fitted, hour, self.name, origin_s=float(first), dropped=len(dropped))

    def check(self, split: Split) -> None:
        """Raises DatacenterError if all jobs of some window of the split are too wide.

        Windows of several blocks are not looked at: all of them would have to be.
        """
        if self._too_wide != "drop" or (self.splits.resample and self._jobs > _BLOCK[0]):
            return
        before = np.concatenate(([0], np.cumsum(self._trace.jobs.processors > self._widest)))
        segments = [(k, k + self._jobs) for k in self.starts] if split == "test" else self._segments(split)
        for a, b in segments:
            last = max(a, b - self._jobs + 1)
            empty = np.flatnonzero(before[a + self._jobs : b + 1] - before[a:last] == self._jobs)
            if len(empty):
                raise DatacenterError(
                    f"{self.name}, {split} window at job {a + int(empty[0])}: empty window, every job is too wide; "
                    "give a wider cluster, or use more jobs per window"
                )

    def _submit(self, instance: int, index: IntArray) -> FloatArray:
        submit = self._trace.jobs.submit_s
        split, _ = locate(instance)
        test = split == "test"
        factor = self._to_load(split)
        if not test and self._stretch != (1.0, 1.0):
            low, high = np.log(self._stretch)
            factor *= float(np.exp(stream(self._seed, "datacenter/stretch", instance).uniform(low, high)))
        if test or not self.splits.resample:
            return np.asarray((submit[index] - submit[index[0]]) * factor)
        gap = submit[index] - submit[np.maximum(index - 1, 0)]
        gap *= np.exp(stream(self._seed, "datacenter/gap", instance).normal(0.0, _GAP_SIGMA, len(gap)))
        return np.asarray((np.cumsum(gap) - gap[0]) * factor)

    def _segments(self, split: Split) -> tuple[Segment, ...]:
        segments = self.splits.train if split == "train" else self.splits.validation
        for a, b in segments:
            for start in self.starts:
                if start < b and a < start + self._jobs:
                    raise DatacenterError(
                        f"{self.name}: the test window at job {start} shares jobs with {split} segment {a} to {b - 1}; "
                        "use these starts for evaluation only, or give splits that keep clear of them"
                    )
        return segments

    def _contiguous(self, rng: np.random.Generator, segments: tuple[Segment, ...], split: Split) -> IntArray:
        places = np.array([max(0, b - a - self._jobs + 1) for a, b in segments])
        if not places.sum():
            raise DatacenterError(
                f"{self.name}: no {split} segment holds {self._jobs} jobs; use fewer jobs per window or longer segments"
            )
        chosen = rng.choice(len(segments), p=places / places.sum())
        return segments[chosen][0] + int(rng.integers(places[chosen])) + np.arange(self._jobs)

    def _blocks(self, rng: np.random.Generator, segments: tuple[Segment, ...]) -> IntArray:
        size = np.array([b - a for a, b in segments])
        parts: list[IntArray] = []
        missing = self._jobs
        while missing:
            chosen = rng.choice(len(segments), p=size / size.sum())
            length = int(min(rng.integers(_BLOCK[0], _BLOCK[1] + 1), size[chosen]))
            start = segments[chosen][0] + int(rng.integers(size[chosen] - length + 1))
            parts.append(start + np.arange(min(length, missing)))
            missing -= len(parts[-1])
        return np.concatenate(parts)


@dataclass(frozen=True)
class _Piece:
    """The usable jobs of one segment, its bounds in log time, and the submissions of what was dropped."""

    jobs: Jobs
    begin_s: float
    end_s: float
    dropped_s: FloatArray

    def between(self, begin: float, end: float) -> Jobs:
        return self.jobs.take(np.arange(*np.searchsorted(self.jobs.submit_s, (begin, end))))

    def not_empty(self, begins: FloatArray, length: float) -> FloatArray:
        submit = self.jobs.submit_s
        return begins[np.searchsorted(submit, begins) < np.searchsorted(submit, begins + length)]


class LogPeriods:
    """Periods of equal duration, for operating: at every site with the same `clock`, period k starts at the same hour.

    The jobs are those of a stretch of the log that begins at the same hour of the day (UTC) as the period, drawn
    uniformly among the non-empty ones; so an empty period is drawn again, and short periods hold more than `load` on
    average. To reach a load, all gaps of a split are multiplied by one factor. Estimates below 1 s count as 1 s.

    Args:
        trace: The log.
        duration_s: Length of a period, seconds.
        processors: Processors of the site, to which `load` refers; default the log's machine.
        load: Wanted mean over the split of (sum of run time * processors)/(processors of the site * time); None leaves
            the log as it is.
        splits: Default: those of SPLITS, else `chronological`.
        widest: Processors of the site's widest cluster; default the log's machine.
        too_wide: See `fit`; dropped jobs do not count as load.
        seed: Of the stretches; sites with the same log need different seeds to have different jobs.
        clock: Seed of the start hours, the same at every site.
    """

    def __init__(
        self,
        trace: Trace,
        duration_s: float,
        *,
        processors: int | None = None,
        load: float | None = None,
        splits: Splits | None = None,
        widest: int | None = None,
        too_wide: TooWide = "error",
        seed: int = 0,
        clock: int = 0,
    ) -> None:
        if duration_s <= 0 or (load is not None and load <= 0):
            raise DatacenterError(f"{trace.name}: duration and load must be above 0, got {duration_s} s and {load}")
        self.name = trace.name
        self.processors = trace.processors
        self.splits = splits or SPLITS.get(trace.name) or chronological(len(trace.jobs), 1)
        self._trace, self._duration, self._load = trace, float(duration_s), load
        self._site = processors or trace.processors
        self._widest, self._too_wide = widest or trace.processors, too_wide
        self._seed, self._clock = seed, clock
        self._pieces = cache(self._cut)

    def instance(self, split: Split, k: int) -> int:
        """The number of the k-th period."""
        return number(split, k)

    def offered(self, split: Split) -> float:
        """Mean load that the split of the log offers to the site before any stretching."""
        pieces = self._pieces(split)
        work = sum(float(piece.jobs.run_s @ piece.jobs.processors) for piece in pieces)
        return work / (self._site * sum(piece.end_s - piece.begin_s for piece in pieces))

    def stretch(self, split: Split) -> float:
        """The factor on all gaps of the split that brings its load to the wanted one."""
        return 1.0 if self._load is None else self.offered(split) / self._load

    def window(self, instance: int) -> Window:
        """The jobs of a period, and the hour of the year at which it starts. Work at its end is not cut off."""
        split, _ = locate(instance)
        hour = common_hour(self._clock, instance)
        factor = self.stretch(split)
        length = self._duration / factor
        starts = self._stretches(split, hour, length, f"{split} period")
        piece, begin = starts[stream(self._seed, "datacenter/period", instance).integers(len(starts))]
        jobs = piece.between(begin, begin + length)
        jobs = replace(jobs, submit_s=(jobs.submit_s - begin) * factor, estimate_s=np.maximum(jobs.estimate_s, 1.0))
        dropped = int(np.diff(np.searchsorted(piece.dropped_s, (begin, begin + length)))[0])
        return Window(jobs, hour, self.name, origin_s=begin, end_s=self._duration, dropped=dropped)

    def check(self, split: Split) -> None:
        """Raises DatacenterError unless periods of the split find jobs at whatever hour of the day they start."""
        length = self._duration / self.stretch(split)
        for hour in range(24):
            self._stretches(split, hour, length, f"{split} period at {hour}:00")

    def _stretches(self, split: Split, hour: int, length: float, where: str) -> list[tuple[_Piece, float]]:
        """Pieces of the split and log times in them at which a period that holds a job can begin at this hour."""
        starts = [
            (piece, float(begin))
            for piece in self._pieces(split)
            for begin in piece.not_empty(self._starts(piece, hour, length), length)
        ]
        if not starts:
            raise DatacenterError(self._too_short(split, hour, length, where))
        return starts

    def _too_short(self, split: Split, hour: int, length: float, where: str) -> str:
        pieces = self._pieces(split)
        jobs, span = sum(len(piece.jobs) for piece in pieces), sum(piece.end_s - piece.begin_s for piece in pieces)
        load = "" if self._load is None else f" at load {self._load:g}"
        fits = any(len(self._starts(piece, hour, length)) for piece in pieces)
        longer = "longer periods" if fits else "a longer log"
        return (
            f"{self.name}, {where}: empty window: the {split} split has {jobs} jobs in {span / 3600:.1f} h; "
            f"a period of {self._duration / 3600:g} h{load} covers {length / 3600:.1f} h of them, and none that starts "
            f"at {hour % 24}:00 holds a job; use {longer}, or play windows of jobs: `window: {{jobs: ...}}` at every "
            "site, and no `plan`"
        )

    def _starts(self, piece: _Piece, hour: int, length: float) -> FloatArray:
        """Log times in the piece at which a day's hour begins and a period still fits."""
        day, phase = 86400, hour % 24 * 3600 - _hour_zero(self._trace)
        first = np.ceil((piece.begin_s - phase) / day) * day + phase
        return np.arange(first, piece.end_s - length + 1e-6, day, dtype=np.float64)

    def _cut(self, split: Split) -> list[_Piece]:
        jobs = self._trace.jobs
        pieces = []
        for a, b in getattr(self.splits, split):
            segment = jobs.take(slice(a, b))
            fitted, dropped = fit(segment, self._widest, self._too_wide, f"{self.name}, {split}")
            end = jobs.submit_s[b] if b < len(jobs) else jobs.submit_s[-1] + 1
            pieces.append(_Piece(fitted, float(jobs.submit_s[a]), float(end), segment.submit_s[dropped]))
        return pieces
