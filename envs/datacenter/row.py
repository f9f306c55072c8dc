"""One row of a data-centre world, seen from the host: what it holds now, and how jobs leave it and come to it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsched.envs.datacenter.arrays import OWN_JOB
from fedsched.envs.datacenter.generate import data_mb
from fedsched.envs.datacenter.kernels.state import GIVEN
from fedsched.envs.datacenter.model import DatacenterError, FloatArray, IntArray, Jobs
from fedsched.envs.datacenter.outlook import Outlook, Profile, foresee
from fedsched.envs.datacenter.world import DatacenterWorld

_HOUR = 3600.0


@dataclass(frozen=True)
class Cargo:
    """Jobs on their way to a peer.

    Attributes:
        jobs: Their `submit_s` is the arrival at the taker.
        first_submit_s: When the user submitted them, [J].
        data_mb: What crossed the link, [J].
    """

    jobs: Jobs
    first_submit_s: FloatArray
    data_mb: FloatArray

    def __len__(self) -> int:
        """How many jobs."""
        return len(self.jobs)

    @property
    def megabytes(self) -> float:
        """Data that crossed the link with all of them."""
        return float(self.data_mb.sum())


@dataclass(frozen=True)
class Records:
    """Every job that has arrived at one row and was not handed on, columns of equal length.

    Attributes:
        home: Name of the home site, empty for the row's own.
        id: Number of the job in its log.
        wait_s: From first submission to the start, or to now for a job that still waits.
        run_s: Run time where it ran, or would run at the first cluster.
        processors: Width.
        started: Whether it has started.
    """

    home: list[str]
    id: IntArray
    wait_s: FloatArray
    run_s: FloatArray
    processors: IntArray
    started: npt.NDArray[np.bool_]


class Row:
    """One row of a world; columns are read afresh at every call.

    Args:
        world: The batch.
        row: Which of its rows.
    """

    def __init__(self, world: DatacenterWorld, row: int) -> None:
        self.world, self.row = world, row
        self.jobs, self.state = world.arrays.jobs, world.arrays.state
        self.now = float(self.state["now"][row])
        self.power = sum(cluster.processors * cluster.speed for cluster in world.site.clusters)

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column of the row's jobs or per-job state on the host, [J]."""
        table = self.jobs if name in self.jobs else self.state
        return np.asarray(table[name][self.row].cpu().numpy())

    def queue(self) -> IntArray:
        """Waiting jobs in queue order."""
        return np.asarray(self.column("queue")[: int(self.state["queued"][self.row])], dtype=np.int64)

    def movable(self, jobs: IntArray) -> npt.NDArray[np.bool_]:
        """Which waiting jobs may be handed over: submitted here, and no cluster's reserved head."""
        heads = self.state["head"][self.row].cpu().numpy()
        return np.asarray((self.column("home")[jobs] == OWN_JOB) & ~np.isin(jobs, heads))

    def estimate(self, jobs: IntArray) -> FloatArray:
        """Estimates at speed 1, at least a second."""
        return np.asarray(np.maximum(self.column("estimate")[jobs], 1.0))

    def area(self, jobs: IntArray) -> FloatArray:
        """Estimated processor-seconds at speed 1."""
        return np.asarray(self.estimate(jobs) * self.column("processors")[jobs])

    def data(self, jobs: IntArray) -> FloatArray:
        """Megabytes that each job takes along."""
        site = self.world.site
        log = self.world.log(self.row)
        return data_mb(log, np.asarray(self.column("id")[jobs]), site.data_median_mb, site.data_sigma)

    def accuracy(self) -> float:
        """Share of its estimated processor-seconds that the work which has ended here took.

        An hour of the whole site counts as exactly estimated beforehand, so that a young site is careful.
        """
        place = self.column("cluster")
        speeds = np.array([cluster.speed for cluster in self.world.site.clusters])
        took = self.column("run") / speeds[np.maximum(place, 0)]
        ended = np.nonzero((place >= 0) & (self.column("start") + took <= self.now))[0]
        prior = self.power * _HOUR
        used = float((self.column("run")[ended] * self.column("processors")[ended]).sum())
        return min((used + prior) / (float(self.area(ended).sum()) + prior), 1.0)

    def outlook(self, accuracy: float) -> Outlook:
        """What this row foresees of its running and waiting jobs; `accuracy` is the expected share of estimates."""
        profiles = []
        for c, cluster in enumerate(self.world.site.clusters):
            n = int(self.state["running_count"][self.row, c])
            until = self.state["running_until"][self.row, c, :n].cpu().numpy()
            widths = self.column("processors")[self.state["running"][self.row, c, :n].long().cpu().numpy()]
            profiles.append(Profile(cluster.processors, cluster.speed, (until - self.now) * accuracy, widths))
        queue = self.queue()
        return foresee(profiles, self.estimate(queue) * accuracy, self.column("processors")[queue])

    def arrivals(self, memory_s: float) -> tuple[float, float]:
        """Own jobs, and their estimated processor-seconds, that have arrived lately per second."""
        arrived = np.arange(self.world.arrays.capacity) < int(self.state["arrived"][self.row])
        own = arrived & (self.column("home") == OWN_JOB) & (self.column("submit") > self.now - memory_s)
        jobs, span = np.nonzero(own)[0], max(min(memory_s, self.now), 1.0)
        return len(jobs) / span, float(self.area(jobs).sum()) / span

    def series_now(self) -> tuple[float, float]:
        """Price per kWh and grams of CO2 per kWh of the current hour."""
        hour = int(self.now // _HOUR) + int(self.jobs["start_hour"][self.row])
        site = self.world.site
        price, carbon = site.price_per_kwh, site.carbon_g_per_kwh
        return float(price[hour % len(price)]), float(carbon[hour % len(carbon)])

    def hand_over(self, index: IntArray, arrive_s: FloatArray) -> Cargo:
        """Takes waiting jobs out of the queue; they reach the peer at `arrive_s` [J]."""
        jobs = Jobs(
            submit_s=arrive_s, run_s=self.column("run")[index], estimate_s=self.column("estimate")[index],
            processors=self.column("processors")[index].astype(np.int64), id=self.column("id")[index],
            user=np.full(len(index), -1),
        )  # fmt: skip
        cargo = Cargo(jobs, self.column("first_submit")[index], self.data(index))
        self.state["cluster"][self.row, index] = GIVEN
        kept = self.queue()
        kept = kept[~np.isin(kept, index)]
        self.state["queue"][self.row, : len(kept)] = torch.as_tensor(kept).to(self.state["queue"])
        self.state["queued"][self.row] = len(kept)
        return cargo

    def add_arrivals(self, home: str, cargo: Cargo) -> None:
        """Merges a cargo into the jobs that have not arrived yet, in order of arrival."""
        widest = int(cargo.jobs.processors.max(initial=0))
        if widest > self.world.site.widest or float(cargo.jobs.submit_s.min(initial=np.inf)) < self.now:
            raise DatacenterError(f"row {self.row}: a cargo from {home} does not fit or lies in the past")
        arrays = self.world.arrays
        if home not in arrays.peers:
            arrays.peers.append(home)
        count, arrived = int(self.jobs["count"][self.row]), int(self.state["arrived"][self.row])
        arrays.grow(count + len(cargo.jobs))
        new = {
            "submit": cargo.jobs.submit_s, "run": cargo.jobs.run_s, "estimate": cargo.jobs.estimate_s,
            "processors": cargo.jobs.processors, "id": cargo.jobs.id, "first_submit": cargo.first_submit_s,
            "home": np.full(len(cargo.jobs), arrays.peers.index(home)),
        }  # fmt: skip
        future = {name: np.concatenate([self.column(name)[arrived:count], values]) for name, values in new.items()}
        order = np.argsort(future["submit"], kind="stable")
        end = count + len(cargo.jobs)
        for name, values in future.items():
            arrays.jobs[name][self.row, arrived:end] = torch.as_tensor(values[order]).to(arrays.jobs[name])
        arrays.state["start"][self.row, count:end] = float("nan")
        arrays.state["cluster"][self.row, count:end] = -1
        arrays.jobs["count"][self.row] = end
        arrays.state["terminated"][self.row] = 0

    def records(self) -> Records:
        """The jobs this row answers for; those of peers that are still on their way are among them."""
        index = np.arange(self.world.arrays.capacity)
        arrived = index < int(self.state["arrived"][self.row])
        coming = (index < int(self.jobs["count"][self.row])) & (self.column("home") != OWN_JOB)
        place = self.column("cluster")
        keep = np.nonzero((arrived | coming) & (place != GIVEN))[0]
        start = self.column("start")[keep]
        started = ~np.isnan(start)
        speeds = np.array([cluster.speed for cluster in self.world.site.clusters])
        names = [*self.world.arrays.peers, ""]
        return Records(
            home=[names[h] for h in self.column("home")[keep]],
            id=self.column("id")[keep],
            wait_s=np.where(started, start, self.now) - self.column("first_submit")[keep],
            run_s=self.column("run")[keep] / speeds[np.maximum(place[keep], 0)],
            processors=self.column("processors")[keep],
            started=started,
        )


def merged(first: Cargo, second: Cargo) -> Cargo:
    """Two cargos to the same peer as one."""
    pairs = zip(vars(first.jobs).values(), vars(second.jobs).values(), strict=True)
    jobs = Jobs(*(np.concatenate(pair) for pair in pairs))
    return Cargo(
        jobs,
        np.concatenate([first.first_submit_s, second.first_submit_s]),
        np.concatenate([first.data_mb, second.data_mb]),
    )
