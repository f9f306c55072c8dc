"""What a running simulation shows: a moment, a second that has passed, the signals."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FAR = np.inf
"""Distance to the next signal of a vehicle that has none on its way."""


@dataclass(frozen=True)
class OnRoad:
    """Everyone on the road at one moment, [V] each: what observations and controllers are computed from.

    Attributes:
        trip: Index of the vehicle in the demand.
        lane: Index of the lane of its front.
        position: m of the front from the lane's start.
        speed: m/s.
        waiting_s: s of standing (below 0.1 m/s) in a row.
        type: Index of its type.
        signal: Index of the next signal on its route, -1 for none.
        signal_index: Place of its movement in that signal's state, -1 for none.
        distance: m from its front to that signal's line; FAR for none.
    """

    trip: npt.NDArray[np.int32]
    lane: npt.NDArray[np.int32]
    position: npt.NDArray[np.float64]
    speed: npt.NDArray[np.float64]
    waiting_s: npt.NDArray[np.float64]
    type: npt.NDArray[np.int32]
    signal: npt.NDArray[np.int32]
    signal_index: npt.NDArray[np.int32]
    distance: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Second:
    """A second that has passed: what the world needs to know of it.

    Attributes:
        trip: Indices in the demand of all on the road.
        lane: Indices of the lanes of their fronts.
        position: m of their fronts from the lanes' starts.
        speed: m/s.
        entered: Indices of those that were inserted.
        factor: Theirs on speed limits.
        routes: Theirs, as indices of edges, where SUMO has found them; empty for those whose route was given.
        left: Indices of those that arrived.
        states: What the signals showed, one after another.
    """

    trip: list[int]
    lane: list[int]
    position: list[float]
    speed: list[float]
    entered: list[int]
    factor: list[float]
    routes: list[list[int]]
    left: list[int]
    states: str


@dataclass(frozen=True)
class SignalPlan:
    """A signal as SUMO has it.

    Attributes:
        id: SUMO's id.
        phases: Duration in s and state of each phase of the first program.
        leads_to: Per place in the state, indices of the lanes reached from there.
        comes_from: Per place in the state, indices of the lanes it controls.
    """

    id: str
    phases: tuple[tuple[float, str], ...]
    leads_to: tuple[tuple[int, ...], ...]
    comes_from: tuple[tuple[int, ...], ...]
