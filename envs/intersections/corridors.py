"""Corridors as a matter of districts: who asks for which stop lines, what granting costs, what the signals then keep.

The district in which an event begins asks for every passage of its corridor in other districts; each of these offers
its own. The resource is `corridor <event> <number of the passage>`, a value is milli-currency, that is delay at
`CorridorRules.delay_value`.

**A vehicle.** One unit is one stop line, from `lead_s` before the vehicle is expected at the speed limits to `late_s`
after. It is worth weight x `saved_s`.

**Many vehicles.** One unit is `slot_s` of green while anybody is there; as many are asked for as the vehicles of the
window need at saturation, at most `share` of the time. It is worth weight x `saved_s` x vehicles in a unit.

**Offers.** What the others bear: vehicles now within 200 m whose movements no phase serves together with this one, each
held for half of `lead_s` or `slot_s`. A district decides by the same rule about stop lines of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedsched.envs.core import Delivery, Lot
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.events import Event, Passage, corridor
from fedsched.envs.intersections.exchange import SATURATION_PER_S
from fedsched.envs.intersections.priorities import EVERYBODY, Priority
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.tables import Flags
from fedsched.envs.intersections.world import IntersectionsWorld

MOST_LOTS = 16
"""Passages of one corridor that can be asked for at once: as many as fit into a bid."""

FOREVER = 1 << 30
_MILLI = 1000.0
_HOUR = 3600.0

Window = tuple[int, int]


@dataclass(frozen=True)
class CorridorRules:
    """How long priorities last, and what they are taken to be worth.

    Attributes:
        lead_s: A vehicle's movement is served from so long before it gets there at the speed limits: the yellow, the
            time until the signal decides, and the queue before it.
        late_s: How much later than at the speed limits it may come.
        saved_s: What a vehicle loses at a stop line without a priority (benchmarks.corridor: 6 to 9 s).
        slot_s: A unit of green.
        share: Of the time that the vehicles of an event may have first at one movement.
        delay_value: Currency per vehicle and hour, as `exchange.Market.delay_value`.
    """

    lead_s: int = 20
    late_s: int = 180
    saved_s: float = 8.0
    slot_s: int = 20
    share: float = 0.5
    delay_value: float = 10.0


class CorridorExchange:
    """One event's corridor in the worlds of one city: lots of all districts, and what becomes of a settled plan.

    Args:
        problem: The whole city.
        districts: Of the city.
        instance: In which the event happens.
        event: What happens.
        rules: Lead, values.
    """

    def __init__(
        self,
        problem: Problem,
        districts: Districts,
        instance: int,
        event: Event,
        rules: CorridorRules = CorridorRules(),
    ) -> None:
        self.event, self.rules = event, rules
        self.home = districts.names[int(districts.edge[event.edge])]
        self.passages = corridor(problem, instance, event)
        self._district = [districts.names[int(districts.site[one.signal])] for one in self.passages]
        self._held = [held_links(problem, one) for one in self.passages]
        self._lanes = [len(problem.signals[one.signal].movements[one.movement].lanes) for one in self.passages]

    def lots(self, world: IntersectionsWorld, row: int, window: Window) -> dict[str, list[Lot]]:
        """What each district asks for and offers for this corridor in a window of time, by name."""
        found: dict[str, list[Lot]] = {}
        for n in self._open(window):
            if self._district[n] == self.home:
                continue
            if len(found.setdefault(self.home, [])) == MOST_LOTS:
                break
            quantity, span = self._quantity(n, window), self._span(n, window)
            found[self.home].append(Lot("ask", self.resource(n), quantity, self._worth(n, window), span))
            offer = Lot("offer", self.resource(n), quantity, self._cost(world, row, n), span)
            found.setdefault(self._district[n], []).append(offer)
        return found

    def priorities(
        self, world: IntersectionsWorld, row: int, window: Window, settled: Sequence[Delivery]
    ) -> list[Priority]:
        """What the signals serve first: the own district's stop lines that are worth it, and those that were settled.

        Args:
            world: As it was when lots were stated.
            row: Which one.
            window: As in `lots`.
            settled: What the home district was granted.
        """
        granted = {delivery.resource: delivery.quantity for delivery in settled}
        found = []
        for n in self._open(window):
            quantity = granted.get(self.resource(n), 0)
            if self._district[n] == self.home:
                wanted = self._quantity(n, window)
                quantity = wanted if self._worth(n, window) > self._cost(world, row, n) else 0
            if quantity:
                found.append(self._priority(n, quantity, window))
        return found

    def resource(self, number: int) -> str:
        """What is traded for a passage."""
        return f"corridor {self.event.id} {number}"

    def _open(self, window: Window) -> list[int]:
        """Passages that signals would serve at some time of a window, the lead included."""
        lead, late = self.rules.lead_s, self.rules.late_s
        return [
            n for n, one in enumerate(self.passages) if one.first_s - lead < window[1] and one.last_s + late > window[0]
        ]

    def _span(self, n: int, window: Window) -> Window:
        """From when until when a passage is asked for."""
        one, lead = self.passages[n], self.rules.lead_s
        begin = max(window[0], math.floor(one.first_s) - lead)
        return begin, max(begin + 1, min(window[1], math.ceil(one.last_s) + self.rules.late_s))

    def _quantity(self, n: int, window: Window) -> int:
        if self.passages[n].trip != EVERYBODY:
            return 1
        begin, end = self._span(n, window)
        most = math.floor(self.rules.share * (end - begin) / self.rules.slot_s)
        return max(1, min(math.ceil(self._vehicles(n, window) / self._room(n)), most))

    def _worth(self, n: int, window: Window) -> int:
        """Of one unit."""
        served = min(self._vehicles(n, window) / self._quantity(n, window), self._room(n))
        return self._value(self.event.weight * self.rules.saved_s * served)

    def _vehicles(self, n: int, window: Window) -> float:
        """Of the event in this window, if they come evenly."""
        begin, end = self._span(n, window)
        whole = self._span(n, (0, FOREVER))
        return self.passages[n].vehicles * (end - begin) / (whole[1] - whole[0])

    def _room(self, n: int) -> float:
        """Vehicles that a unit of green serves."""
        return max(1.0, SATURATION_PER_S * self._lanes[n] * self.rules.slot_s)

    def _cost(self, world: IntersectionsWorld, row: int, n: int) -> int:
        held = float(world.counts["seen"][row].cpu().numpy()[self._held[n]].sum())
        each_s = self.rules.lead_s if self.passages[n].trip != EVERYBODY else self.rules.slot_s
        return self._value(held * each_s / 2)

    def _value(self, delay_s: float) -> int:
        return round(_MILLI * self.rules.delay_value * delay_s / _HOUR)

    def _priority(self, n: int, quantity: int, window: Window) -> Priority:
        one, rules = self.passages[n], self.rules
        begin, end = self._span(n, window)
        if one.trip != EVERYBODY:
            return Priority(one.signal, one.movement, begin, end, one.trip, one.place, rules.lead_s)
        every = max(rules.slot_s, (end - begin) // quantity)
        return Priority(one.signal, one.movement, begin, end, every=every, lasts=rules.slot_s)


def held_links(problem: Problem, passage: Passage) -> Flags:
    """Which signal links no phase serves together with a passage, among the phases that serve it best, [Q]."""
    served = problem.served[passage.signal]
    best = served[:, passage.movement] == served[:, passage.movement].max()
    held = ~(served[best] > 0).any(0)
    signal = problem.signals[passage.signal]
    links = [link for e, own in enumerate(signal.links) if held[e] for link in own]
    found: Flags = np.isin(problem.signal_links, links)
    return found
