"""Limits at gates in SUMO: counts who passes their stop lines, and shows yellow and then red once a limit is used.

By the rule of `kernels.gates`, second by second: a gate whose limit is used closes before the next second, its links
get yellow if they may be passed then, and stay red until its epoch ends. It runs where SUMO does, in the worker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedsched.envs.intersections.sumo.seen import Second
from fedsched.envs.intersections.sumo.simulation import SumoError, SumoSimulation

Limits = tuple[tuple[int, int, int], ...]
"""Of each gate: vehicles that may cross, -1 for no limit; the seconds in which its epoch begins and ends."""


@dataclass(frozen=True)
class Guard:
    """A link that leads through a gate.

    Attributes:
        signal: Index of the signal that rules it.
        place: In that signal's state.
        yellow_s: Seconds of yellow before red.
    """

    signal: int
    place: int
    yellow_s: int


@dataclass(frozen=True)
class GatePlan:
    """What does not change in a simulation.

    Attributes:
        guards: Of each gate.
        gate_of: The gate between two edges of a route, where there is one.
        edge: Edge of each lane; inside junctions the one before.
        inside: Lanes inside junctions.
        routes: Edges of the route of each vehicle.
    """

    guards: tuple[tuple[Guard, ...], ...]
    gate_of: Mapping[tuple[int, int], int]
    edge: tuple[int, ...]
    inside: frozenset[int]
    routes: tuple[tuple[int, ...], ...]


@dataclass
class _Gate:
    """A gate now."""

    limits: tuple[int, int, int] = (-1, 0, 0)
    passed: int = 0
    base: int = 0
    closed: bool = False
    yellow: list[int] = field(default_factory=list)


class Gatekeeper:
    """Keeps the limits of one simulation; `hold` before every second, `watch` after it."""

    def __init__(self, plan: GatePlan, begin_s: int) -> None:
        self._plan, self._begin = plan, begin_s
        self._gates = [_Gate(yellow=[0] * len(guards)) for guards in plan.guards]
        self._lines: dict[int, int] = {}
        self._place: dict[int, int] = {}
        self._wanted: dict[int, str] = {}
        self._held: set[int] = set()
        self._found: dict[int, tuple[int, ...]] = {}

    def limit(self, limits: Limits) -> None:
        """Takes new limits; an epoch that begins counts from now."""
        for gate, new in zip(self._gates, limits, strict=True):
            if new != gate.limits:
                gate.limits, gate.base = new, gate.passed

    def want(self, states: Mapping[int, str]) -> None:
        """Notes what signals are to show where no gate is closed."""
        self._wanted |= states

    def hold(self, simulation: SumoSimulation, states: Mapping[int, str]) -> None:
        """Before a second: shows these states, but yellow and red at closed gates, and no longer at those that opened.

        Raises:
            SumoError: A limit at a signal that runs its program.
        """
        now = simulation.time_s - self._begin
        self._close(now, simulation)
        shown = dict(states)
        held: dict[int, list[str]] = {}
        for gate, guards in zip(self._gates, self._plan.guards, strict=True):
            for number, guard in enumerate(guards if gate.closed else ()):
                state = held.setdefault(guard.signal, list(self._state(guard.signal)))
                passable = state[guard.place] not in "rs"
                state[guard.place] = "y" if passable and now < gate.yellow[number] else "r"
        shown |= {signal: self._wanted[signal] for signal in self._held - held.keys()}
        shown |= {signal: "".join(state) for signal, state in held.items()}
        self._held = set(held)
        if shown:
            simulation.set_states(shown)

    def watch(self, second: Second) -> None:
        """Counts the stop lines that vehicles have passed in a second."""
        self._found |= {trip: tuple(own) for trip, own in zip(second.entered, second.routes, strict=True) if own}
        for trip, lane in zip(second.trip, second.lane, strict=True):
            self._pass(trip, self._plan.edge[lane], lane in self._plan.inside)
        for trip in second.left:
            if trip in self._lines:
                self._count(trip, len(self._route(trip)) - 1)
                del self._lines[trip], self._place[trip]

    def _pass(self, trip: int, edge: int, inside: bool) -> None:
        route, place = self._route(trip), self._place.get(trip, 0)
        while place < len(route) - 1 and route[place] != edge:
            place += 1
        self._place[trip] = place
        if trip not in self._lines:
            self._lines[trip] = place + inside
        elif self._lines[trip] != place + inside:
            self._count(trip, place + inside)

    def _route(self, trip: int) -> tuple[int, ...]:
        return self._found.get(trip) or self._plan.routes[trip]

    def _count(self, trip: int, lines: int) -> None:
        route = self._route(trip)
        for k in range(self._lines[trip], min(lines, len(route) - 1)):
            gate = self._plan.gate_of.get((route[k], route[k + 1]))
            if gate is not None:
                self._gates[gate].passed += 1
        self._lines[trip] = lines

    def _close(self, now: int, simulation: SumoSimulation) -> None:
        """Before the signals switch: at gates that are used up from now on, links that may be passed will be yellow."""
        shown: Sequence[str] = ()
        for gate, guards in zip(self._gates, self._plan.guards, strict=True):
            most, _, end = gate.limits
            used = most >= 0 and now < end and gate.passed - gate.base >= most
            if used and not gate.closed:
                shown = shown or simulation.states()
                gate.yellow = [
                    now + guard.yellow_s * (shown[guard.signal][guard.place] not in "rs") for guard in guards
                ]
            gate.closed = used

    def _state(self, signal: int) -> str:
        if signal not in self._wanted:
            raise SumoError("SUMO's signals keep limits only where they decide; use another timing than 'program'")
        return self._wanted[signal]
