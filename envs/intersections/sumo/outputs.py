"""What SUMO writes at the end of a run: trips, the run in numbers, time per edge."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.float64]
EdgeTimes = dict[str, tuple[int, float]]
"""Per edge: by how many vehicles it was left, and after how many seconds on average."""


@dataclass(frozen=True)
class Trips:
    """Every vehicle that was inserted, [V] each; unfinished ones with what they have lost so far.

    Attributes:
        id: SUMO's ids.
        depart_s: When it was inserted.
        arrival_s: When it arrived, negative where it has not.
        duration_s: From insertion to arrival.
        time_loss_s: Lost against driving at its own desired speed.
        waiting_s: Below 0.1 m/s.
        depart_delay_s: Between wanted departure and insertion.
        speed_factor: Of its driver on speed limits.
    """

    id: tuple[str, ...]
    depart_s: Column
    arrival_s: Column
    duration_s: Column
    time_loss_s: Column
    waiting_s: Column
    depart_delay_s: Column
    speed_factor: Column

    @property
    def completed(self) -> npt.NDArray[np.bool_]:
        """Who has arrived."""
        return self.arrival_s >= 0


@dataclass(frozen=True)
class Outcome:
    """A run in numbers; seconds per vehicle.

    Attributes:
        demand: Vehicles that were to depart.
        completed: Vehicles that arrived.
        running: On the road at the end.
        never_inserted: Found no room until the end.
        duration_s: Mean over completed trips.
        time_loss_s: Mean over completed trips.
        waiting_s: Mean over completed trips.
        depart_delay_s: Mean over inserted vehicles.
        delay_s: RESCO's: time loss and departure delay of who was inserted, the whole wait of who was not, over all.
    """

    demand: int
    completed: int
    running: int
    never_inserted: int
    duration_s: float
    time_loss_s: float
    waiting_s: float
    depart_delay_s: float
    delay_s: float


def read_trips(path: Path) -> Trips:
    """Reads a tripinfo file."""
    rows = [element.attrib for element in ET.parse(path).getroot().iter("tripinfo")]  # noqa: S314 - SUMO wrote it

    def column(name: str) -> Column:
        return np.array([float(row[name]) for row in rows])

    return Trips(
        id=tuple(row["id"] for row in rows),
        depart_s=column("depart"),
        arrival_s=column("arrival"),
        duration_s=column("duration"),
        time_loss_s=column("timeLoss"),
        waiting_s=column("waitingTime"),
        depart_delay_s=column("departDelay"),
        speed_factor=column("speedFactor"),
    )


def outcome(trips: Trips, departs_s: Column, begin_s: float, end_s: float) -> Outcome:
    """The run in numbers.

    Args:
        trips: Every vehicle that was inserted.
        departs_s: When each vehicle of the demand was to depart, those outside the hour included.
        begin_s: Of the hour.
        end_s: Of the hour.
    """
    due = departs_s[(departs_s >= begin_s) & (departs_s < end_s)]
    never = len(due) - len(trips.id)
    done = trips.completed
    # sum over those that never departed = all waits until the end, less the waits of those that did
    scheduled = trips.depart_s - trips.depart_delay_s
    outside = float(np.sum(end_s - due) - np.sum(end_s - scheduled)) if never else 0.0
    lost = float(np.sum(trips.time_loss_s + trips.depart_delay_s)) + outside
    return Outcome(
        demand=len(due),
        completed=int(done.sum()),
        running=int((~done).sum()),
        never_inserted=never,
        duration_s=_mean(trips.duration_s[done]),
        time_loss_s=_mean(trips.time_loss_s[done]),
        waiting_s=_mean(trips.waiting_s[done]),
        depart_delay_s=_mean(trips.depart_delay_s),
        delay_s=lost / max(1, len(due)),
    )


def _mean(values: Column) -> float:
    return float(values.mean()) if len(values) else 0.0


def edge_times(path: Path) -> EdgeTimes:
    """Reads time per edge from a vehroute file with exit times: fronts, the junction before the edge included."""
    sums: dict[str, tuple[int, float]] = {}
    for vehicle in ET.parse(path).getroot().iter("vehicle"):  # noqa: S314 - SUMO wrote it
        route = vehicle.findall(".//route")[-1]
        entered = float(vehicle.attrib["depart"])
        for edge, text in zip(route.attrib["edges"].split(), route.attrib["exitTimes"].split(), strict=True):
            left = float(text)
            if left < 0:
                break
            count, total = sums.get(edge, (0, 0.0))
            sums[edge] = (count + 1, total + left - entered)
            entered = left
    return {edge: (count, total / count) for edge, (count, total) in sums.items()}
