"""What became of a shared world, district by district; all of them together are what became of the whole."""

from typing import TYPE_CHECKING

import torch

from fedsched.envs.core import WorldError
from fedsched.envs.intersections.metrics import QUEUE

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
    due, late = _departures(world)
    count = len(world.districts.names)
    traffic, ways = world.traffic, world.problem.tables.ways
    edge = torch.tensor(world.districts.edge[ways.edge].tolist(), device=world.device)
    vehicles = world.problem.tables.vehicles
    row = _rows(world)
    start = edge[torch.tensor(vehicles.way.tolist(), device=world.device)][row]
    end = edge[torch.tensor((vehicles.way + vehicles.edges - 1).tolist(), device=world.device)][row]
    inserted = due & (traffic["trip_inserted"] >= 0)
    arrived = inserted & (traffic["trip_arrived"] >= 0)
    trips = _sum(due.double(), start, count)
    crossed = torch.zeros_like(trips)
    for number, gate in enumerate(world.districts.gates):
        if gate.source >= 0:
            crossed[:, gate.target] += traffic["gate_passed"][:, number]
    return {
        "lost_s": traffic["district_loss"].double() + _sum(late, start, count),
        "visits": trips + crossed,
        "trips": trips,
        "inserted": _sum(inserted.double(), start, count),
        "never_inserted": _sum((due & ~inserted).double(), start, count),
        "completed": _sum(arrived.double(), end, count),
        "running": _running(world, count),
        "queue": _queue(world, count),
    }


def _rows(world: "IntersectionsWorld") -> torch.Tensor:
    """The place of each trip among all demands' trips, [B, V]."""
    traffic = world.traffic
    trips = torch.arange(traffic["trip_inserted"].shape[1], device=world.device)
    last = max(0, len(world.problem.tables.vehicles.way) - 1)
    return (traffic["first_trip"][:, None] + trips).clamp(max=last).long()


def _departures(world: "IntersectionsWorld") -> tuple[torch.Tensor, torch.Tensor]:
    """Which trips were due so far, bool [B, V], and by how many s they are late."""
    traffic = world.traffic
    inserted, now = traffic["trip_inserted"], traffic["now"].double()[:, None]
    trips = torch.arange(inserted.shape[1], device=world.device)
    depart = torch.tensor(world.problem.tables.vehicles.depart_s.tolist(), device=world.device)[_rows(world)]
    due = (trips < traffic["trips"][:, None]) & ((inserted >= 0) | (depart < now))
    late = torch.where(inserted >= 0, inserted.double(), now) - depart
    return due, torch.where(due, late, 0.0)


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
    total = -world.counts["total"][:, :, QUEUE].double()
    site = torch.tensor(world.districts.site.tolist(), device=world.device)
    signals = torch.bincount(site, minlength=count).clamp(min=1)
    return _sum(total, site.expand_as(total), count) / signals / world.counts["seconds"].double().clamp(min=1)[:, None]
