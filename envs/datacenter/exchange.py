"""What data centres trade: queued work against free processor-hours of the coming epoch.

A quantity is whole processor-hours of estimated work at speed 1; a value is milli-currency per processor-hour. A site
offers what its processors will not need for its own work, at what the energy costs there, and asks for queued jobs to
be taken over, at what their waiting, price and carbon cost at home. The giver fills a settled quantity with whole jobs
in queue order, never above it; a job arrives at the taker after its data has crossed the link; a job is handed over
once at most. Wait and slowdown count from the first submission, at the home site.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsched.envs.core import Delivery, Lot
from fedsched.envs.datacenter.arrays import OWN_JOB
from fedsched.envs.datacenter.kernels.state import GIVEN
from fedsched.envs.datacenter.model import DatacenterError, FloatArray, IntArray, Jobs
from fedsched.envs.datacenter.generate import data_mb
from fedsched.envs.datacenter.world import DatacenterWorld

RESOURCE = "processor-hours"
WIDTH_CLASSES = (8, 64, 1 << 30)
"""Upper widths of the classes that a site asks for separately, so that narrow work finds narrow takers."""

_HOUR = 3600.0
_MILLI = 1000.0


@dataclass(frozen=True)
class Market:
    """What the waiting of a job and a kilogram of carbon are worth.

    Attributes:
        wait_value: Currency per job and hour of waiting.
        carbon_price: Currency per kilogram of CO2.
        memory_s: Span over which a site averages its own arriving work to foresee the next epoch.
        reserve: Share of its processors that a site never offers.
    """

    wait_value: float = 0.1
    carbon_price: float = 0.1
    memory_s: float = 24 * _HOUR
    reserve: float = 0.1


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


class DatacenterExchange:
    """States lots and carries out deliveries for the rows of a `DatacenterWorld` (contract: `envs.core.Exchange`)."""

    def __init__(self, market: Market) -> None:
        self.market = market

    def lots(self, world: DatacenterWorld, row: int, window: tuple[int, int]) -> list[Lot]:
        """What row `row` offers and asks for in the epoch from window[0] to window[1] seconds."""
        site = _Row(world, row)
        span = float(window[1] - window[0])
        spare = self._spare_hours(site, span)
        lots = []
        if spare >= 1:
            limits = (("estimate_s", int(span)), ("width", site.world.site.widest))
            lots.append(Lot("offer", RESOURCE, int(spare), round(_MILLI * self._hour_cost(site)), window, limits))
        return lots + self._asks(site, window)

    def give(self, world: DatacenterWorld, row: int, deliveries: list[Delivery]) -> dict[str, Cargo]:
        """Takes the jobs that the deliveries cover out of the queue; by peer, empty cargos left out."""
        site = _Row(world, row)
        cargos: dict[str, Cargo] = {}
        for delivery in sorted(d for d in deliveries if d.side == "give"):
            chosen = self._fill(site, delivery)
            if chosen:
                cargos[delivery.peer] = site.hand_over(chosen, delivery, cargos.get(delivery.peer))
        return cargos

    def take(self, world: DatacenterWorld, row: int, home: str, cargo: Cargo) -> None:
        """Adds a peer's jobs to the arrivals of the row.

        Raises:
            DatacenterError: A job that is wider than every cluster here, or that would arrive in the past.
        """
        _Row(world, row).add_arrivals(home, cargo)

    def _hour_cost(self, site: "_Row") -> float:
        """Currency for the energy that one more busy processor-hour at speed 1 takes, carbon included."""
        price, carbon = site.series_now()
        costs = [
            k.pue * (k.busy_w - k.idle_w) / 1000.0 / k.speed * (price + self.market.carbon_price * carbon / 1000.0)
            for k in site.world.site.clusters
        ]
        return max(min(costs), 0.0)

    def _spare_hours(self, site: "_Row", span: float) -> float:
        capacity = site.power * span * (1.0 - self.market.reserve)
        own = site.arrival_rate(self.market.memory_s) * span
        return (capacity - site.running_work(span) - site.queued_work() - own) / _HOUR

    def _asks(self, site: "_Row", window: tuple[int, int]) -> list[Lot]:
        queue = site.movable()
        expected = site.expected_wait(queue)
        home_cost = self._hour_cost(site)
        lots, lower = [], 0
        for upper in WIDTH_CLASSES:
            width = site.column("processors")[queue]
            area = site.area(queue)
            chosen = (width > lower) & (width <= upper) & (expected > 0.0)
            lower = upper
            hours = float(area[chosen].sum()) / _HOUR
            if hours < 1.0:
                continue
            waiting = self.market.wait_value * float(expected[chosen].sum()) / _HOUR / hours
            needs = {
                "data_mb_per_unit": int(np.ceil(site.data(queue[chosen]).sum() / hours)),
                "width": int(width[chosen].max()),
                "width_above": int(width[chosen].min()) - 1,
            }
            value = round(_MILLI * (waiting + home_cost))
            lots.append(Lot("ask", RESOURCE, int(hours), value, window, tuple(sorted(needs.items()))))
        return lots

    def _fill(self, site: "_Row", delivery: Delivery) -> list[int]:
        """Whole jobs in queue order up to the quantity, inside the limits."""
        limits = dict(delivery.limits)
        left = delivery.quantity * _HOUR
        chosen = []
        queue = site.movable()
        estimates, widths, areas = site.column("estimate")[queue], site.column("processors")[queue], site.area(queue)
        for job, estimate, width, area in zip(queue, estimates, widths, areas, strict=True):
            inside = width <= limits.get("width", width) and width > limits.get("width_above", 0)
            if inside and estimate <= limits.get("estimate_s", estimate) and area <= left:
                chosen.append(int(job))
                left -= area
        return chosen


class _Row:
    """One row of a world, seen from the host."""

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

    def movable(self) -> IntArray:
        """Waiting jobs that may be handed over: submitted here, and no cluster's reserved head."""
        queue = self.queue()
        heads = self.state["head"][self.row].cpu().numpy()
        return np.asarray(queue[(self.column("home")[queue] == OWN_JOB) & ~np.isin(queue, heads)])

    def area(self, jobs: IntArray) -> FloatArray:
        """Estimated processor-seconds at speed 1."""
        return np.asarray(np.maximum(self.column("estimate")[jobs], 1.0) * self.column("processors")[jobs])

    def data(self, jobs: IntArray) -> FloatArray:
        """Megabytes that each job takes along."""
        site = self.world.site
        log = self.world.log(self.row)
        return data_mb(log, np.asarray(self.column("id")[jobs]), site.data_median_mb, site.data_sigma)

    def queued_work(self) -> float:
        """Estimated processor-seconds that wait."""
        return float(self.area(self.queue()).sum())

    def running_work(self, span: float) -> float:
        """Processor-seconds at speed 1 that running jobs still take within the span, by their estimates."""
        total = 0.0
        for c, cluster in enumerate(self.world.site.clusters):
            n = int(self.state["running_count"][self.row, c])
            ids = self.state["running"][self.row, c, :n].long()
            left = (self.state["running_until"][self.row, c, :n] - self.now).clamp(0.0, span)
            total += float((left * self.jobs["processors"][self.row, ids]).sum()) * cluster.speed
        return total

    def arrival_rate(self, memory_s: float) -> float:
        """Estimated own work that has arrived lately, processor-seconds per second."""
        arrived = np.arange(self.world.arrays.capacity) < int(self.state["arrived"][self.row])
        own = arrived & (self.column("home") == OWN_JOB) & (self.column("submit") > self.now - memory_s)
        span = min(memory_s, self.now)
        return float(self.area(np.nonzero(own)[0]).sum()) / span if span > 0 else 0.0

    def expected_wait(self, jobs: IntArray) -> FloatArray:
        """Seconds until each job would start if the queue ran in order at full power; zero where it fits now."""
        queue = self.queue()
        ahead = np.cumsum(self.area(queue)) - self.area(queue)
        running = self.running_work(float("inf"))
        free = int(self.state["free"][self.row].max())
        wait = (running + ahead) / self.power
        place = {int(job): k for k, job in enumerate(queue)}
        width = self.column("processors")
        return np.array(
            [0.0 if ahead[place[int(j)]] == 0.0 and width[j] <= free else wait[place[int(j)]] for j in jobs]
        )

    def series_now(self) -> tuple[float, float]:
        """Price per kWh and grams of CO2 per kWh of the current hour."""
        hour = int(self.now // _HOUR) + int(self.jobs["start_hour"][self.row])
        site = self.world.site
        price, carbon = site.price_per_kwh, site.carbon_g_per_kwh
        return float(price[hour % len(price)]), float(carbon[hour % len(carbon)])

    def hand_over(self, chosen: list[int], delivery: Delivery, before: Cargo | None) -> Cargo:
        """Takes jobs out of the queue; they cross the link one after another, after those of `before`."""
        index = np.array(chosen, dtype=np.int64)
        volume = self.data(index)
        sent = float(before.data_mb.sum()) if before else 0.0
        arrive = self.now + delivery.latency_s + (sent + np.cumsum(volume)) * 8.0e6 / delivery.bandwidth_bps
        jobs = Jobs(
            submit_s=arrive, run_s=self.column("run")[index], estimate_s=self.column("estimate")[index],
            processors=self.column("processors")[index].astype(np.int64), id=self.column("id")[index],
            user=np.full(len(index), -1),
        )  # fmt: skip
        cargo = Cargo(jobs, self.column("first_submit")[index], volume)
        self.state["cluster"][self.row, index] = GIVEN
        kept = self.queue()
        kept = kept[~np.isin(kept, index)]
        self.state["queue"][self.row, : len(kept)] = torch.as_tensor(kept).to(self.state["queue"])
        self.state["queued"][self.row] = len(kept)
        return merged(before, cargo) if before else cargo

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
        """The jobs this row answers for."""
        arrived = np.arange(self.world.arrays.capacity) < int(self.state["arrived"][self.row])
        place = self.column("cluster")
        keep = np.nonzero(arrived & (place != GIVEN))[0]
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


def records(world: DatacenterWorld, row: int) -> Records:
    """Every job that row `row` answers for; what comes from peers is reported home by the caller."""
    return _Row(world, row).records()
