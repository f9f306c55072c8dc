"""One world, second by second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedsched.envs.intersections.reference.actuated import ActuatedSignals
from fedsched.envs.intersections.reference.changing import change_lanes
from fedsched.envs.intersections.reference.draws import DAWDLE, PLACE, speed_factor, uniform
from fedsched.envs.intersections.reference.gates import Gates
from fedsched.envs.intersections.reference.inserting import RANDOM_TRIES, depart_lane, places, try_insert
from fedsched.envs.intersections.reference.keepclear import keep_clear
from fedsched.envs.intersections.reference.moving import decide, final_speed, move
from fedsched.envs.intersections.reference.planning import plan
from fedsched.envs.intersections.reference.state import Street, Vehicle
from fedsched.envs.intersections.tables import LinkKind, Tables


@dataclass(frozen=True, slots=True)
class Trip:
    """What became of one vehicle: SUMO's tripinfo.

    Attributes:
        id: Its place in the demand.
        depart_delay_s: From when it wanted to depart until it was inserted.
        duration_s: From insertion to arrival, or until now.
        time_loss_s: Against driving at its own desired speed.
        waiting_s: Below 0.1 m/s.
        stops: How often it came to stand.
        arrived: Whether it has arrived.
    """

    id: int
    depart_delay_s: float
    duration_s: float
    time_loss_s: float
    waiting_s: float
    stops: int
    arrived: bool


class Simulation:
    """One world: the streets of one problem with the randomness of one seed.

    Attributes:
        now: Seconds since the begin of the episode; the next step is this second.
        running: Vehicles on the road, in order of insertion.
        waiting: Places in the demand of vehicles that want to depart and could not yet.
        trips: Trips that have ended.
    """

    def __init__(
        self,
        tables: Tables,
        begin_s: float,
        seed: int,
        factors: Sequence[float] | None = None,
        actuated: ActuatedSignals | None = None,
        gates: Gates | None = None,
    ) -> None:
        self.tables = tables
        self.begin_s = begin_s
        self.seed = seed
        self.street = Street(tables, gates)
        self.now = 0
        self.running: list[Vehicle] = []
        self.waiting: list[int] = []
        self.trips: list[Trip] = []
        self._next = self._change = 0
        self._factors = factors
        self._forced: dict[int, str] = {}
        self._actuated = actuated

    def set_state(self, signal: int, state: str) -> None:
        """Holds a signal in a state until it is set anew."""
        self._forced[signal] = state

    def states(self) -> list[str]:
        """The states of all signals in this second."""
        return [self._forced.get(n) or self._program(n) for n in range(len(self.tables.signals.offset_s))]

    def _program(self, signal: int) -> str:
        s = self.tables.signals
        first, end = int(s.phase_begin[signal]), int(s.phase_begin[signal + 1])
        cycle = float(s.duration_s[first:end].sum())
        at = (self.begin_s + self.now - float(s.offset_s[signal])) % cycle
        phase = first
        while phase < end - 1 and at >= s.duration_s[phase]:
            at -= float(s.duration_s[phase])
            phase += 1
        links = int(s.link_begin[signal + 1] - s.link_begin[signal])
        return "".join(chr(c) for c in s.state[phase, :links])

    def step(self) -> None:
        """One second."""
        street = self.street
        self._close_lanes()
        if self._actuated:
            self._forced.update(self._actuated.states(self.now))
        self._switch()
        plans = [plan(street, vehicle, self.now) for vehicle in self.running]
        for approaching in street.approaching:
            approaching.clear()
        for vehicle, made in zip(self.running, plans, strict=True):
            keep_clear(street, vehicle, made)
        for vehicle, made in zip(self.running, plans, strict=True):
            for item in made.items:
                if item.request:
                    street.approaching[item.link].append((vehicle, item))
        decisions = [decide(street, vehicle, made, self.now) for vehicle, made in zip(self.running, plans, strict=True)]
        left: list[Vehicle] = []
        for vehicle, made, decision in zip(self.running, plans, decisions, strict=True):
            speed = final_speed(street, vehicle, decision, uniform(self.seed, DAWDLE, vehicle.id, self.now))
            if move(street, vehicle, made, decision, speed, self.now):
                self.trips.append(self._trip(vehicle, arrived=True))
            else:
                left.append(vehicle)
        self.running = left
        if self._actuated:
            self._actuated.watch(street, self.running, self.now)
        street.sort(self.running)
        change_lanes(street, self.running)
        street.sort(self.running)
        self._insert()
        self.now += 1

    def _close_lanes(self) -> None:
        """Closes and opens lanes whose time has come: everyone reads the ways of the streets as they are then."""
        closures, street = self.tables.closures, self.street
        while closures.change_s[self._change] <= self.now:
            ways = int(closures.ways[self._change])
            for vehicle in self.running:
                vehicle.way += ways - street.open_ways
            street.open_ways, street.open_lanes = ways, int(closures.lanes[self._change])
            self._change += 1

    def _switch(self) -> None:
        street, links = self.street, self.tables.links
        if street.gates is not None:
            street.gates.close(street, self.now)
        states = self.states()
        for link in range(len(street.source)):
            signal = street.signal[link]
            if signal >= 0 and street.link_kind[link] == LinkKind.ENTRY:
                street.link_state[link] = states[signal][links.signal_index[link]]
        if street.gates is not None:
            street.gates.hold(street, self.now)

    def _insert(self) -> None:
        vehicles = self.tables.vehicles
        while self._next < len(vehicles.depart_s) and vehicles.depart_s[self._next] <= self.now:
            self.waiting.append(self._next)
            self._next += 1
        failed: set[int] = set()
        left: list[int] = []
        for trip in self.waiting:
            vehicle = self._vehicle(trip)
            lane = depart_lane(self.street, vehicle, int(vehicles.lane[trip]))
            if lane < 0 or lane in failed or not self._try(vehicle, lane):
                failed.add(lane)
                left.append(trip)
            else:
                vehicle.inserted = self.now
                self.running.append(vehicle)
        self.waiting = left

    def _try(self, vehicle: Vehicle, lane: int) -> bool:
        vehicles, trip = self.tables.vehicles, vehicle.id

        def draw(number: int) -> float:
            return uniform(self.seed, PLACE, trip, self.now * RANDOM_TRIES + number)

        tried = places(self.street, vehicle, lane, float(vehicles.position[trip]), draw)
        return try_insert(self.street, vehicle, lane, float(vehicles.speed[trip]), tried)

    def _vehicle(self, trip: int) -> Vehicle:
        v, t = self.tables.vehicles, self.tables.types
        kind = int(v.type[trip])
        if self._factors is not None:
            factor = self._factors[trip]
        else:
            factor = speed_factor(
                self.seed,
                trip,
                float(t.speed_factor[kind]),
                float(t.speed_deviation[kind]),
                float(t.speed_low[kind]),
                float(t.speed_high[kind]),
            )
        way = int(v.way[trip]) + self.street.open_ways
        return Vehicle(id=trip, kind=kind, way=way, last=int(v.edges[trip]) - 1, factor=factor)

    def _trip(self, vehicle: Vehicle, arrived: bool) -> Trip:
        wanted = float(self.tables.vehicles.depart_s[vehicle.id])
        return Trip(
            vehicle.id,
            vehicle.inserted - wanted,
            self.now - vehicle.inserted,
            vehicle.time_loss,
            vehicle.total_waiting,
            vehicle.stops,
            arrived,
        )

    def all_trips(self) -> list[Trip]:
        """Trips that have ended and those under way, in order of the demand."""
        trips = self.trips + [self._trip(vehicle, arrived=False) for vehicle in self.running]
        return sorted(trips, key=lambda trip: trip.id)

    def summary(self) -> Mapping[str, float]:
        """Means over completed trips, and RESCO's delay over all that were to depart.

        Source of the delay: Ault and Sharon, Reinforcement learning benchmarks for traffic signal control (2021).
        """
        done = list(self.trips)
        inserted = self.all_trips()
        never = [self.now - float(self.tables.vehicles.depart_s[trip]) for trip in self.waiting]
        delay = sum(t.time_loss_s + t.depart_delay_s for t in inserted) + sum(never)

        def mean(values: list[float]) -> float:
            return sum(values) / len(values) if values else 0.0

        return {
            "completed": len(done),
            "running": len(self.running),
            "never_inserted": len(never),
            "duration_s": mean([t.duration_s for t in done]),
            "time_loss_s": mean([t.time_loss_s for t in done]),
            "waiting_s": mean([t.waiting_s for t in done]),
            "depart_delay_s": mean([t.depart_delay_s for t in inserted]),
            "resco_delay_s": delay / max(1, len(inserted) + len(never)),
        }
