"""A data centre as a PettingZoo environment: `fedsched/datacenter-v0`.

History: v0, the `event` engine with the features of `fedsched.envs.datacenter.world`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fedsched.envs.core import stream
from fedsched.envs.core.pettingzoo import WorldParallelEnv
from fedsched.envs.datacenter.make import make_world
from fedsched.envs.datacenter.model import Cluster, DatacenterError
from fedsched.envs.datacenter.splits import PER_SPLIT, Split, TooWide
from fedsched.envs.datacenter.workload import LogWindows
from fedsched.envs.datacenter.world import DatacenterWorld

WEIGHTS: Mapping[str, float] = {"qos": 1.0}
"""Reward unless weights are given: minus the growth of the sum of bounded slowdowns."""


_ATTEMPTS = 50
"""Windows that a reset tries until one of them has a decision in it."""


class DatacenterParallelEnv(WorldParallelEnv):
    """One site; the seed of a reset draws a window with decisions in it, unless `options={"instance": k}` names one.

    Args:
        world: A batch of one.
        windows: What its instances are.
        split: Where windows are drawn from.
        weights: As in `WorldParallelEnv`, like the other options.
        flatten: One Box instead of a dict.
        strict: Raises for an illegal action.
    """

    def __init__(
        self,
        world: DatacenterWorld,
        windows: LogWindows,
        split: Split,
        weights: Mapping[str, float],
        *,
        flatten: bool = False,
        strict: bool = False,
    ) -> None:
        super().__init__(world, weights, flatten=flatten, strict=strict)
        self._windows, self._split = windows, split

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Starts an episode; without a seed, that of the last one plus one.

        Raises:
            DatacenterError: An unknown instance, or windows in which nobody ever has anything to decide.
        """
        number = self._seed + 1 if seed is None else seed
        if "instance" in (options or {}):
            return super().reset(number, options)
        for attempt in range(_ATTEMPTS):
            shown = super().reset(number, {"instance": self._draw(number, attempt)})
            if self.agents:
                return shown
        raise DatacenterError(
            f"{_ATTEMPTS} windows of {self._windows.name} leave nothing to decide: "
            "use smaller clusters, or more jobs per window"
        )

    def _draw(self, seed: int, attempt: int) -> int:
        count = len(self._windows.starts) if self._split == "test" else PER_SPLIT
        place = int(stream(seed, "datacenter/env", attempt).integers(count))
        return self._windows.instance(self._split, place)


def parallel_env(
    trace: str = "lublin-1",
    clusters: Sequence[Cluster | int] | None = None,
    jobs: int = 256,
    *,
    split: Split = "train",
    weights: Mapping[str, float] | None = None,
    deferral: bool = False,
    carbon: str | None = None,
    tariff_seed: int | None = None,
    too_wide: TooWide = "error",
    flatten: bool = False,
    strict: bool = False,
) -> DatacenterParallelEnv:
    """A site on windows of a job log.

    Args:
        trace: `lublin-1`, `hpc2n`, another log by name, or a path that ends in .swf or .swf.gz.
        clusters: The agents: machines, or just their processors; by default one machine as large as the log's.
        jobs: Jobs of an episode.
        split: `train`, `validation` or `test`.
        weights: Weight of every reward part that counts: `utilization`, `qos`, `wait`, `energy_efficiency`, `carbon`,
            `cost`; by default WEIGHTS.
        deferral: Whether agents may hold although a job would start.
        carbon: Hourly carbon intensity, `ciso-2022` or `nyis-2022`; none by default.
        tariff_seed: Of a generated tariff; by default energy costs nothing.
        too_wide: What to do with jobs that no cluster holds: `error`, `drop` or `narrow`.
        flatten: Observations as one Box.
        strict: Raises for an illegal action instead of replacing it.

    Raises:
        DatacenterError: A log or a site that cannot be used.
        WorldError: Weights of unknown parts.
    """
    world = make_world(
        trace, clusters, jobs=jobs, deferral=deferral, carbon=carbon, tariff_seed=tariff_seed, too_wide=too_wide
    )
    windows = world.workload
    assert isinstance(windows, LogWindows)
    return DatacenterParallelEnv(
        world, windows, split, WEIGHTS if weights is None else weights, flatten=flatten, strict=strict
    )
