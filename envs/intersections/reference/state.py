"""What changes: vehicles, the lists of lanes, and the signals in force."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedsched.envs.intersections.tables import LinkKind, Tables

if TYPE_CHECKING:
    from fedsched.envs.intersections.reference.gates import Gates

NEVER = 1 << 30
"""A time that has not come: of vehicles that are not on a junction, or that gave up their right of way."""

STANDING = 0.1
"""m/s below which a vehicle stands (SUMO's halting speed)."""


@dataclass(slots=True)
class Item:
    """One link on a vehicle's way, as planned in this second.

    Attributes:
        link: The link.
        passing: m/s if it may be passed.
        waiting: m/s if it may not.
        request: Whether the vehicle wants to pass.
        arrival: s, when it arrives there.
        arrival_braking: s, when it would if it braked.
        arrival_speed: m/s.
        braking_speed: m/s on arrival if it braked.
        leave: s, when its rear has left the junction's lane.
        leave_speed: m/s.
        distance: m from the vehicle's front.
    """

    link: int
    passing: float
    waiting: float
    request: bool
    arrival: float = 0.0
    arrival_braking: float = 0.0
    arrival_speed: float = 0.0
    braking_speed: float = 0.0
    leave: float = 0.0
    leave_speed: float = 0.0
    distance: float = 0.0


@dataclass(slots=True, eq=False)
class Vehicle:
    """One vehicle on the road.

    Attributes:
        id: Its place in the demand.
        kind: Its type.
        way: First row of its route in `Ways`.
        last: Place of the last edge on its route.
        factor: Of its driver on speed limits.
        place: Place on the route of the normal edge it is on or has left last.
        lane: The lane of its front.
        position: m of the front from the lane's start.
        speed: m/s.
        behind: Lanes that its rear may still be on, latest first.
        junction_entry: s, when it entered the junction, or NEVER.
        conflict_entry: s, when it entered the part behind the waiting area, or NEVER.
        first_entry: s, when it entered the junction, given up or not.
        waiting: s of standing in a row.
        hindered: Whether it has to wait at its next link.
        wants: Whether it meant to pass the link at the end of its lane.
        look: m/s that decays slowly: how far ahead it looks for lanes.
        keep_right: Its inclination to the right lane.
        gain: Its inclination to a faster lane; left is positive.
        advice: m/s it is asked to keep below for the sake of lane changes, valid for one second.
        acceleration: m/s^2 of the last second.
        helps: The side to which it may change to let somebody in: -1 right, 1 left, 0 none.
        leads_blocked: Whether somebody behind it on another lane waits for it.
        change_blocked: Whether a change that its route urges was not possible.
        wants_side: The side that its route urges it to.
        left_space: m until that change must have happened.
        reserved: m of them that are kept for others.
    """

    id: int
    kind: int
    way: int
    last: int
    factor: float
    place: int = 0
    lane: int = 0
    position: float = 0.0
    speed: float = 0.0
    behind: list[int] = field(default_factory=list)
    junction_entry: int = NEVER
    conflict_entry: int = NEVER
    first_entry: int = NEVER
    waiting: int = 0
    hindered: bool = False
    wants: bool = False
    look: float = 0.0
    keep_right: float = 0.0
    gain: float = 0.0
    advice: float | None = None
    acceleration: float = 0.0
    helps: int = 0
    leads_blocked: bool = False
    change_blocked: bool = False
    wants_side: int = 0
    left_space: float = 0.0
    reserved: float = 0.0
    inserted: int = 0
    total_waiting: int = 0
    time_loss: float = 0.0
    stops: int = 0

    def advise(self, speed: float, decel: float) -> None:
        """Asks it to go no faster; what it cannot do within a second is ignored."""
        if speed >= max(0.0, self.speed - decel) - 1e-9 and (self.advice is None or speed < self.advice):
            self.advice = speed


class Street:
    """The static tables as Python lists, the vehicles lane by lane, and the signals' states."""

    def __init__(self, tables: Tables, gates: "Gates | None" = None) -> None:
        self.tables, self.gates = tables, gates
        lanes, links, ways, types, conflicts = tables.lanes, tables.links, tables.ways, tables.types, tables.conflicts
        self.length, self.limit = lanes.length.tolist(), lanes.speed.tolist()
        self.edge, self.number = lanes.edge.tolist(), lanes.index.tolist()
        self.right, self.left = lanes.right.tolist(), lanes.left.tolist()
        self.internal, self.waiting_lane = lanes.internal.tolist(), lanes.waiting.tolist()
        self.link_begin, self.entry_of = lanes.link_begin.tolist(), lanes.entry.tolist()
        self.source, self.next, self.target = links.source.tolist(), links.next.tolist(), links.target.tolist()
        self.link_kind, self.link_entry = links.kind.tolist(), links.entry.tolist()
        self.signal, self.cont = links.signal.tolist(), links.cont.tolist()
        self.has_foes, self.keep_clear = links.has_foes.tolist(), links.keep_clear.tolist()
        self.lane_after = self.target
        self.response_begin, self.response = links.response_begin.tolist(), links.response.tolist()
        self.foe_begin, self.foe = links.foe_begin.tolist(), links.foe.tolist()
        self.conflict_begin, self.conflict_lane = conflicts.begin.tolist(), conflicts.lane.tolist()
        self.conflict_kind = conflicts.kind.tolist()
        self.own_begin, self.own_end = conflicts.own_begin.tolist(), conflicts.own_end.tolist()
        self.other_begin, self.other_end = conflicts.other_begin.tolist(), conflicts.other_end.tolist()
        self.must_yield, self.other_yields = conflicts.must_yield.tolist(), conflicts.other_yields.tolist()
        self.way_edge, self.way_last = ways.edge.tolist(), ways.last.tolist()
        self.way_length, self.way_offset, self.way_link = ways.length.tolist(), ways.offset.tolist(), ways.link.tolist()
        self.size = [float(x) for x in types.length]
        self.gap = [float(x) for x in types.min_gap]
        self.accel = [float(x) for x in types.accel]
        self.decel = [float(x) for x in types.decel]
        self.emergency = [float(x) for x in types.emergency_decel]
        self.sigma = [float(x) for x in types.sigma]
        self.tau = [float(x) for x in types.tau]
        self.fastest = [float(x) for x in types.max_speed]
        self.link_state = [chr(c) for c in links.state.tolist()]
        self.junction = [
            links.junction[k] if i else -1 for k, i in zip(lanes.entry.tolist(), self.internal, strict=True)
        ]
        self.radius = lanes.radius.tolist()
        self.through = [self.length[n] if self.internal[n] else 0.0 for n in self.next]
        self.link_into = [-1] * len(self.length)
        for link, lane in enumerate(self.next):
            if self.internal[lane]:
                self.link_into[lane] = link
        self.after_waiting = [k >= 0 and self.link_kind[k] == LinkKind.INNER for k in self.link_into]
        self.before: list[list[int]] = [[] for _ in self.length]
        for source, target in zip(self.source, self.next, strict=True):
            self.before[target].append(source)
        self.lanes_of: dict[int, list[int]] = {}
        for lane, edge in enumerate(self.edge):
            self.lanes_of.setdefault(edge, []).append(lane)
        self.on: list[list[Vehicle]] = [[] for _ in self.length]
        self.rears: list[list[tuple[float, Vehicle]]] = [[] for _ in self.length]
        self.first_blocked: list[Vehicle | None] = [None for _ in self.length]
        self.last_blocked: list[Vehicle | None] = [None for _ in self.length]
        self.approaching: list[list[tuple[Vehicle, Item]]] = [[] for _ in self.source]
        self.open_ways = self.open_lanes = 0

    def allowed(self, vehicle: Vehicle, lane: int) -> float:
        """The vehicle's own limit on a lane, m/s."""
        return min(float(self.limit[lane]) * vehicle.factor, self.fastest[vehicle.kind])

    def is_red(self, link: int) -> bool:
        """Whether the link is closed by its signal."""
        return self.link_state[link] == "r"

    def is_green(self, link: int) -> bool:
        """Whether the link is green, protected or permissive."""
        return self.link_state[link] in "gG"

    def is_yellow(self, link: int) -> bool:
        """Whether the link is yellow."""
        return self.link_state[link] in "yY"

    def has_priority(self, link: int) -> bool:
        """Whether vehicles need not look for others: an upper-case state."""
        return "A" <= self.link_state[link] <= "Z"

    def link_from(self, vehicle: Vehicle, lane: int, place: int) -> int:
        """The link that the vehicle takes at the end of a lane; -1 where its route cannot go on from there."""
        if self.internal[lane]:
            return int(self.link_begin[lane])
        return int(self.way_link[vehicle.way + place][self.number[lane]])

    def row_at(self, vehicle: Vehicle) -> int:
        """The row of its route that tells which lanes lead on: inside a junction that of the edge behind it."""
        return vehicle.way + vehicle.place + int(self.internal[vehicle.lane])

    def number_on(self, lane: int) -> int:
        """The number of a lane, or of the one that a lane inside a junction leads to."""
        return int(self.number[self.target[self.link_begin[lane]] if self.internal[lane] else lane])

    def beside(self, lane: int, offset: int) -> int:
        """The lane so many to the left on the same edge; the lane itself where that edge has none."""
        other = lane + offset
        return other if 0 <= other < len(self.edge) and self.edge[other] == self.edge[lane] else lane

    def rear(self, vehicle: Vehicle) -> float:
        """M of its rear on the lane of its front; negative where it still sticks into lanes behind."""
        return vehicle.position - self.size[vehicle.kind]

    def sort(self, vehicles: list[Vehicle]) -> None:
        """Rebuilds the lists of all lanes: fronts first, and the rears that stick into lanes left already."""
        for queue in self.on:
            queue.clear()
        for rears in self.rears:
            rears.clear()
        for vehicle in vehicles:
            self.on[vehicle.lane].append(vehicle)
            offset = self.rear(vehicle)
            for lane in vehicle.behind:
                if offset >= 0:
                    break
                offset += self.length[lane]
                self.rears[lane].append((offset, vehicle))
        for queue in self.on:
            queue.sort(key=lambda v: (-v.position, v.id))
