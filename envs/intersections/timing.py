"""When signals may decide: named protocols, so that results with unlike timings are never mixed."""

from dataclasses import dataclass

from fedsched.envs.intersections.network import IntersectionsError


@dataclass(frozen=True)
class Timing:
    """When signals decide, and how they change.

    A signal may decide in every second that is a multiple of `period_s` (from the start of the episode), unless it is
    yellow or its last change began less than `yellow_s + least_s` before.

    Attributes:
        name: Of the protocol.
        period_s: Seconds between decisions; 0: nobody decides, every signal runs its program.
        yellow_s: How long links that lose their green are yellow before the new green begins. It begins no earlier
            where none does, as in RESCO and sumo-rl.
        least_s: Shortest green.
        longest_s: Where nobody decides: the programs of all agents are actuated (`reference.actuated`), with greens of
            `least_s` to `longest_s`; 0: programs run as in the file, actuated where they are so there.

    Raises:
        IntersectionsError: A negative number, or actuated signals that decide.
    """

    name: str
    period_s: int
    yellow_s: int = 0
    least_s: int = 0
    longest_s: int = 0

    def __post_init__(self) -> None:
        if min(self.period_s, self.yellow_s, self.least_s, self.longest_s) < 0:
            raise IntersectionsError(f"timing {self.name}: seconds below 0; write 0 or more")
        if self.period_s and self.longest_s:
            raise IntersectionsError(f"timing {self.name}: signals that decide have no longest green; set it to 0")


TIMINGS = {
    timing.name: timing
    for timing in (
        Timing("resco", 10, 3),
        Timing("sumo_rl", 5, 2, 5),
        Timing("free", 1, 3, 5),
        Timing("program", 0),
        Timing("actuated", 0, least_s=5, longest_s=50),
    )
}
"""`resco`: every 10 s, 3 s yellow. `sumo_rl`: every 5 s, 2 s yellow, 7 s between changes. `free`: each signal decides
by itself every second once its green is 5 s old. `program`: the programs of the file run. `actuated`: the same,
gap-based, with greens of 5 to 50 s."""

_OF_MAP = {("resco", "arterial4x4"): Timing("resco", 5, 2)}
"""Published protocols that differ on a map."""


def named_timing(name: str, map_name: str = "") -> Timing:
    """The protocol of that name, as it is used on that map; raises IntersectionsError for an unknown one."""
    if name not in TIMINGS:
        raise IntersectionsError(f"no timing {name!r}; there are {', '.join(TIMINGS)}")
    return _OF_MAP.get((name, map_name), TIMINGS[name])
