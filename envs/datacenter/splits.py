"""Instance numbers, and which jobs of a log serve training, validation and test."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from fedsched.envs.core import stream
from fedsched.envs.datacenter.model import DatacenterError, IntArray, Jobs

Split = Literal["train", "validation", "test"]
TooWide = Literal["error", "drop", "narrow"]
Segment = tuple[int, int]
"""Jobs [first, last) of a log, by place."""

HOURS_PER_YEAR = 8760
PER_SPLIT = 10**9
"""Instances per split: test counts from 0, validation from 1e9, train from 2e9."""

PUBLISHED_STARTS = (1981, 2756, 4299, 8850, 3316, 2714, 5228, 7762, 4022, 7085)
"""First jobs of the ten test windows of 1024 jobs.

Source: D. Zhang et al., RLScheduler (SC'20); they follow from seed 1 of its evaluation.
"""

_FIRST: dict[Split, int] = {"test": 0, "validation": PER_SPLIT, "train": 2 * PER_SPLIT}


@dataclass(frozen=True)
class Splits:
    """Which jobs of a log serve what.

    Attributes:
        train: Segments to learn from.
        validation: Segments to choose a checkpoint by.
        test: Segments that test periods are cut from; they hold the test windows.
        starts: First jobs of the test windows.
        resample: Whether training and validation windows are put together from blocks, because the segments are short.
    """

    train: tuple[Segment, ...]
    validation: tuple[Segment, ...]
    test: tuple[Segment, ...]
    starts: tuple[int, ...]
    resample: bool = False


_LUBLIN = Splits(
    ((0, 1981),), ((6252, 7085), (9874, 10_000)), ((1981, 6252), (7085, 9874)), PUBLISHED_STARTS, resample=True
)
SPLITS: dict[str, Splits] = {
    "lublin-1": _LUBLIN,
    "lublin-2": _LUBLIN,
    "hpc2n": Splits(((12_000, 50_000),), ((50_000, 60_000),), ((0, 10_000),), PUBLISHED_STARTS),
    "sdsc-sp2": Splits(((12_000, 50_000),), ((50_000, 58_000),), ((0, 10_000),), PUBLISHED_STARTS),
}
"""Splits of the named logs. All test windows of 1024 jobs end by job 9874."""


def chronological(jobs: int, window: int) -> Splits:
    """Splits of any other log: 70 % train, 15 % validation, 15 % test with up to ten evenly spread windows."""
    a, b = jobs * 70 // 100, jobs * 85 // 100
    count = max(1, min(10, (jobs - b) // window))
    starts = np.linspace(b, max(b, jobs - window), count).astype(int).tolist()
    return Splits(((0, a),), ((a, b),), ((b, jobs),), tuple(starts))


def locate(instance: int) -> tuple[Split, int]:
    """Split and place in it of an instance number. Raises DatacenterError if no split has it."""
    for split, first in _FIRST.items():
        if first <= instance < first + PER_SPLIT:
            return split, int(instance) - first
    raise DatacenterError(f"instance {instance} is in no split: numbers run from 0 to {3 * PER_SPLIT - 1}")


def number(split: Split, k: int) -> int:
    """The instance number of the k-th instance of a split. Raises DatacenterError for an unknown split or place."""
    if split not in _FIRST:
        raise DatacenterError(f"unknown split {split!r}: use one of {', '.join(get_args(Split))}")
    if not 0 <= k < PER_SPLIT:
        raise DatacenterError(f"the {split} split has instances 0 to {PER_SPLIT - 1}, not {k}")
    return _FIRST[split] + int(k)


def common_hour(clock: int, instance: int) -> int:
    """Hour of the year at which a period starts, the same at every site with this clock seed."""
    return int(stream(clock, "datacenter/start-hour", instance).integers(HOURS_PER_YEAR))


def fit(jobs: Jobs, widest: int, too_wide: TooWide, where: str) -> tuple[Jobs, IntArray]:
    """Makes jobs fit the site's widest cluster.

    Args:
        jobs: Any jobs.
        widest: Processors of the widest cluster.
        too_wide: `error`; `drop` wider jobs; or `narrow` them to `widest` processors with unchanged run time.
        where: Named in the error.

    Returns:
        The jobs, and the places of those that were dropped.
    """
    wide = jobs.processors > widest
    if too_wide == "narrow":
        return replace(jobs, processors=np.minimum(jobs.processors, widest)), np.empty(0, dtype=np.int64)
    if too_wide == "drop":
        return jobs.take(np.flatnonzero(~wide)), np.flatnonzero(wide)
    if wide.any():
        raise DatacenterError(
            f"{where}: {wide.sum()} of {len(wide)} jobs are wider than the widest cluster ({widest} processors); "
            f"give a cluster of at least {jobs.processors.max()}, or set too_wide to drop or narrow"
        )
    return jobs, np.empty(0, dtype=np.int64)
