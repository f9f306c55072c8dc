"""What became of a shared world, district by district; all of them together are what became of the whole."""

from typing import TYPE_CHECKING

import torch

from fedsched.envs.core import WorldError
from fedsched.envs.intersections import metrics

if TYPE_CHECKING:
    from fedsched.envs.intersections.world import IntersectionsWorld


def of_districts(world: "IntersectionsWorld") -> dict[str, torch.Tensor]:
    """The episodes so far by district, each float64 [B, D].

    `lost_s`: s that vehicles lost on the district's lanes, and those by which its departures are late, until now where
    there was no room to depart. `visits`: vehicles that were due to depart there, or came in from another district; one
    that comes again counts again. `trips`, `inserted`, `never_inserted`: of those who were due to depart there.
    `completed`, `running`: who has arrived there, who drives there now. `queue`: as in `metrics`, of its signals.

    The sums of `lost_s`, `trips`, `inserted`, `never_inserted` and `completed` are those of the city; the sum of
    `lost_s` over that of `trips` is RESCO's delay.

    Raises:
        WorldError: A world without districts.
    """
    if world.districts is None:
        raise WorldError("the world has no districts; give it some")
    row, depart = metrics.trips(world)
    due, late = _lateness(world, depart)
    count = len(world.districts.names)
    traffic, ways = world.traffic, world.problem.tables.ways
    edge = torch.tensor(world.districts.edge[ways.edge].tolist(), device=world.device)
    vehicles = world.problem.tables.vehicles
    start = edge[torch.tensor(vehicles.way.tolist(), device=world.device)][row]
    end = edge[torch.tensor((vehicles.way + vehicles.edges - 1).tolist(), device=world.device)][row]
    inserted = due & (traffic["trip_inserted"] >= 0)
    arrived = inserted & (traffic["trip_arrived"] >= 0)
    trips = _sum(due.double(), start, count)
    return {
        "lost_s": traffic["district_loss"].double() + _sum(late, start, count),
        "visits": trips + _crossed(world, count),
        "trips": trips,
        "inserted": _sum(inserted.double(), start, count),
        "never_inserted": _sum((due & ~inserted).double(), start, count),
        "completed": _sum(arrived.double(), end, count),
        "running": _running(world, count),
        "queue": _queue(world, count),
    }


def _lateness(world: "IntersectionsWorld", depart: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which trips were due so far, bool [B, V], and by how many s they are late, given when each wants to depart."""
    inserted, now = world.traffic["trip_inserted"], world.traffic["now"].double()[:, None]
    due = (inserted >= 0) | (depart < now)
    late = torch.where(inserted >= 0, inserted.double(), now) - depart
    return due, torch.where(due, late, 0.0)


def _crossed(world: "IntersectionsWorld", count: int) -> torch.Tensor:
    """Vehicles that came into each district from another one."""
    assert world.districts is not None
    found = torch.zeros(world.batch, count, dtype=torch.float64, device=world.device)
    for number, gate in enumerate(world.districts.gates):
        if gate.source >= 0:
            found[:, gate.target] += world.traffic["gate_passed"][:, number]
    return found


def _sum(values: torch.Tensor, district: torch.Tensor, count: int) -> torch.Tensor:
    """Sums [B, D] of values [B, V] by district [B, V]."""
    found = torch.zeros(len(values), count, dtype=torch.float64, device=values.device)
    return found.scatter_add_(1, district.long(), values.double())


def _running(world: "IntersectionsWorld", count: int) -> torch.Tensor:
    """Vehicles on the lanes of each district."""
    traffic = world.traffic
    driving = torch.arange(world.slots, device=world.device) < traffic["count"][:, None]
    lane = torch.where(driving, traffic["lane"], 0).long()
    return _sum(driving.double(), world.road["lane_district"].long()[lane], count)


def _queue(world: "IntersectionsWorld", count: int) -> torch.Tensor:
    """Mean queue of the signals of each district."""
    assert world.districts is not None
    total = -world.counts["total"][:, :, metrics.QUEUE].double()
    site = torch.tensor(world.districts.site.tolist(), device=world.device)
    signals = torch.bincount(site, minlength=count).clamp(min=1)
    return _sum(total, site.expand_as(total), count) / signals / world.counts["seconds"].double().clamp(min=1)[:, None]
