"""What districts of one city trade: inflow through their gates against room on their streets.

A quantity is whole vehicles; a value is milli-currency per vehicle, that is delay at `Market.delay_value`. The resource
of a district is `inflow <district>`: it alone offers it, its neighbours ask for it. Vehicles on approaches (see
`entrances`) are outside: they wait where they hinder nobody.

**Offer.** A district is as full as it may be when its vehicles drive at the share `Market.pace` of the limits: with the
flow as it is (vehicles times speed, the macroscopic fundamental diagram of Geroliminis and Daganzo, 2008), that is the
number inside times their pace over `pace`, and never less than `Market.fill` of those that could stand on its lanes.
It offers what would bring it there: that number, less those inside, plus those who leave in the window if it is like
the last one. It asks no price for it. `Market.least` of what the lanes behind its gates could carry is offered always.

**Asks.** One per neighbour: the vehicles on the own streets whose next gate leads there and who can reach it within the
window at the speed limits, but not many more than have crossed per second in the epoch so far (`GROWTH`, and one):
those in a queue do not all get there. Held back, each would lose the rest of the window: the mean is what the ask is
worth.

**Carrying out.** `keep` sets the limit of the own entrance, and the signals keep it. What is left of the own room once
the settled neighbours have come in may enter, less those whom this district may not pass on: they wait outside the city
and not in its streets, where they would hold up others. `Market.least` of what the entrance's lanes could carry may
always enter. Between districts nobody is held. Vehicles drive by themselves, so nothing else moves.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from fedsched.envs.core import Delivery, Lot, WorldError
from fedsched.envs.intersections.cutout import limit_times
from fedsched.envs.intersections.districts import OUTSIDE, Districts
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.tables import F64, I32, Flags
from fedsched.envs.intersections.world import IntersectionsWorld

SATURATION_PER_S = 0.5
"""Vehicles that a lane carries per second at most."""
GROWTH = 1.25
"""How many times as many may cross a gate in an epoch as in the one before."""

_MILLI = 1000.0
_HOUR = 3600.0


@dataclass(frozen=True)
class Market:
    """What delay is worth, and how full a district may get.

    Attributes:
        delay_value: Currency per vehicle and hour.
        pace: Share of the speed limits below which a district is too full, mean over its vehicles.
        fill: Share of the vehicles that could stand on its lanes up to which it is never too full.
        least: Share of what the lanes at its gates could carry that it takes anyway.
    """

    delay_value: float = 10.0
    pace: float = 0.15
    fill: float = 0.1
    least: float = 0.03


@dataclass
class _Epoch:
    """What a district has stated for a row.

    Attributes:
        now_s: When.
        entered: Vehicles that have come in since the start.
        inside: Vehicles inside.
        room: How many more may come in in the window.
        asked: How many it would pass on, by neighbour.
    """

    now_s: int
    entered: int
    inside: int
    room: int = 0
    asked: dict[str, int] = field(default_factory=dict)


class DistrictExchange:
    """States lots and keeps settled plans for one district of a shared world.

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
        lanes, vehicles, gates = problem.tables.lanes, problem.tables.vehicles, districts.gates
        self._edge, self._internal = problem.tables.ways.edge, lanes.internal
        self._gate, self._seconds = next_gates(problem, districts)
        approach = districts.approach
        self._inner: Flags = (districts.edge == self._own) & (True if approach is None else ~approach)
        self._limit_mps = np.zeros(len(districts.edge))
        np.maximum.at(self._limit_mps, lanes.edge[~lanes.internal], lanes.speed[~lanes.internal])
        self._trips_way = vehicles.way
        self.places = float(standing_room(problem, districts, self._inner)[self._own])
        self._in = [n for n, gate in enumerate(gates) if gate.target == self._own]
        self._out = [n for n, gate in enumerate(gates) if gate.source == self._own and gate.guards]
        self._entrance = [n for n in self._in if gates[n].source == OUTSIDE]
        self._kept = [n for n, gate in enumerate(gates) if gate.source == self._own] + self._entrance
        source = problem.tables.links.source
        guards = [list(gates[n].guards) for n in self._entrance]
        self._entrance_lanes = sum(len(np.unique(source[own])) for own in guards)
        self._gate_lanes = sum(gates[n].lanes for n in self._in if n not in self._entrance and gates[n].guards)
        self._stated: dict[int, _Epoch] = {}

    def lots(self, world: IntersectionsWorld, row: int, window: tuple[int, int]) -> list[Lot]:
        """What the district offers and asks for in the coming epoch."""
        return [*self._offers(world, row, window), *self._asks(world, row, window)]

    def keep(
        self,
        world: IntersectionsWorld,
        row: int,
        window: tuple[int, int],
        deliveries: Collection[Delivery],
        parties: Collection[str],
    ) -> None:
        """Sets the limits that a settled plan means for the own signals until its window ends.

        Args:
            world: Whose signals.
            row: Of the world; its lots have been stated for this window.
            window: Of the plan.
            deliveries: Its exchanges in which this district gives or takes.
            parties: Districts whose bids are in the plan; nobody is held back for the others.

        Raises:
            WorldError: A resource that its taker does not have.
        """
        given, taken = dict.fromkeys(parties, 0), 0
        for delivery in deliveries:
            taker = delivery.peer if delivery.side == "give" else self.home
            if delivery.resource != inflow_of(taker):
                raise WorldError(f"{taker} does not offer {delivery.resource!r}")
            if delivery.side == "give":
                given[taker] = given.get(taker, 0) + delivery.quantity
            else:
                taken += delivery.quantity
        stated, limits = self._stated[row], dict.fromkeys(self._kept, -1)
        if self.home in parties:
            held = sum(stated.asked.get(peer, 0) - quantity for peer, quantity in given.items())
            least = self._least(self._entrance_lanes, window)
            limits |= dict.fromkeys(self._entrance, max(stated.room - taken - held, least))
        self._limit(world, row, limits, window[1])

    def _limit(self, world: IntersectionsWorld, row: int, limits: dict[int, int], end_s: int) -> None:
        vehicles = torch.full((world.batch, len(self._districts.gates)), -1)
        where = torch.zeros_like(vehicles, dtype=torch.bool)
        for gate, number in limits.items():
            vehicles[row, gate], where[row, gate] = number, True
        world.limit_inflow(vehicles, torch.full((world.batch,), float(end_s), dtype=torch.float64), where)

    def _offers(self, world: IntersectionsWorld, row: int, window: tuple[int, int]) -> Iterator[Lot]:
        at, _, speed = self._driving(world, row)
        edges = self._edge[at]
        here = self._inner[edges]
        stated = _Epoch(int(world.traffic["now"][row]), self._entered(world, row), int(here.sum()))
        pace = float((speed[here] / self._limit_mps[edges[here]]).mean()) if stated.inside else 1.0
        most = max(self.market.fill * self.places, stated.inside * pace / self.market.pace)
        stated.room = math.floor(most - stated.inside + self._leaving(row, stated) * (window[1] - window[0]))
        self._stated[row] = stated
        quantity = max(stated.room, self._least(self._gate_lanes, window))
        if quantity > 0:
            yield Lot("offer", inflow_of(self.home), quantity, 0, window)

    def _leaving(self, row: int, stated: _Epoch) -> float:
        """Vehicles per second that have left or arrived since the last epoch: those who came less those who stayed."""
        before = self._stated.get(row)
        if before is None or before.now_s >= stated.now_s:
            before = _Epoch(0, 0, 0)
        gone = stated.entered - before.entered - (stated.inside - before.inside)
        return max(0, gone) / max(1, stated.now_s - before.now_s)

    def _least(self, lanes: int, window: tuple[int, int]) -> int:
        return math.floor(self.market.least * SATURATION_PER_S * lanes * (window[1] - window[0]))

    def _asks(self, world: IntersectionsWorld, row: int, window: tuple[int, int]) -> Iterator[Lot]:
        span, rates = float(window[1] - window[0]), self._rates(world, row)
        at, ahead_s, _ = self._driving(world, row)
        waiting = self._pending(world, row)
        gate = np.concatenate((self._gate[at], self._gate[waiting]))
        left = span - np.concatenate((ahead_s, self._seconds[waiting]))
        for number in self._out:
            bound = (gate == number) & (left > 0.0)
            quantity = min(int(bound.sum()), round(GROWTH * rates[number] * span) + 1)
            if quantity:
                peer = self._districts.names[self._districts.gates[number].target]
                self._stated[row].asked[peer] = quantity
                yield Lot("ask", inflow_of(peer), quantity, max(1, self._value(float(left[bound].mean()))), window)

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
        if at.max(initial=0) >= len(self._gate):
            raise WorldError("SUMO has found routes that no plan knows; give every trip a route of its own")
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

    def _entered(self, world: IntersectionsWorld, row: int) -> int:
        """Vehicles that have come in through all gates since the start, or have departed inside."""
        traffic = world.traffic
        first, count = int(traffic["first_trip"][row]), int(traffic["trips"][row])
        inserted = traffic["trip_inserted"][row, :count].cpu().numpy() >= 0
        inside = self._inner[self._edge[self._trips_way[first : first + count]]]
        return int((inserted & inside).sum()) + int(traffic["gate_passed"][row, self._in].sum())


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


def standing_room(problem: Problem, districts: Districts, where: Flags | None = None) -> F64:
    """Vehicles that could stand on the lanes of each district, at the mean length and gap of the demand, [D].

    Args:
        problem: The whole network.
        districts: Its districts.
        where: Which edges count; all by default.
    """
    lanes, types, vehicles = problem.tables.lanes, problem.tables.types, problem.tables.vehicles
    space = float((types.length + types.min_gap)[vehicles.type].mean()) if len(vehicles.type) else 7.5
    normal = ~lanes.internal
    length = lanes.length[normal] * (True if where is None else where[lanes.edge[normal]])
    return np.bincount(districts.edge[lanes.edge[normal]], length, len(districts.names)) / space
