"""Worlds for own code: one call from a log to B copies of a site, and instances to play."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from fedsched.envs.core import stream
from fedsched.envs.datacenter.model import Cluster, DatacenterError, SiteModel
from fedsched.envs.datacenter.series import carbon as carbon_series
from fedsched.envs.datacenter.series import tariff
from fedsched.envs.datacenter.splits import PER_SPLIT, Split, TooWide
from fedsched.envs.datacenter.trace import load as load_log
from fedsched.envs.datacenter.workload import LogWindows
from fedsched.envs.datacenter.world import DatacenterWorld


@runtime_checkable
class _Numbered(Protocol):
    name: str

    def instance(self, split: Split, k: int) -> int: ...


def make_world(
    trace: str = "lublin-1",
    clusters: Sequence[Cluster | int] | None = None,
    *,
    batch: int = 1,
    jobs: int = 256,
    load: float | None = None,
    deferral: bool = False,
    carbon: str | None = None,
    tariff_seed: int | None = None,
    too_wide: TooWide = "error",
    seed: int = 0,
    device: str = "cpu",
) -> DatacenterWorld:
    """B copies of a site on windows of a job log, in the `event` engine.

    Args:
        trace: `lublin-1`, `hpc2n`, another log by name, or a path that ends in .swf or .swf.gz.
        clusters: The agents: machines, or just their processors; by default one machine as large as the log's.
        batch: Copies B.
        jobs: Jobs of an episode.
        load: Mean load to reach by stretching the times between arrivals; None: as logged.
        deferral: Whether agents may hold although a job would start.
        carbon: Hourly carbon intensity, `ciso-2022` or `nyis-2022`; none by default.
        tariff_seed: Of a generated tariff; by default energy costs nothing.
        too_wide: What to do with jobs that no cluster holds: `error`, `drop` or `narrow`.
        seed: Of the training and validation windows.
        device: `cpu` or a CUDA device.

    Raises:
        DatacenterError: A log or a site that cannot be used.
    """
    log = load_log(trace)
    machines = (log.processors,) if clusters is None else clusters
    site = SiteModel(
        clusters=tuple(machine if isinstance(machine, Cluster) else Cluster(machine) for machine in machines),
        carbon_g_per_kwh=np.zeros(1) if carbon is None else carbon_series(carbon),
        price_per_kwh=np.zeros(1) if tariff_seed is None else tariff(tariff_seed),
        deferral=deferral,
    )
    power = round(sum(cluster.processors * cluster.speed for cluster in site.clusters))
    windows = LogWindows(log, jobs, widest=site.widest, too_wide=too_wide, load=load, processors=power, seed=seed)
    return DatacenterWorld(site, windows, batch, device=device)


def draw_instances(world: DatacenterWorld, split: Split, seed: int = 0, count: int | None = None) -> torch.Tensor:
    """Instances to reset a world with, int64 [count]: drawn by seed, or of the test split the first ones.

    Args:
        world: Its workload numbers the instances.
        split: `train`, `validation` or `test`.
        seed: Of the draw.
        count: How many; by default one for each copy.

    Raises:
        DatacenterError: More than the test split has, or a workload of the user's own that numbers none.
    """
    numbered, wanted = world.workload, world.batch if count is None else count
    if not isinstance(numbered, _Numbered):
        raise DatacenterError("this workload has no splits: give its instances to reset by their numbers")
    places = range(wanted) if split == "test" else stream(seed, f"draw/{split}").integers(PER_SPLIT, size=wanted)
    return torch.tensor([numbered.instance(split, int(k)) for k in places], device=world.device)
