"""What data centres trade: queued work against free processor-hours of the coming epoch.

A quantity is whole processor-hours of estimated work at speed 1; a value is milli-currency per processor-hour.

**Offers.** A site offers the processor-hours that its profile (see `outlook`) leaves free in the coming epoch after
running, waiting and foreseen arriving work and a reserve, for jobs that could start at once. It wants at least what
their energy costs, and what its own users may lose.

**Asks.** A site asks for queued jobs that would wait at home, in classes of width and estimate, so that a match never
splits a class. A class is worth what its jobs would wait, what the jobs behind them wait for them, and the energy.

**Filling.** The giver fills a settled quantity with whole jobs of the class in queue order, never above it. A job whose
data would cross the link no sooner than it starts at home stays. A job is handed over once at most. Wait and slowdown
count from the first submission, at the home site.
"""

from dataclasses import dataclass

import numpy as np

from fedsched.envs.core import Delivery, Lot
from fedsched.envs.datacenter.model import FloatArray, IntArray
from fedsched.envs.datacenter.row import Cargo, Records, Row, merged
from fedsched.envs.datacenter.world import DatacenterWorld

RESOURCE = "processor-hours"
WIDTHS = (8, 32, 128, 1 << 30)
ESTIMATES_S = (3600, 4 * 3600, 12 * 3600, 1 << 30)
"""Upper ends of the classes of width and estimate that a site asks for separately; 16 lots fit into a bid."""

_HOUR = 3600.0
_MILLI = 1000.0
import os
P={k:float(v) for k,v in (x.split("=") for x in os.environ.get("MK","").split(",") if x)}

@dataclass(frozen=True)
class Market:
    wait_value: float = P.get("wv",1.0)
    carbon_price: float = 0.1
    memory_s: float = 24 * _HOUR
    reserve: float = P.get("reserve",0.1)
    longest: float = P.get("longest",4.0)
    harm: float = P.get("harm",1.0)
    ext: float = P.get("ext",1.0)
    oa: float = P.get("oa",0.0)


class DatacenterExchange:
    """States lots and carries out deliveries for the rows of a `DatacenterWorld` (contract: `envs.core.Exchange`)."""

    def __init__(self, market: Market) -> None:
        self.market = market

    def lots(self, world: DatacenterWorld, row: int, window: tuple[int, int]) -> list[Lot]:
        """What row `row` offers and asks for in the epoch from window[0] to window[1] seconds."""
        site = Row(world, row)
        return self._offers(site, window) + self._asks(site, window)

    def give(self, world: DatacenterWorld, row: int, deliveries: list[Delivery]) -> dict[str, Cargo]:
        """Takes the jobs that the deliveries cover out of the queue; by peer, empty cargos left out."""
        site = Row(world, row)
        cargos: dict[str, Cargo] = {}
        sent={}
        def key(d):
            l=dict(d.limits); return (l.get("estimate_s",1<<40), l.get("width",1<<40), d)
        for delivery in sorted((d for d in deliveries if d.side == "give"),key=key):
            chosen, arrive = self._fill(site, delivery, sent.get(delivery.peer,0.0))
            if len(chosen):
                sent[delivery.peer]=float(arrive[-1])-site.now-delivery.latency_s
                cargo=site.hand_over(chosen, arrive)
                cargos[delivery.peer] = merged(cargos[delivery.peer],cargo) if delivery.peer in cargos else cargo
        return cargos

    def take(self, world: DatacenterWorld, row: int, home: str, cargo: Cargo) -> None:
        Row(world, row).add_arrivals(home, cargo)

    def _hour_cost(self, site: Row) -> float:
        """Currency for the energy that one more busy processor-hour at speed 1 takes, carbon included."""
        price, carbon = site.series_now()
        costs = [
            k.pue * (k.busy_w - k.idle_w) / 1000.0 / k.speed * (price + self.market.carbon_price * carbon / 1000.0)
            for k in site.world.site.clusters
        ]
        return max(min(costs), 0.0)

    def _delayed(self, site: Row, backlog: float, accuracy: float) -> float:
        """Jobs that one more processor-second ahead of them delays: those until the site is drained."""
        m = self.market
        rate, work = site.arrivals(m.memory_s)
        load = min(work * accuracy / site.power, 0.95)
        return rate * (backlog / site.power) / (1.0 - load)

    def _offers(self, site: Row, window) -> list[Lot]:
        m = self.market
        span = float(window[1] - window[0])
        accuracy = site.accuracy()
        outlook = site.outlook(accuracy)
        jobs_rate, rate = site.arrivals(m.memory_s)
        idle = sum(p.idle_s(span) * p.speed for p in outlook.profiles)
        spare = idle - span * (rate * accuracy + m.reserve * site.power)
        width = max(p.least(span)-int(m.reserve*p.processors) for p in outlook.profiles)
        if m.oa: spare /= accuracy
        if spare < _HOUR or width < 1:
            return []
        backlog = float((site.area(site.queue())).sum()) * accuracy
        delayed = len(site.queue()) + self._delayed(site, backlog + spare / 2, accuracy)
        value = self._hour_cost(site) + m.harm * m.wait_value * delayed / site.power
        limits = (("estimate_s", int(span * m.longest)), ("width", width))
        return [Lot("offer", RESOURCE, int(spare / _HOUR), round(_MILLI * value), window, limits)]

    def _asks(self, site: Row, window: tuple[int, int]) -> list[Lot]:
        m=self.market
        queue = site.queue()
        accuracy=site.accuracy()
        wait = site.outlook(accuracy).wait_s
        movable = site.movable(queue) & (wait > 0.0)
        width, estimate, area = site.column("processors")[queue], site.estimate(queue), site.area(queue)
        backlog=float(area.sum())*accuracy
        behind = len(queue) - np.arange(1, len(queue)+1) + self._delayed(site, backlog, accuracy)
        worth = wait/_HOUR + m.ext * behind * area * accuracy / site.power / _HOUR
        data = site.data(queue)
        lots = []
        lower_w=0
        for upper_w in WIDTHS:
            lower_e=0
            for upper_e in ESTIMATES_S:
                chosen = movable & (width > lower_w) & (width <= upper_w) & (estimate > lower_e) & (estimate <= upper_e)
                le=lower_e; lower_e = upper_e
                if not chosen.any(): continue
                hours = int(np.ceil(area[chosen].sum() / _HOUR))
                value = self._hour_cost(site) + m.wait_value * float(worth[chosen].sum()) / hours
                needs = {
                    "data_mb_per_unit": int(np.ceil(data[chosen].sum() / hours)),
                    "width": int(width[chosen].max()), "width_above": lower_w,
                    "estimate_s": int(np.ceil(estimate[chosen].max())), "estimate_s_above": le,
                }
                lots.append(Lot("ask", RESOURCE, hours, round(_MILLI * value), window, tuple(sorted(needs.items()))))
            lower_w=upper_w
        return lots

    def _fill(self, site: Row, delivery: Delivery, sent: float):
        """Whole jobs in queue order up to the quantity, inside the limits."""
        limits = dict(delivery.limits)
        left = delivery.quantity * _HOUR
        queue = site.queue()
        wait = site.outlook(site.accuracy()).wait_s
        chosen, arrive = [],[]
        ok=site.movable(queue)
        est,wid,area,data=site.estimate(queue),site.column("processors")[queue],site.area(queue),site.data(queue)
        for k,job in enumerate(queue):
            if not ok[k] or not limits.get("width_above",0) < wid[k] <= limits.get("width",1<<40): continue
            if not limits.get("estimate_s_above",0) < est[k] <= limits.get("estimate_s",1<<40): continue
            cross = sent + data[k]*8e6/delivery.bandwidth_bps
            if area[k] > left or cross + delivery.latency_s >= wait[k]: continue
            chosen.append(job); sent=cross; left-=area[k]; arrive.append(site.now+delivery.latency_s+sent)
        return np.array(chosen,dtype=np.int64), np.array(arrive)


def records(world: DatacenterWorld, row: int) -> Records:
    """Every job that row `row` answers for; what comes from peers is reported home by the caller."""
    return Row(world, row).records()
