"""What districts of one city trade: inflow through their gates against room on their streets.

A quantity is whole vehicles; a value is milli-currency per vehicle, that is delay at `Market.delay_value`. The resource
of a district is `inflow <district>`: it alone offers it, its neighbours ask for it.

**Offer.** What keeps a district at no more than `Market.fill` of the vehicles that could stand on its lanes: the room
left now, plus those who leave, minus those who depart inside or come through gates that no signal guards, if the
coming window is like the epoch so far. It wants at least what one more vehicle costs the others: in a queue with
exponential times the delay W of each grows so that one more costs the rest W load / (1 - load), where load is the used
share of `fill` and W, a window at most, the standing vehicles over those who leave per second (Little, 1961). Those who
stand before a used gate do not count: they wait for others. `Market.least` of what the lanes behind the gates could
carry is offered for nothing and always, so that full districts do not wait for one another.

**Asks.** One per neighbour: the vehicles on the own streets whose next gate leads there and who can reach it within the
window at the speed limits, or as many as have crossed per second in the epoch so far plus those who stand, if that is
more. Held back, each of the former would lose the rest of the window, each of the others half of it: the mean is what
the ask is worth.

**Carrying out.** `begin` closes the own guarded gates for the window, `give` opens each for as many vehicles as were
settled; the signals keep that (see `inflow`). Vehicles drive by themselves, so there is nothing to take.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch

from fedsched.envs.core import Delivery, Lot, WorldError
from fedsched.envs.intersections.cutout import limit_times
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.tables import F64, I32, Flags
from fedsched.envs.intersections.world import IntersectionsWorld

SATURATION_PER_S = 0.5
"""Vehicles that a lane carries per second at most."""

_FULL_LOAD = 0.95
_STANDING = 0.1
_MILLI = 1000.0
_HOUR = 3600.0


@dataclass(frozen=True)
class Market:
    """What delay is worth, and how full a district may get.

    Attributes:
        delay_value: Currency per vehicle and hour.
        fill: Share of the vehicles that could stand on its lanes at which a district takes no more. Cities lose
            throughput somewhere above a quarter to a half (such as Geroliminis and Daganzo, 2008), grids whose
            junctions are kept clear later.
        least: Share of what the lanes behind its gates could carry that it takes anyway.
    """

    delay_value: float = 10.0
    fill: float = 0.6
    least: float = 0.03


class DistrictExchange:
    """States lots and carries out deliveries for one district of a shared world (contract: `envs.core.Exchange`).

    Args:
        problem: The whole city.
        districts: Of the city, those that the worlds have.
        home: Whose lots.
        market: What delay is worth.

    Raises:
        IntersectionsError: An unknown district.
    """

    def __init__(self, problem: Problem, districts: Districts, home: str, market: Market = Market()) -> None:
        self.market, self.home = market, home
        self._districts, self._own = districts, districts.index(home)
        self._trips_way, self._edge = problem.tables.vehicles.way, problem.tables.ways.edge
        self._gate, self._seconds = next_gates(problem, districts)
        self._internal = problem.tables.lanes.internal
        self._last = problem.tables.vehicles.way + problem.tables.vehicles.edges - 1
        self.places = standing_room(problem, districts)[self._own]
        self._out = [n for n, gate in enumerate(districts.gates) if gate.source == self._own]
        self._in = [n for n, gate in enumerate(districts.gates) if gate.target == self._own]

    def lots(self, world: IntersectionsWorld, row: int, window: tuple[int, int]) -> list[Lot]:
        """What the district offers and asks for in the coming epoch."""
        return [*self._offers(world, row, window), *self._asks(world, row, window)]

    def begin(self, world: IntersectionsWorld, row: int, window: tuple[int, int]) -> None:
        """Begins an epoch at the own gates: nobody gets out through guarded ones until deliveries say otherwise."""
        gates = self._districts.gates
        self._limit(world, row, {n: 0 if gates[n].guards else -1 for n in self._out}, window[1])

    def give(self, world: IntersectionsWorld, row: int, deliveries: list[Delivery]) -> dict[str, NoReturn]:
        """Lets the settled vehicles out until their windows end; nothing else moves.

        Raises:
            WorldError: A resource that the peer does not have.
        """
        limits: dict[int, int] = {}
        for delivery in deliveries:
            if delivery.resource != inflow_of(delivery.peer):
                raise WorldError(f"{delivery.peer} does not offer {delivery.resource!r}")
            gate = self._districts.gate(self.home, delivery.peer)
            limits[gate] = limits.get(gate, 0) + delivery.quantity
        if limits:
            self._limit(world, row, limits, max(delivery.window[1] for delivery in deliveries))
        return {}

    def take(self, world: IntersectionsWorld, row: int, home: str, cargo: NoReturn) -> None:
        """Raises WorldError: vehicles come by road."""
        del world, row, cargo
        raise WorldError(f"{self.home} takes nothing from {home}: vehicles come by road")

    def _limit(self, world: IntersectionsWorld, row: int, limits: dict[int, int], end_s: int) -> None:
        vehicles = torch.full((world.batch, len(self._districts.gates)), -1)
        where = torch.zeros_like(vehicles, dtype=torch.bool)
        for gate, number in limits.items():
            vehicles[row, gate], where[row, gate] = number, True
        world.limit_inflow(vehicles, torch.full((world.batch,), float(end_s), dtype=torch.float64), where)

    def _offers(self, world: IntersectionsWorld, row: int, window: tuple[int, int]) -> Iterator[Lot]:
        span, gates = float(window[1] - window[0]), self._districts.gates
        guarded = [n for n in self._in if gates[n].guards]
        at, _, speed = self._driving(world, row)
        here = self._districts.edge[self._edge[at]] == self._own
        inside, rates = int(here.sum()), self._rates(world, row)
        arrived, departed = self._ended(world, row)
        leaving = sum(rates[n] for n in self._out) + arrived
        coming = departed + sum(rates[n] for n in self._in if n not in guarded)
        most = self.market.fill * self.places
        lanes = sum(gates[n].lanes for n in guarded)
        least = math.floor(self.market.least * SATURATION_PER_S * lanes * span)
        room = math.floor(most - inside + span * (leaving - coming)) if lanes else 0
        held = np.isin(self._gate[at], np.flatnonzero(self._used(world, row)))
        standing = int((speed[here & ~held] < _STANDING).sum())
        delay_s = min(span, standing / leaving) if leaving > 0.0 else span * (standing > 0)
        load = min(_FULL_LOAD, inside / most)
        value = self._value(delay_s * load / (1.0 - load))
        if least and (value or room <= least):
            yield Lot("offer", inflow_of(self.home), least, 0, window)
            room -= least
        if room > 0:
            yield Lot("offer", inflow_of(self.home), room, value, window)

    def _asks(self, world: IntersectionsWorld, row: int, window: tuple[int, int]) -> Iterator[Lot]:
        span, rates = float(window[1] - window[0]), self._rates(world, row)
        at, ahead_s, speed = self._driving(world, row)
        waiting = self._pending(world, row)
        gate = np.concatenate((self._gate[at], self._gate[waiting]))
        left = span - np.concatenate((ahead_s, self._seconds[waiting]))
        stands = np.concatenate((speed < _STANDING, np.ones(len(waiting), dtype=np.bool_)))
        for number in self._out:
            if not self._districts.gates[number].guards:
                continue
            bound = (gate == number) & (left > 0.0)
            present = int(bound.sum())
            quantity = max(present, round(rates[number] * span) + int((stands & bound).sum()))
            if quantity:
                saved_s = float(left[bound].sum()) + (quantity - present) * span / 2
                peer = self._districts.names[self._districts.gates[number].target]
                yield Lot("ask", inflow_of(peer), quantity, self._value(saved_s / quantity), window)

    def _value(self, delay_s: float) -> int:
        return round(_MILLI * self.market.delay_value * delay_s / _HOUR)

    def _driving(self, world: IntersectionsWorld, row: int) -> tuple[I32, F64, F64]:
        """Of all vehicles on the road: their place on their way, s to their next gate, m/s.

        Who is inside a junction counts as on the edge behind it.
        """
        traffic = world.traffic
        count = int(traffic["count"][row])
        way, place, lane = (traffic[name][row, :count].cpu().numpy() for name in ("way", "place", "lane"))
        position, speed = (traffic[name][row, :count].double().cpu().numpy() for name in ("position", "speed"))
        within = self._internal[lane]
        at = way + place + within
        limit = world.problem.tables.lanes.speed[lane]
        done_s = np.where(within, 0.0, position / np.maximum(0.1, limit))
        return at, np.maximum(0.0, self._seconds[at] - done_s), speed

    def _pending(self, world: IntersectionsWorld, row: int) -> I32:
        """The first places on their way of those who wait to be inserted here."""
        traffic = world.traffic
        trips = traffic["pending"][row, : int(traffic["pending_count"][row])].cpu().numpy()
        rows = self._trips_way[trips + int(traffic["first_trip"][row])]
        return np.asarray(rows[self._districts.edge[self._edge[rows]] == self._own])

    def _rates(self, world: IntersectionsWorld, row: int) -> list[float]:
        """Vehicles per second through each gate in its epoch so far."""
        traffic = world.traffic
        passed = (traffic["gate_passed"][row] - traffic["gate_base"][row]).tolist()
        seconds = (traffic["now"][row] - traffic["gate_begin"][row]).tolist()
        return [number / max(1, time) for number, time in zip(passed, seconds, strict=True)]

    def _used(self, world: IntersectionsWorld, row: int) -> Flags:
        """Gates through which nobody may go just now."""
        shut: Flags = world.traffic["gate_closed"][row].cpu().numpy()
        return shut

    def _ended(self, world: IntersectionsWorld, row: int) -> tuple[float, float]:
        """Vehicles per second that arrived here, and that departed here, in the epoch so far."""
        traffic, now = world.traffic, int(world.traffic["now"][row])
        first, count = int(traffic["first_trip"][row]), int(traffic["trips"][row])
        begun = min((int(traffic["gate_begin"][row, n]) for n in (*self._out, *self._in)), default=0)
        rates = []
        for name, rows in (("trip_arrived", self._last), ("trip_inserted", self._trips_way)):
            second = traffic[name][row, :count].cpu().numpy()
            here = self._districts.edge[self._edge[rows[first : first + count]]] == self._own
            rates.append(float((here & (second >= begun)).sum()) / max(1, now - begun))
        return rates[0], rates[1]


def inflow_of(district: str) -> str:
    """What a district offers."""
    return f"inflow {district}"


def next_gates(problem: Problem, districts: Districts) -> tuple[I32, F64]:
    """For every place on every way: the next gate, -1 for none, and s at the speed limits to its stop line, [W]."""
    ways, edge_s = problem.tables.ways, limit_times(problem)
    numbers = {(gate.source, gate.target): n for n, gate in enumerate(districts.gates)}
    gate, seconds = np.full(len(ways.edge), -1, dtype=np.int32), np.zeros(len(ways.edge))
    where = districts.edge[ways.edge].tolist()
    for row in range(len(ways.edge) - 2, -1, -1):
        if ways.last[row]:
            continue
        if where[row] != where[row + 1]:
            gate[row], seconds[row] = numbers[where[row], where[row + 1]], edge_s[ways.edge[row]]
        else:
            gate[row], seconds[row] = gate[row + 1], edge_s[ways.edge[row]] + seconds[row + 1]
    return gate, seconds


def standing_room(problem: Problem, districts: Districts) -> F64:
    """Vehicles that could stand on the lanes of each district, at the mean length and gap of the demand, [D]."""
    lanes, types, vehicles = problem.tables.lanes, problem.tables.types, problem.tables.vehicles
    space = float((types.length + types.min_gap)[vehicles.type].mean()) if len(vehicles.type) else 7.5
    normal = ~lanes.internal
    return np.bincount(districts.edge[lanes.edge[normal]], lanes.length[normal], len(districts.names)) / space
