"""Shapes of generated cities: grid, arterial, ring, irregular."""

import cmath
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields

from fedsched.envs.core.streams import stream
from fedsched.envs.intersections.generate.checks import check_fields
from fedsched.envs.intersections.generate.netxml import build_network, network_text
from fedsched.envs.intersections.generate.planar import draw_planar
from fedsched.envs.intersections.generate.streets import Node, Road, Rule, Streets
from fedsched.envs.intersections.network import IntersectionsError, Network

_BOUNDS: dict[str, tuple[float, float]] = {
    "rows": (1, 40), "columns": (1, 40), "crossings": (1, 100), "arms": (3, 8), "junctions": (2, 400),
    "lanes": (1, 4), "side_lanes": (1, 4), "arm_lanes": (1, 4), "spacing_m": (80, 2000), "side_m": (40, 2000),
    "arm_m": (60, 2000), "radius_m": (100, 5000), "pocket_m": (0, 300), "speed": (5, 40), "side_speed": (5, 40),
    "cycle_s": (30, 300), "unevenness": (0, 0.5), "signal_share": (0, 1),
}  # fmt: skip
"""Least and greatest value of every parameter."""


@dataclass(frozen=True)
class City(ABC):
    """What all cities have: parameters within bounds, and a network per seed."""

    def __post_init__(self) -> None:
        """Raises IntersectionsError for a parameter of the wrong kind or out of its bounds."""
        check_fields(self, _BOUNDS)

    @abstractmethod
    def streets(self, seed: int = 0) -> Streets:
        """Nodes and roads."""

    def text(self, seed: int = 0) -> str:
        """The content of its `.net.xml`, for SUMO.

        Raises:
            IntersectionsError: The parameters leave no room for the junctions.
        """
        return network_text(self.streets(seed))

    def network(self, seed: int = 0) -> Network:
        """The network, read from its text.

        Raises:
            IntersectionsError: As `text`.
        """
        return build_network(self.streets(seed), type(self).__name__.lower())


@dataclass(frozen=True)
class Grid(City):
    """Rows and columns of signals, with an arm to the outside at every end; the same for every seed.

    Attributes:
        rows: Of junctions.
        columns: Of junctions.
        lanes: Of each direction.
        spacing_m: Between neighbours, and of the arms.
        pocket_m: m with a lane for turning left before every junction; 0: none.
        speed: m/s, limit.
        cycle_s: Of the signals.
    """

    rows: int = 3
    columns: int = 3
    lanes: int = 2
    spacing_m: float = 200.0
    pocket_m: float = 45.0
    speed: float = 13.89
    cycle_s: int = 90

    def streets(self, seed: int = 0) -> Streets:
        """Nodes and roads."""
        del seed  # nothing is drawn
        plan = _Plan()
        gap = self.spacing_m
        at = {
            (r, c): plan.node(f"r{r}c{c}", complex(c * gap, r * gap), Rule.SIGNAL)
            for r in range(self.rows)
            for c in range(self.columns)
        }
        for r in range(-1, self.rows + 1):
            for c in range(-1, self.columns + 1):
                if (r in (-1, self.rows)) != (c in (-1, self.columns)):
                    side = "south" if r < 0 else "north" if r == self.rows else "west" if c < 0 else "east"
                    place = complex(c * gap, r * gap)
                    at[r, c] = plan.node(f"{side}{c if side in ('south', 'north') else r}", place, Rule.END)
        for (r, c), one in at.items():
            for other in (at.get((r, c + 1)), at.get((r + 1, c))):
                if other is not None and Rule.SIGNAL in (plan.nodes[one].rule, plan.nodes[other].rule):
                    plan.road(one, other, self.lanes, self.speed, 1, self.pocket_m)
        return plan.streets(self.cycle_s)


@dataclass(frozen=True)
class Arterial(City):
    """A main road that side streets cross at signals; `programs.green_wave` coordinates them.

    Attributes:
        crossings: Number of side streets.
        lanes: Of each direction of the main road.
        side_lanes: Of the side streets.
        spacing_m: Mean distance of crossings.
        unevenness: Greatest share by which a distance differs from the mean; the seed draws it.
        side_m: Length of a side street on either side.
        pocket_m: m with a lane for turning left off the main road; 0: none.
        speed: m/s, limit of the main road.
        side_speed: m/s, limit of the side streets.
        cycle_s: Of the signals.
    """

    crossings: int = 5
    lanes: int = 3
    side_lanes: int = 1
    spacing_m: float = 300.0
    unevenness: float = 0.2
    side_m: float = 150.0
    pocket_m: float = 45.0
    speed: float = 16.67
    side_speed: float = 13.89
    cycle_s: int = 90

    def streets(self, seed: int = 0) -> Streets:
        """Nodes and roads."""
        plan = _Plan()
        drawn = stream(seed, "intersections/arterial").uniform(-1.0, 1.0, self.crossings + 1)
        gaps = [self.spacing_m * (1 + self.unevenness * float(share)) for share in drawn]
        main = [plan.node("west", 0j, Rule.END)]
        x = 0.0
        for n in range(self.crossings):
            x += gaps[n]
            main.append(plan.node(f"x{n}", complex(x), Rule.SIGNAL))
        main.append(plan.node("east", complex(x + gaps[-1]), Rule.END))
        for one, other in itertools.pairwise(main):
            plan.road(one, other, self.lanes, self.speed, 2, self.pocket_m)
        for n, crossing in enumerate(main[1:-1]):
            for side, way in (("north", 1j), ("south", -1j)):
                end = plan.node(f"{side}{n}", plan.nodes[crossing].place + way * self.side_m, Rule.END)
                plan.road(crossing, end, self.side_lanes, self.side_speed, 1, 0.0)
        return plan.streets(self.cycle_s)


@dataclass(frozen=True)
class Ring(City):
    """A ring road, arms that cross it on their way to a hub, and side streets between; the same for every seed.

    Signals rule where arms meet the ring and at the hub; side streets give way to the ring.

    Attributes:
        arms: Number of radial roads.
        lanes: Of each direction of the ring.
        arm_lanes: Of the arms.
        radius_m: Of the ring, which is drawn straight from junction to junction.
        arm_m: Length of an arm outside the ring; of side streets, half of it.
        side_streets: Whether there is one between every two arms; else the ring only bends there.
        speed: m/s, limit.
        cycle_s: Of the signals.
    """

    arms: int = 6
    lanes: int = 2
    arm_lanes: int = 1
    radius_m: float = 250.0
    arm_m: float = 200.0
    side_streets: bool = True
    speed: float = 13.89
    cycle_s: int = 90

    def streets(self, seed: int = 0) -> Streets:
        """Nodes and roads."""
        del seed  # nothing is drawn
        plan = _Plan()
        hub = plan.node("hub", 0j, Rule.SIGNAL)
        ring: list[int] = []
        for n in range(self.arms):
            way = cmath.rect(1.0, math.pi / 2 - 2 * math.pi * n / self.arms)
            ring.append(plan.node(f"ring{n}", way * self.radius_m, Rule.SIGNAL))
            end = plan.node(f"arm{n}", way * (self.radius_m + self.arm_m), Rule.END)
            plan.road(hub, ring[-1], self.arm_lanes, self.speed, 1, 0.0)
            plan.road(ring[-1], end, self.arm_lanes, self.speed, 1, 0.0)
            way *= cmath.rect(1.0, -math.pi / self.arms)
            ring.append(plan.node(f"give_way{n}", way * self.radius_m, Rule.PRIORITY))
            if self.side_streets:
                end = plan.node(f"side{n}", way * (self.radius_m + self.arm_m / 2), Rule.END)
                plan.road(ring[-1], end, 1, self.speed, 1, 0.0)
        for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
            plan.road(one, other, self.lanes, self.speed, 2, 0.0)
        return plan.streets(self.cycle_s)


@dataclass(frozen=True)
class Irregular(City):
    """A random planar network: junctions of 3 to 5 roads of unlike length, lanes and rank, another one per seed.

    Attributes:
        junctions: Number of them.
        spacing_m: Mean distance of neighbours.
        lanes: Of each direction of main roads; others have one.
        signal_share: Share of junctions with a signal, the busiest; all of more than three roads have one, since there
            everybody could wait for somebody else. The others have a main road with priority.
        speed: m/s, limit of main roads; others have 80 % of it.
        pocket_m: m with a lane for turning left on main roads before signals, where there is room.
        cycle_s: Of the signals.
    """

    junctions: int = 12
    spacing_m: float = 250.0
    lanes: int = 2
    signal_share: float = 0.7
    speed: float = 13.89
    pocket_m: float = 40.0
    cycle_s: int = 90

    def streets(self, seed: int = 0) -> Streets:
        """Nodes and roads.

        Raises:
            IntersectionsError: No network was found for this seed.
        """
        drawn = draw_planar(self.junctions, self.spacing_m, self.lanes, seed)
        signals = max(1, round(self.signal_share * self.junctions))
        ruled = set(sorted(range(self.junctions), key=lambda n: -drawn.weight[n])[:signals])
        ruled |= {n for n in range(self.junctions) if sum(n in road for road in drawn.roads) > 3}
        plan = _Plan()
        for n, place in enumerate(drawn.places):
            inner = n < self.junctions
            rule = Rule.END if not inner else Rule.SIGNAL if n in ruled else Rule.PRIORITY
            plan.node(f"j{n}" if inner else f"end{n - self.junctions}", place, rule)
        for (one, other), main in zip(drawn.roads, drawn.main, strict=True):
            long = abs(drawn.places[one] - drawn.places[other]) > self.pocket_m + 100.0
            plan.road(
                one, other, self.lanes if main else 1, self.speed * (1.0 if main else 0.8), 2 if main else 1,
                self.pocket_m if main and long else 0.0,
            )  # fmt: skip
        return plan.streets(self.cycle_s)


CITIES: dict[str, type[City]] = {"grid": Grid, "arterial": Arterial, "ring": Ring, "irregular": Irregular}
"""Shapes by name."""


def city_of(shape: str, sizes: Mapping[str, bool | int | float]) -> City:
    """A city of a shape, with sizes other than its defaults by name.

    Raises:
        IntersectionsError: An unknown shape or size, or a value that cannot be used, by name.
    """
    if shape not in CITIES:
        raise IntersectionsError(f"no shape {shape!r}; write one of {', '.join(CITIES)}")
    known = [item.name for item in fields(CITIES[shape])]
    for name in sizes:
        if name not in known:
            raise IntersectionsError(f"{CITIES[shape].__name__}: no size {name!r}; there are {', '.join(known)}")
    return CITIES[shape](**sizes)


class _Plan:
    """Streets as they grow."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.roads: list[Road] = []

    def node(self, name: str, place: complex, rule: Rule) -> int:
        self.nodes.append(Node(name, round(place.real, 2), round(place.imag, 2), rule))
        return len(self.nodes) - 1

    def road(self, one: int, other: int, lanes: int, speed: float, priority: int, pocket_m: float) -> None:
        """With a lane for turning left before every signal."""
        pockets = tuple(pocket_m if self.nodes[n].rule == Rule.SIGNAL else 0.0 for n in (one, other))
        self.roads.append(Road((one, other), lanes, speed, priority, (pockets[0], pockets[1])))

    def streets(self, cycle_s: int) -> Streets:
        return Streets(tuple(self.nodes), tuple(self.roads), cycle_s)
