"""What an episode is worth, by one definition each: those of SUMO's tripinfo, in seconds per vehicle.

Durations, time loss, waiting and stops are means over completed trips, departure delay over inserted ones; NaN where
there are none. RESCO's delay: (time loss and departure delay of all who were inserted, completed or not, and the wait
so far of all who are due and were not) over all of these.
"""

from typing import TYPE_CHECKING

import torch

from fedsched.envs.intersections.network import CLASSES

if TYPE_CHECKING:
    from fedsched.envs.intersections.problem import Problem
    from fedsched.envs.intersections.world import IntersectionsWorld

NAMES = (
    "completed", "running", "never_inserted", "duration_s", "time_loss_s", "waiting_s", "depart_delay_s",
    "resco_delay_s", "stops", "queue", "throughput_per_h", "fuel_l", "co2_kg", "gridlock",
)  # fmt: skip
"""queue: halting vehicles within 200 m of a signal, mean over seconds and controlled signals.
throughput_per_h: completed trips per hour. fuel_l, co2_kg: of all vehicles.
gridlock: 1 once a vehicle has stood inside a junction for more than 300 s, or once more than half of all on the road
(and 20 at least) have been standing for more than 300 s each."""

SPECIAL = ("bus", "emergency")
"""Classes with a duration and a delay of their own where the demand has them."""

CO2_KG_PER_L = 2.39
QUEUE = 1


def names(problem: "Problem") -> tuple[str, ...]:
    """What `of_world` returns for worlds of this problem."""
    extra = [f"{name}_{what}" for name in _present(problem) for what in ("duration_s", "resco_delay_s")]
    return (*NAMES, *extra)


def _present(problem: "Problem") -> list[str]:
    present = {CLASSES[number] for number in problem.tables.types.vehicle_class}
    return [name for name in SPECIAL if name in present]


def of_world(world: "IntersectionsWorld") -> dict[str, torch.Tensor]:
    """The figures of `names` for every row, float64 [B]."""
    traffic, problem = world.traffic, world.problem
    now = traffic["now"].double()
    inserted, arrived = traffic["trip_inserted"], traffic["trip_arrived"]
    row, depart = trips(world)
    kind = world.road["trip_type"][row].long()
    inside = inserted >= 0
    done = inside & (arrived >= 0)
    missing = ~inside & (depart < now[:, None])
    late = inserted.double() - depart
    lost = delays(world)
    duration = (arrived - inserted).double()
    found = {
        "completed": done.sum(1).double(),
        "running": traffic["count"].double(),
        "never_inserted": missing.sum(1).double(),
        "duration_s": _mean(duration, done),
        "time_loss_s": _mean(traffic["trip_loss"].double(), done),
        "waiting_s": _mean(traffic["trip_waiting"].double(), done),
        "depart_delay_s": _mean(late, inside),
        "resco_delay_s": _mean(lost, inside | missing),
        "stops": _mean(traffic["trip_stops"].double(), done),
        "queue": -world.counts["total"][:, :, QUEUE].mean(1) / world.counts["seconds"].clamp(min=1),
        "throughput_per_h": done.sum(1).double() * 3600.0 / now.clamp(min=1.0),
        "fuel_l": world.counts["fuel_ml"] / 1000.0,
        "co2_kg": world.counts["fuel_ml"] / 1000.0 * CO2_KG_PER_L,
        "gridlock": (world.counts["jammed"] > 0).double(),
    }
    for name in _present(problem):
        these = world.road["vehicle_class"][kind] == CLASSES.index(name)
        found[f"{name}_duration_s"] = _mean(duration, done & these)
        found[f"{name}_resco_delay_s"] = _mean(lost, (inside | missing) & these)
    return found


def delays(world: "IntersectionsWorld") -> torch.Tensor:
    """Of every trip so far: time loss and departure delay, or the wait of those who are due; float64 [B, V]."""
    inserted, now = world.traffic["trip_inserted"], world.traffic["now"].double()[:, None]
    depart = trips(world)[1]
    late = inserted.double() - depart
    return torch.where(inserted >= 0, late + _time_loss(world), (now - depart).clamp(min=0.0))


def trips(world: "IntersectionsWorld") -> tuple[torch.Tensor, torch.Tensor]:
    """Of every trip: its place among all trips, and when it wants to depart, never where a row has none; [B, V]."""
    traffic, vehicles = world.traffic, world.problem.tables.vehicles
    number = torch.arange(traffic["trip_inserted"].shape[1], device=world.device)
    row = (traffic["first_trip"][:, None] + number).clamp(max=max(0, len(vehicles.way) - 1)).long()
    depart = torch.as_tensor(vehicles.depart_s.copy(), device=world.device)[row]
    return row, torch.where(number < traffic["trips"][:, None], depart, torch.inf)


def _time_loss(world: "IntersectionsWorld") -> torch.Tensor:
    """Of every trip so far, those on the road included, [B, V]."""
    traffic = world.traffic
    loss = traffic["trip_loss"].double()
    slots = torch.arange(world.slots, device=world.device)
    driving = slots < traffic["count"][:, None]
    loss.scatter_add_(1, torch.where(driving, traffic["id"], 0).long(), torch.where(driving, traffic["time_loss"], 0.0))
    return loss


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    return torch.where(where, values, 0.0).sum(1) / where.sum(1)
