"""Who drives where and when: vehicle types, routes and trips, independent of how they were written down."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class VehicleType:
    """How a vehicle is built and driven (Krauss); defaults are SUMO's for passenger cars.

    Attributes:
        id: SUMO's id.
        vehicle_class: An entry of `network.CLASSES`.
        length: m.
        min_gap: m, kept to a standing leader.
        accel: m/s^2.
        decel: m/s^2, comfortable braking.
        emergency_decel: m/s^2, the hardest braking.
        sigma: Dawdling, 0 to 1.
        tau: s, reaction time.
        max_speed: m/s, of the vehicle.
        speed_factor: Mean of the factor on speed limits.
        speed_deviation: Its standard deviation; 0: all alike.
        speed_range: Bounds of the factor.
    """

    id: str
    vehicle_class: str = "passenger"
    length: float = 5.0
    min_gap: float = 2.5
    accel: float = 2.6
    decel: float = 4.5
    emergency_decel: float = 9.0
    sigma: float = 0.5
    tau: float = 1.0
    max_speed: float = 55.55
    speed_factor: float = 1.0
    speed_deviation: float = 0.1
    speed_range: tuple[float, float] = (0.2, 2.0)


@dataclass(frozen=True)
class Trip:
    """One vehicle that wants to depart.

    Attributes:
        id: SUMO's id.
        type: Index of its type.
        route: Index of its route.
        depart_s: When it wants to be inserted, s on the clock of the files.
        depart_lane: A number, `first`, `best`, `best_prob`, `free`, `random`, `allowed`; by default `best_prob`.
        depart_speed: m/s as a number, or `avg`, `max`, `desired`, `speedLimit`, `last`, `random`; default `avg`.
        depart_position: m of the front from the lane's start, or `base`, `last`, `random`, `random_free`, `free`.
        places: Of a trip whose file gives no route: the edges it begins, passes (`via`) and ends at. Its route is then
            the fastest one on an empty network, and SUMO finds another as traffic is. Empty where the route is given.
    """

    id: str
    type: int
    route: int
    depart_s: float
    depart_lane: str = "best_prob"
    depart_speed: str = "avg"
    depart_position: str = "base"
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class Closure:
    """A lane that nobody may enter for a while.

    Attributes:
        lane: Index of a normal lane.
        begin_s: s on the clock of the files, from when.
        end_s: Until when.
    """

    lane: int
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Demand:
    """All that departs, in order of departure.

    Attributes:
        types: Vehicle types.
        routes: Indices of the normal edges to pass, in order.
        trips: Sorted by `depart_s`, ties in the order of the files.
        digest: SHA-256 of the uncompressed files, in order.
        ignored: Elements and attributes of the files that are read over, by name, with their number.
        closures: Lanes that are closed for a while.
    """

    types: tuple[VehicleType, ...]
    routes: tuple[tuple[int, ...], ...]
    trips: tuple[Trip, ...]
    digest: str
    ignored: tuple[tuple[str, int], ...] = ()
    closures: tuple[Closure, ...] = ()

    def departures_s(self) -> npt.NDArray[np.float64]:
        """When each trip wants to depart, [V]."""
        return np.array([trip.depart_s for trip in self.trips])
