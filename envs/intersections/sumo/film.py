"""What happens in a simulation second by second, as flat arrays that a worker process can send at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsched.envs.intersections.sumo.gatekeeper import Gatekeeper
from fedsched.envs.intersections.sumo.seen import Second
from fedsched.envs.intersections.sumo.simulation import SumoSimulation

Stage = tuple[Mapping[int, str], int]
"""States to set, by signal, and the seconds they are then left alone: a decision is yellow, then the new green."""


@dataclass(frozen=True)
class Film:
    """T seconds, each as it stands when it is over; lists of one second after those of another.

    Attributes:
        on: Where each second's vehicles begin in the four columns below, [T + 1].
        trip: Indices of the vehicles in the demand.
        lane: Indices of the lanes of their fronts.
        position: m of the fronts from the lanes' starts.
        speed: m/s.
        entered_on: Where each second's insertions begin, [T + 1].
        entered: Indices of those that were inserted.
        factor: Theirs on speed limits.
        route_on: Where the route that SUMO found for each of them begins, [entered + 1]; given ones are not told.
        route: Indices of the edges.
        left_on: Where each second's arrivals begin, [T + 1].
        left: Indices of those that arrived.
        states: What the signals showed during each second, one after another as ASCII codes, uint8 [T, places].
    """

    on: npt.NDArray[np.int32]
    trip: npt.NDArray[np.int32]
    lane: npt.NDArray[np.int32]
    position: npt.NDArray[np.float64]
    speed: npt.NDArray[np.float64]
    entered_on: npt.NDArray[np.int32]
    entered: npt.NDArray[np.int32]
    factor: npt.NDArray[np.float64]
    route_on: npt.NDArray[np.int32]
    route: npt.NDArray[np.int32]
    left_on: npt.NDArray[np.int32]
    left: npt.NDArray[np.int32]
    states: npt.NDArray[np.uint8]


def film(simulation: SumoSimulation, stages: Sequence[Stage], gates: Gatekeeper | None = None) -> Film:
    """Lets a simulation pass through stages, up to its end; the gatekeeper may hold signals otherwise."""
    seen: list[Second] = []
    for states, seconds in stages:
        if gates is None or not seconds:
            simulation.set_states(states)
        if gates is not None:
            gates.want(states)
        for passed in range(min(seconds, simulation.setup.end_s - simulation.time_s)):
            if gates is not None:
                gates.hold(simulation, {} if passed else states)
            simulation.step()
            seen.append(simulation.second())
            if gates is not None:
                gates.watch(seen[-1])
    return cut(seen)


def cut(seen: Sequence[Second]) -> Film:
    """Seconds as one film."""
    routes = [route for second in seen for route in second.routes]
    states = np.frombuffer("".join(second.states for second in seen).encode("ascii"), dtype=np.uint8)
    return Film(
        on=_begins([second.trip for second in seen]),
        trip=_flat([second.trip for second in seen], np.int32),
        lane=_flat([second.lane for second in seen], np.int32),
        position=_flat([second.position for second in seen], np.float64),
        speed=_flat([second.speed for second in seen], np.float64),
        entered_on=_begins([second.entered for second in seen]),
        entered=_flat([second.entered for second in seen], np.int32),
        factor=_flat([second.factor for second in seen], np.float64),
        route_on=_begins(routes),
        route=_flat(routes, np.int32),
        left_on=_begins([second.left for second in seen]),
        left=_flat([second.left for second in seen], np.int32),
        states=states.reshape(len(seen), len(states) // max(1, len(seen))),
    )


def join(films: Sequence[Film]) -> Film:
    """Films one after another."""
    lists = {"on": "trip", "entered_on": "entered", "route_on": "route", "left_on": "left"}
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in Film.__dataclass_fields__:
        parts = [getattr(one, name) for one in films]
        if name not in lists:
            columns[name] = np.concatenate(parts)
            continue
        shifts = np.cumsum([0, *(len(getattr(one, lists[name])) for one in films)])
        inner = [part[:-1] + shift for part, shift in zip(parts, shifts, strict=False)]
        columns[name] = np.concatenate([*inner, shifts[-1:]]).astype(np.int32)
    return Film(**columns)


def _begins(lists: Sequence[Sequence[Any]]) -> npt.NDArray[np.int32]:
    return np.cumsum([0, *map(len, lists)]).astype(np.int32)


def _flat(lists: Sequence[Sequence[Any]], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.array([value for one in lists for value in one], dtype=kind)
