"""Numbers of instances, and jobs that are made to fit."""

from collections.abc import Callable
from typing import get_args

import pytest

from fedsched.envs.datacenter.model import DatacenterError, Jobs
from fedsched.envs.datacenter.splits import PER_SPLIT, Split, fit, locate, number


def test_numbers_of_splits_are_disjoint() -> None:
    assert [number(split, 0) for split in ("test", "validation", "train")] == [0, PER_SPLIT, 2 * PER_SPLIT]
    for split in get_args(Split):
        for k in (0, 17, PER_SPLIT - 1):
            assert locate(number(split, k)) == (split, k)
    for instance in (-1, 3 * PER_SPLIT):
        with pytest.raises(DatacenterError, match="is in no split"):
            locate(instance)
    with pytest.raises(DatacenterError, match="not 1000000000"):
        number("train", PER_SPLIT)


def test_too_wide_jobs(make_jobs: Callable[..., Jobs]) -> None:
    jobs = make_jobs((0, 60, 60, 1), (9, 60, 60, 8), (9, 60, 60, 2), (9, 60, 60, 4))
    with pytest.raises(
        DatacenterError, match=r"here: 2 of 4 jobs are wider.*at least 8, or set too_wide to drop or narrow"
    ):
        fit(jobs, 2, "error", "here")
    dropped, places = fit(jobs, 2, "drop", "here")
    assert (dropped.id.tolist(), places.tolist()) == ([100, 102], [1, 3])
    narrow, places = fit(jobs, 2, "narrow", "here")
    assert (narrow.processors.tolist(), places.tolist()) == ([1, 2, 2, 2], [])
    assert narrow.run_s is jobs.run_s
