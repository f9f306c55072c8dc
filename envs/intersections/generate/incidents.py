"""Incidents: a lane closed, or a whole road blocked, for a while."""

from collections.abc import Iterable
from dataclasses import dataclass

from fedsched.envs.core.streams import stream
from fedsched.envs.intersections.demand import Closure
from fedsched.envs.intersections.generate.checks import check_fields, fail
from fedsched.envs.intersections.network import IntersectionsError, Network

_BOUNDS: dict[str, tuple[float, float]] = {"begin_s": (0, 86_400), "end_s": (0, 86_400)}
_DURATION_SHARE = 0.1, 0.4
"""Of an episode, bounds of what a drawn incident lasts."""


@dataclass(frozen=True)
class Incident:
    """Nobody enters a lane, or any lane of a road in one direction, for a while.

    Those who are there change to another lane, or wait where there is none; those who need it queue until it opens.

    Attributes:
        edge: Id of the directed edge.
        begin_s: s from the begin of the episode.
        end_s: s.
        lane: Number of the closed lane, 0 is rightmost; None blocks the whole edge.
    """

    edge: str
    begin_s: float
    end_s: float
    lane: int | None = None

    def __post_init__(self) -> None:
        """Raises IntersectionsError for a value out of its bounds."""
        check_fields(self, _BOUNDS)
        if self.end_s <= self.begin_s:
            fail(self, "end_s", self.end_s, f"write more than begin_s={self.begin_s:g}")
        if self.lane is not None and (isinstance(self.lane, bool) or not isinstance(self.lane, int)):
            fail(self, "lane", self.lane, "write the number of a lane, or leave it out")


def close(network: Network, incidents: Iterable[Incident]) -> tuple[Closure, ...]:
    """The lanes that incidents close.

    Raises:
        IntersectionsError: An unknown edge or lane.
    """
    found = []
    for incident in incidents:
        edge = network.edges[network.edge(incident.edge)]
        lane = incident.lane
        if edge.internal:
            raise IntersectionsError(f"Incident: edge={incident.edge!r} lies inside a junction; name a road's")
        if lane is not None and not 0 <= lane < len(edge.lanes):
            most = len(edge.lanes) - 1
            raise IntersectionsError(f"Incident: lane={lane} of edge {incident.edge!r}; write 0 to {most}, or none")
        lanes = edge.lanes if lane is None else edge.lanes[lane : lane + 1]
        found += [Closure(n, incident.begin_s, incident.end_s) for n in lanes]
    return tuple(found)


def draw_incidents(network: Network, number: int, seconds: float, seed: int, instance: int) -> list[Incident]:
    """Incidents at random places and times: any lane of a road between junctions, or all of it where it has one.

    They begin in the first two thirds of the episode and last 10 to 40 % of it.
    """
    rng = stream(seed, "intersections/incidents", instance)
    normal = [edge for edge in network.edges if not edge.internal and network.junctions[edge.origin].kind != "dead_end"]
    found = []
    for _ in range(number):
        edge = normal[int(rng.integers(len(normal)))]
        lane = int(rng.integers(len(edge.lanes))) if len(edge.lanes) > 1 else None
        begin = round(float(rng.uniform(0.0, seconds * 2 / 3)))
        lasts = max(1, round(seconds * float(rng.uniform(*_DURATION_SHARE))))
        found.append(Incident(edge.id, begin, min(begin + lasts, int(_BOUNDS["end_s"][1])), lane))
    return found
