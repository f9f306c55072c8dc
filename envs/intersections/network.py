"""A road network as SUMO describes it: edges of lanes, the links between them, junctions, signals.

Everything refers to everything by index; ids are kept for messages and files. Metres, metres per second, seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedsched.envs.core import WorldError

FloatArray = npt.NDArray[np.float64]

CLASSES = (
    "passenger",
    "bus",
    "truck",
    "emergency",
    "delivery",
    "taxi",
    "coach",
    "trailer",
    "motorcycle",
    "moped",
    "bicycle",
    "private",
    "authority",
    "army",
    "vip",
    "hov",
    "evehicle",
    "tram",
    "pedestrian",
    "other",
)
"""Vehicle classes that permissions tell apart; SUMO's remaining ones (rail, ships, custom) count as `other`."""


class IntersectionsError(WorldError):
    """A network, a demand or a signal program that cannot be used; says file, line, element and remedy."""

    def __init__(self, message: str, path: str | Path | None = None, line: int | None = None) -> None:
        place = "" if path is None else f"{path}:{line}: " if line else f"{path}: "
        super().__init__(place + message)
        self.path = path
        self.line = line


class Turn(IntEnum):
    """Where a connection leads; SUMO's `dir`."""

    STRAIGHT = 0
    RIGHT = 1
    PARTIAL_RIGHT = 2
    LEFT = 3
    PARTIAL_LEFT = 4
    TURN = 5


@dataclass(frozen=True)
class Lane:
    """One lane.

    Attributes:
        id: SUMO's id.
        edge: Index of its edge.
        index: Number on the edge, 0 is rightmost.
        length: m; may differ from the length of the shape.
        speed: m/s, limit.
        width: m.
        allowed: Bit per entry of `CLASSES`.
        shape: Points of the centre line, [P, 2], m.
    """

    id: str
    edge: int
    index: int
    length: float
    speed: float
    width: float
    allowed: int
    shape: FloatArray

    def allows(self, vehicle_class: str) -> bool:
        """Whether vehicles of the class may drive here."""
        return bool(self.allowed >> CLASSES.index(vehicle_class) & 1)


@dataclass(frozen=True)
class Edge:
    """A directed street between two junctions, or the lanes of one movement inside a junction.

    Attributes:
        id: SUMO's id; internal ones start with a colon.
        internal: Whether it lies inside a junction.
        origin: Index of the junction it leaves; of the surrounding one where internal.
        target: Index of the junction it leads to.
        lanes: Indices of its lanes, rightmost first.
        priority: Of the road, as in the file.
    """

    id: str
    internal: bool
    origin: int
    target: int
    lanes: tuple[int, ...]
    priority: int


@dataclass(frozen=True)
class Connection:
    """A way from a lane onto another.

    Attributes:
        source: Index of the lane it leaves.
        target: Index of the lane it reaches.
        via: Index of the first internal lane between, -1 for none.
        signal: Index of the signal that controls it, -1 for none.
        signal_index: Its place in the signal's state string.
        turn: Where it leads.
        state: SUMO's character for it: `M`, `m`, `=`, `s`, `Z`, `o`, `O`, ...
        keep_clear: Whether vehicles keep the junction clear of standing ones.
        visibility_m: From where on those that must yield see their foes; our dynamics use 4.5 m everywhere.
    """

    source: int
    target: int
    via: int
    signal: int
    signal_index: int
    turn: Turn
    state: str
    keep_clear: bool = True
    visibility_m: float = 4.5


@dataclass(frozen=True)
class Request:
    """The right of way of one link of a junction.

    Attributes:
        response: Links of the junction (by request index) that it must yield to.
        foes: Links that conflict with it.
        cont: Whether its vehicles may wait inside the junction.
    """

    response: frozenset[int]
    foes: frozenset[int]
    cont: bool


@dataclass(frozen=True)
class Junction:
    """A node of the network.

    Attributes:
        id: SUMO's id; internal junctions (waiting areas) start with a colon.
        kind: SUMO's type: `traffic_light`, `priority`, `internal`, `dead_end`, ...
        x: m.
        y: m.
        incoming: Indices of the lanes that lead in, in the order of the file.
        inside: Indices of its internal lanes, in the order of the file.
        requests: Right of way; entry i belongs to the i-th link.
    """

    id: str
    kind: str
    x: float
    y: float
    incoming: tuple[int, ...]
    inside: tuple[int, ...]
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Phase:
    """One phase of a signal program.

    Attributes:
        duration_s: Its length.
        state: A character per link: `G` protected, `g` permissive, `y` yellow, `r` red, `s` right on red, ...
        minimum_s: Least duration when actuated; equal to the greatest where it cannot be lengthened.
        maximum_s: Greatest duration when actuated, infinite where the file gives none.
    """

    duration_s: float
    state: str
    minimum_s: float
    maximum_s: float


@dataclass(frozen=True)
class GapRule:
    """When an actuated program lengthens a green; SUMO's parameters of these names, with its defaults.

    Attributes:
        max_gap_s: A green goes on while a detector has been free for less.
        detector_gap_s: How far before the stop line a detector lies at most, at the speed limit; a green goes on until
            the last vehicle at a detector has had as much.
        passing_s: From vehicle to vehicle: a detector lies no further away than what the shortest green lets pass.
    """

    max_gap_s: float = 3.0
    detector_gap_s: float = 2.0
    passing_s: float = 1.9


@dataclass(frozen=True)
class Signal:
    """A traffic light with the program of the file.

    Attributes:
        id: SUMO's id.
        kind: `static` or `actuated`.
        program: Id of the program.
        offset_s: Shift of the cycle.
        phases: In order.
        connections: Index of a connection per link of the state string, -1 for one that controls nothing; where
            several connections share a link, all of them: tuple of tuples.
        rule: Of an actuated program.
    """

    id: str
    kind: str
    program: str
    offset_s: float
    phases: tuple[Phase, ...]
    connections: tuple[tuple[int, ...], ...]
    rule: GapRule = GapRule()

    @property
    def cycle_s(self) -> float:
        """Sum of the phases' durations."""
        return sum(phase.duration_s for phase in self.phases)


@dataclass(frozen=True)
class Network:
    """A whole road network.

    Attributes:
        lanes: Normal lanes edge by edge, then internal lanes edge by edge.
        edges: Normal edges, then internal ones.
        connections: In the order of the file, those of internal lanes included.
        junctions: Normal junctions, then internal ones.
        signals: In the order of the file.
        digest: SHA-256 of the uncompressed file.
        ignored: Elements of the file that our dynamics do not heed, by name, with their number.
        roundabouts: The edges of each; kept for SUMO, which changes lanes otherwise there.
    """

    lanes: tuple[Lane, ...]
    edges: tuple[Edge, ...]
    connections: tuple[Connection, ...]
    junctions: tuple[Junction, ...]
    signals: tuple[Signal, ...]
    digest: str
    ignored: tuple[tuple[str, int], ...] = ()
    roundabouts: tuple[tuple[int, ...], ...] = ()

    def edge(self, name: str) -> int:
        """Index of an edge by SUMO's id; raises IntersectionsError for an unknown one."""
        return find(name, [edge.id for edge in self.edges], "edge")


def find(name: str, names: Sequence[str], what: str) -> int:
    """Index of a name; raises IntersectionsError, with the names most like it, where it is not there."""
    try:
        return names.index(name)
    except ValueError:
        near = get_close_matches(name, names) or names[:3]
        raise IntersectionsError(
            f"no {what} {name!r} in the network; there are {len(names)}: {', '.join(near)}, ..."
        ) from None
