"""What data centres trade: queued work against free processor-hours of the coming epoch.

A quantity is whole processor-hours of estimated work at speed 1; a value is milli-currency per processor-hour.

**Offers.** What the profile of a site (see `outlook`) leaves idle in the coming epoch after running, waiting and
foreseen arriving work, for jobs narrow enough to start at once. The offer wants at least what the energy costs, and
what the site's own later jobs are expected to wait for the taken ones.

**Asks.** Queued jobs that would wait at home, in classes of width and estimate: a class is small enough that an offer
can take all of it or none, and since short jobs wait most per processor-hour, theirs are served first. A class is worth
what its jobs are expected to wait, and what their energy costs at home.

**Filling.** The giver fills a settled quantity with whole jobs of the class in queue order, never above it, so that
much of what is committed for wide and long jobs may go unused. A job whose data would cross the link no sooner than it
starts at home stays. A job is handed over once at most. Wait and slowdown count from the first submission, at the home
site, and the run time is that at the taker's speed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedsched.envs.core import Delivery, Lot
from fedsched.envs.datacenter.model import FloatArray, IntArray
from fedsched.envs.datacenter.row import Cargo, Records, Row, merged
from fedsched.envs.datacenter.world import DatacenterWorld

__all__ = ["Cargo", "DatacenterExchange", "Market", "RESOURCE", "Records", "delayed_jobs", "records"]

RESOURCE = "processor-hours"
ANY = 1 << 30
WIDTHS = (8, 32, 128, ANY)
ESTIMATES_S = (3600, 4 * 3600, 12 * 3600, ANY)
"""Upper ends of the classes of width and estimate that a site asks for separately: as many as a bid holds lots."""

_HOUR = 3600.0
_MILLI = 1000.0
_FULL_LOAD = 0.95


@dataclass(frozen=True)
class Market:
    """What the waiting of a job and a kilogram of carbon are worth, and what a site accepts.

    Attributes:
        wait_value: Currency per job and hour of waiting.
        carbon_price: Currency per kilogram of CO2.
        memory_s: Span over which a site averages its own arriving work to foresee the next epoch.
        longest: Longest estimate that a site accepts, in epochs. Estimates are far above run times in real logs.
    """

    wait_value: float = 10.0
    carbon_price: float = 0.1
    memory_s: float = 24 * _HOUR
    longest: float = 4.0


class DatacenterExchange:
    """States lots and carries out deliveries for the rows of a `DatacenterWorld` (contract: `envs.core.Exchange`)."""

    def __init__(self, market: Market) -> None:
        self.market = market

    def lots(self, world: DatacenterWorld, row: int, window: tuple[int, int]) -> list[Lot]:
        """What row `row` offers and asks for in the epoch from window[0] to window[1] seconds."""
        site = Row(world, row)
        return [*self._offers(site, window), *self._asks(site, window)]

    def give(self, world: DatacenterWorld, row: int, deliveries: list[Delivery]) -> dict[str, Cargo]:
        """Takes the jobs that the deliveries cover out of the queue; by peer, empty cargos left out.

        Deliveries of short and narrow jobs go first; to one peer, jobs cross the link one after another.
        """
        site = Row(world, row)
        cargos: dict[str, Cargo] = {}
        for delivery in sorted((d for d in deliveries if d.side == "give"), key=_shortest_first):
            before = cargos.get(delivery.peer)
            jobs, arrive_s = _fill(site, delivery, float(before.data_mb.sum()) if before else 0.0)
            if len(jobs):
                cargo = site.hand_over(jobs, arrive_s)
                cargos[delivery.peer] = merged(before, cargo) if before else cargo
        return cargos

    def take(self, world: DatacenterWorld, row: int, home: str, cargo: Cargo) -> None:
        """Adds a peer's jobs to the arrivals of the row.

        Raises:
            DatacenterError: A job that is wider than every cluster here, or that would arrive in the past.
        """
        Row(world, row).add_arrivals(home, cargo)

    def _hour_cost(self, site: Row) -> float:
        """Currency for the energy that one more busy processor-hour at speed 1 takes, carbon included."""
        price, carbon = site.series_now()
        costs = [
            k.pue * (k.busy_w - k.idle_w) / 1000.0 / k.speed * (price + self.market.carbon_price * carbon / 1000.0)
            for k in site.world.site.clusters
        ]
        return max(min(costs), 0.0)

    def _offers(self, site: Row, window: tuple[int, int]) -> Iterator[Lot]:
        span = float(window[1] - window[0])
        accuracy = site.accuracy()
        profiles = site.outlook(accuracy).profiles
        jobs_per_s, work_per_s = site.arrivals(self.market.memory_s)
        load = work_per_s * accuracy / site.power
        spare_s = sum(p.idle_s(span) * p.speed for p in profiles) - load * site.power * span
        width = max(p.least(span) for p in profiles)
        if spare_s < _HOUR or width < 1:
            return
        queue = site.queue()
        backlog_s = float(site.area(queue).sum()) * accuracy + spare_s / 2
        delayed = len(queue) + delayed_jobs(backlog_s / site.power, jobs_per_s, load)
        value = self._hour_cost(site) + self.market.wait_value * delayed / site.power
        limits = (("estimate_s", int(span * self.market.longest)), ("width", width))
        yield Lot("offer", RESOURCE, int(spare_s / _HOUR), round(_MILLI * value), window, limits)

    def _asks(self, site: Row, window: tuple[int, int]) -> Iterator[Lot]:
        queue = site.queue()
        wait_h = site.outlook(site.accuracy()).wait_s / _HOUR
        width, estimate, area_h = site.column("processors")[queue], site.estimate(queue), site.area(queue) / _HOUR
        data, worthwhile = site.data(queue), site.movable(queue) & (wait_h > 0.0)
        for bounds in _classes():
            chosen = worthwhile & _inside(bounds, width, estimate)
            if not chosen.any():
                continue
            hours = int(np.ceil(area_h[chosen].sum()))
            value = self._hour_cost(site) + self.market.wait_value * float(wait_h[chosen].sum()) / hours
            needs = {
                **bounds,
                "data_mb_per_unit": int(np.ceil(data[chosen].sum() / hours)),
                "estimate_s": int(np.ceil(estimate[chosen].max())),
                "width": int(width[chosen].max()),
            }
            yield Lot("ask", RESOURCE, hours, round(_MILLI * value), window, tuple(sorted(needs.items())))


def delayed_jobs(drain_s: float, jobs_per_s: float, load: float) -> float:
    """Later jobs that a bit of work taken now delays: those that arrive until the site has caught up.

    Work that takes `drain_s` at full power is done after drain_s / (1 - load), while new work keeps arriving (mean busy
    period of a single server, such as Kleinrock, Queueing Systems I, 1975); every job that arrives until then starts
    later by the bit's own time at full power.
    """
    return jobs_per_s * drain_s / (1.0 - min(load, _FULL_LOAD))


def _classes() -> Iterator[dict[str, int]]:
    """Limits of every class of width and estimate, shared ends belonging to the lower class."""
    for narrower, width in zip((0, *WIDTHS), WIDTHS, strict=False):
        for shorter, estimate in zip((0, *ESTIMATES_S), ESTIMATES_S, strict=False):
            yield {"width_above": narrower, "width": width, "estimate_s_above": shorter, "estimate_s": estimate}


def _inside(limits: dict[str, int], width: IntArray, estimate: FloatArray) -> npt.NDArray[np.bool_]:
    """Which jobs keep to a lot's or a delivery's limits."""
    wide = (width > limits.get("width_above", 0)) & (width <= limits.get("width", ANY))
    long = (estimate > limits.get("estimate_s_above", 0)) & (estimate <= limits.get("estimate_s", ANY))
    return np.asarray(wide & long)


def _shortest_first(delivery: Delivery) -> tuple[int, int, Delivery]:
    limits = dict(delivery.limits)
    return limits.get("estimate_s", ANY), limits.get("width", ANY), delivery


def _fill(site: Row, delivery: Delivery, sent_mb: float) -> tuple[IntArray, FloatArray]:
    """Whole jobs in queue order up to the quantity, and when they arrive; `sent_mb` are ahead of them on the link."""
    queue = site.queue()
    wait_s = site.outlook(site.accuracy()).wait_s
    may = site.movable(queue) & _inside(dict(delivery.limits), site.column("processors")[queue], site.estimate(queue))
    left = delivery.quantity * _HOUR
    room_mb = float(dict(delivery.limits).get("data_mb_per_unit", ANY) * delivery.quantity)
    jobs, arrive_s = [], []
    for job, wait, area, volume in zip(
        queue[may], wait_s[may], site.area(queue[may]), site.data(queue[may]), strict=True
    ):
        crossing = delivery.latency_s + (sent_mb + volume) * 8.0e6 / delivery.bandwidth_bps
        if area <= left and volume <= room_mb and crossing < wait:
            jobs.append(job)
            arrive_s.append(site.now + crossing)
            left -= area
            room_mb -= volume
            sent_mb += volume
    return np.array(jobs, dtype=np.int64), np.array(arrive_s)


def records(world: DatacenterWorld, row: int) -> Records:
    """Every job that row `row` answers for; what comes from peers is reported home by the caller."""
    return Row(world, row).records()
