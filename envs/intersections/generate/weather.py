"""Weather: slower and more cautious driving, as other vehicle types on the same streets."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedsched.envs.intersections.demand import VehicleType
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, make_problem

REFERENCE_SPEED = 50 / 3.6
"""m/s at which a weather's capacity holds."""


@dataclass(frozen=True)
class Weather:
    """What a weather does to driving.

    Attributes:
        speed: Factor on the speeds that drivers want.
        capacity: Factor on the vehicles that pass a line in an hour of dense traffic.
        grip: m/s^2, hardest braking that the road allows.
        gap: Factor on the gap kept to a standing leader.
    """

    speed: float = 1.0
    capacity: float = 1.0
    grip: float = 9.0
    gap: float = 1.0


WEATHERS = {
    "clear": Weather(),
    "rain": Weather(speed=0.90, capacity=0.93, grip=5.5),
    "heavy_rain": Weather(speed=0.825, capacity=0.86, grip=5.0, gap=1.2),
    "snow": Weather(speed=0.65, capacity=0.78, grip=2.9, gap=1.4),
    "fog": Weather(speed=0.89, capacity=0.88),
}
"""Speeds on wet and on snowy streets: 10 to 25 % and 30 to 40 % slower (US Federal Highway Administration, How do
weather events impact roads?): the low end for rain, the middles for heavy rain and snow. Capacities: 7.24, 14.13 and
22.43 % less with 0.10 to 0.25 and above 0.25 inch of rain and above 0.5 inch of snow an hour (HCM 2010, exhibit 10-15,
after FHWA-HOP-13-042, table 33; measured on freeways). Fog: 10 to 12 % slower and 12 % less below a quarter mile
(Agarwal, Maze and Souleyrette 2005). Grip and gaps are our assumption.
"""


def in_weather(types: Sequence[VehicleType], name: str) -> tuple[VehicleType, ...]:
    """The types as they drive in a weather.

    Wanted speeds get the weather's factor. The reaction time grows until a dense column at 50 km/h dry loses exactly
    the weather's share of capacity at its new speed. Nobody brakes harder than the road allows, comfortable braking
    stays in the same proportion to it, and so does acceleration.

    Raises:
        IntersectionsError: An unknown weather.
    """
    if name not in WEATHERS:
        raise IntersectionsError(f"no weather {name!r}; write one of {', '.join(WEATHERS)}")
    return tuple(_driven(kind, WEATHERS[name]) for kind in types)


def _driven(kind: VehicleType, weather: Weather) -> VehicleType:
    if weather == WEATHERS["clear"]:
        return kind
    hold = min(1.0, weather.grip / kind.emergency_decel)
    gap = kind.min_gap * weather.gap
    headway = kind.tau + (kind.length + kind.min_gap) / REFERENCE_SPEED
    tau = headway / weather.capacity - (kind.length + gap) / (REFERENCE_SPEED * weather.speed)
    return replace(
        kind,
        speed_factor=kind.speed_factor * weather.speed,
        tau=max(kind.tau, tau),
        min_gap=gap,
        accel=kind.accel * hold,
        decel=kind.decel * hold,
        emergency_decel=kind.emergency_decel * hold,
    )


def problem_in_weather(problem: Problem, name: str) -> Problem:
    """A problem of any city in a weather: its demands with other vehicle types.

    Raises:
        IntersectionsError: An unknown weather.
    """
    demands = [
        replace(demand, types=in_weather(demand.types, name), digest=_digest(demand.digest, name))
        for demand in problem.demands
    ]
    controlled = [signal.id for signal in problem.signals]
    return make_problem(problem.network, demands, problem.begin_s, problem.end_s, controlled, problem.name)


def _digest(demand: str, weather: str) -> str:
    return hashlib.sha256(f"{demand}\n{weather}".encode()).hexdigest()
