"""The two-minute scenes in shorthand: what each shows, its streets, who drives, its signals.

`benchmarks.scenes` makes networks and the truth of SUMO from them.
"""

from dataclasses import dataclass, field
from itertools import permutations


@dataclass(frozen=True)
class Flow:
    """`count` vehicles at most, one every `period` s from `begin`; `more`: further attributes."""

    route: str
    begin: float = 0
    period: float = 3
    count: int = 1
    type: str = "car"
    more: str = ""


@dataclass(frozen=True)
class Scene:
    """A network in shorthand and who drives in it.

    Attributes:
        about: What it shows.
        nodes: `id x y type`, separated by semicolons; types as in `KINDS`.
        edges: `id from to lanes speed priority`; `buslane` where the rightmost lane is for buses only.
        flows: Who drives.
        connections: `edge:lane>edge:lane`, with `@signal.index` where one controls it; without any, netconvert's own.
        programs: Per signal its phases: `seconds state`.
    """

    about: str
    nodes: str
    edges: str
    flows: tuple[Flow, ...]
    connections: str = ""
    programs: dict[str, str] = field(default_factory=dict)


CROSS = "W 0 0 -; E 400 0 -; S 200 -200 -; N 200 200 -; "
SCENES = {
    "free_drive": Scene(
        "Alone on the road: limits that rise and fall between edges, a bend and a right turn with lower speeds inside",
        "A 0 0 -; B 200 0 -; C 350 0 -; D 600 0 -; E 600 -200 -; F 800 -200 -",
        "AB A B 1 13.89 1; BC B C 1 8.33 1; CD C D 1 27.78 1; DE D E 1 13.89 1; EF E F 1 13.89 1",
        (
            *(Flow("AB BC CD DE EF"), Flow("AB BC CD DE EF", 20, more='departSpeed="0"')),
            *(Flow("AB BC CD DE", 40, type="lorry"), Flow("DE EF", 62)),
        ),
    ),
    "queue_discharge": Scene(
        "Twelve cars stop at red and leave at green: start-up loss, saturation flow",
        "A 0 0 -; C 300 0 tl; D 500 0 -",
        "AC A C 1 13.89 1; CD C D 1 13.89 1",
        (Flow("AC CD", 0, 2, 12),),
        "AC:0>CD:0@C.0",
        {"C": "45 r; 60 G; 3 y; 12 r"},
    ),
    "yellow": Scene(
        "Yellow and red begin while cars are at all distances: who stops and who goes on",
        "A 0 0 -; C 300 0 tl; D 450 0 -",
        "AC A C 1 13.89 1; CD C D 1 13.89 1",
        (Flow("AC CD", 0, 3, 30),),
        "AC:0>CD:0@C.0",
        {"C": "8 G; 3 y; 2 r; 5 G; 3 y; 6 r"},
    ),
    "insertion": Scene(
        "Entries: 1,800 and 3,600 vehicles an hour on one lane, 3,600 on two lanes; backlog and choice of lane",
        "A 0 0 -; B 300 0 -; C 0 100 -; D 300 100 -; E 0 200 -; F 300 200 -",
        "AB A B 1 13.89 1; CD C D 1 13.89 1; EF E F 2 13.89 1",
        (Flow("AB", 0, 2, 50), Flow("CD", 0, 1, 100), Flow("EF", 0, 1, 100)),
    ),
    "permissive_left": Scene(
        "Left turns against oncoming traffic, waiting inside the junction",
        CROSS + "C 200 0 tl",
        "WC W C 2 13.89 1; CE C E 1 13.89 1; EC E C 1 13.89 1; CW C W 1 13.89 1; CN C N 1 13.89 1; NC N C 1 13.89 1",
        (Flow("WC CN", 0, 6, 16), Flow("WC CE", 1, 7, 14), Flow("EC CW", 2, 4, 24), Flow("NC CW", 5, 12, 8)),
        "NC:0>CW:0@C.0; EC:0>CW:0@C.1; WC:0>CE:0@C.2; WC:1>CN:0@C.3",
        {"C": "35 rGGg; 3 ryyy; 17 Grrr; 3 yrrr"},
    ),
    "priority_merge": Scene(
        "A side road without signal joins and crosses a main road",
        CROSS + "C 200 0 -",
        "WC W C 1 13.89 3; CE C E 1 13.89 3; EC E C 1 13.89 3; CW C W 1 13.89 3; SC S C 1 8.33 1",
        (Flow("WC CE", 0, 5, 22), Flow("EC CW", 2, 9, 12), Flow("SC CE", 0, 6, 16), Flow("SC CW", 13, 30, 4)),
    ),
    "lane_drop": Scene(
        "Three lanes become two: who is on the left lane must change",
        "A 0 0 -; B 300 0 -; C 500 0 -",
        "AB A B 3 13.89 1; BC B C 2 13.89 1",
        tuple(Flow("AB BC", k, 5, 20, more=f'departLane="{k}"') for k in range(3)),
        "AB:0>BC:0; AB:1>BC:1",
    ),
    "spillback": Scene(
        "A short block in front of a red signal fills up: cars keep the junction behind it clear for the cross street",
        "W 0 0 -; A 200 0 tl; B 250 0 tl; E 400 0 -; N 200 200 -; S 200 -200 -",
        "WA W A 1 13.89 1; AB A B 1 13.89 1; BE B E 1 13.89 1; NA N A 1 13.89 1; AS A S 1 13.89 1",
        (Flow("WA AB BE", 0, 3, 34), Flow("NA AS", 0, 5, 20), Flow("NA AB BE", 3, 15, 6)),
        "NA:0>AS:0@A.0; NA:0>AB:0@A.1; WA:0>AB:0@A.2; AB:0>BE:0@B.0",
        {"A": "25 rrG; 3 rry; 15 GGr; 3 yyr", "B": "30 r; 12 G; 3 y; 5 r"},
    ),
    "mixed_lanes": Scene(
        "Two lanes, a lorry of 70 km/h: cars overtake and go back to the right",
        "A 0 0 -; B 800 0 -; C 1600 0 -",
        "AB A B 2 27.78 1; BC B C 2 27.78 1",
        (Flow("AB BC", 0, 20, 6, "lorry"), Flow("AB BC", 4, 3, 30)),
    ),
    "bus_and_emergency": Scene(
        "Classes: a bus lane on the right, buses, lorries, an ambulance and cars at a signal",
        "A 0 0 -; C 300 0 tl; D 500 0 -; N 300 200 -",
        "AC A C 3 13.89 1 buslane; CD C D 3 13.89 1 buslane; CN C N 1 13.89 1",
        (
            *(Flow("AC CD", 0, 4, 22), Flow("AC CN", 2, 8, 11)),
            *(Flow("AC CD", 5, 25, 4, "bus"), Flow("AC CN", 15, 60, 1, "bus")),
            *(Flow("AC CD", 9, 40, 3, "lorry"), Flow("AC CD", 33, 45, 2, "emergency")),
        ),
        "AC:0>CD:0@C.0; AC:1>CD:1@C.1; AC:2>CD:2@C.2; AC:2>CN:0@C.3",
        {"C": "20 GGGG; 3 yyyy; 20 rrrr"},
    ),
    "crossroads": Scene(
        "Four arms of two lanes, all turns, two phases with permissive left turns",
        CROSS + "C 200 0 tl",
        "NC N C 2 13.89 1; EC E C 2 13.89 1; SC S C 2 13.89 1; WC W C 2 13.89 1; "
        "CN C N 2 13.89 1; CE C E 2 13.89 1; CS C S 2 13.89 1; CW C W 2 13.89 1",
        tuple(
            Flow(f"{a}C C{b}", (3 * k) % 7, 5 + (2 * k) % 13, 30) for k, (a, b) in enumerate(permutations("NESW", 2))
        ),
        "NC:0>CW:0@C.0; NC:0>CS:0@C.1; NC:1>CS:1@C.2; NC:1>CE:1@C.3; "
        "EC:0>CN:0@C.4; EC:0>CW:0@C.5; EC:1>CW:1@C.6; EC:1>CS:1@C.7; "
        "SC:0>CE:0@C.8; SC:0>CN:0@C.9; SC:1>CN:1@C.10; SC:1>CW:1@C.11; "
        "WC:0>CS:0@C.12; WC:0>CE:0@C.13; WC:1>CE:1@C.14; WC:1>CN:1@C.15",
        {"C": "22 GGGgrrrrGGGgrrrr; 3 yyyyrrrryyyyrrrr; 18 rrrrGGGgrrrrGGGg; 3 rrrryyyyrrrryyyy"},
    ),
    "departures": Scene(
        "Entries of three lanes with slow and fast vehicles, and behind a queue wherever there is room",
        "E 0 200 -; F 90 200 -; A 0 0 -; C 150 0 tl; D 250 0 -",
        "EF E F 3 27.78 1; AC A C 1 13.89 1; CD C D 1 13.89 1",
        (
            *(Flow("EF", 0, 1, 110), Flow("EF", 0, 3, 40, "lorry")),
            Flow("AC CD", 0, 2, 60, more='departPos="free"'),
        ),
        "AC:0>CD:0@C.0",
        {"C": "40 r; 17 G; 3 y"},
    ),
    "inner_lanes": Scene(
        "Straight on over a wide junction on lanes that must be changed for the turn behind it: some change inside",
        "W 0 0 -; C 100 0 tl; N 100 150 -; S 100 -150 -; D 170 0 tl; F 300 0 -; G 170 150 -",
        "WC W C 2 13.89 1; NC N C 4 13.89 1; CS C S 4 13.89 1; CD C D 2 13.89 1; DF D F 1 13.89 1; DG D G 1 13.89 1",
        (
            *(Flow("WC CD DG", 0, 7, 17, more='departLane="0"'), Flow("WC CD DF", 3, 8, 14, more='departLane="1"')),
            Flow("NC CS", 1, 4, 29),
        ),
        "WC:0>CD:0@C.0; WC:1>CD:1@C.1; NC:0>CS:0@C.2; NC:1>CS:1@C.3; NC:2>CS:2@C.4; NC:3>CS:3@C.5; CD:0>DF:0@D.0; "
        "CD:1>DG:0@D.1",
        {"C": "25 GGrrrr; 3 yyrrrr; 14 rrGGGG; 3 rryyyy", "D": "120 GG"},
    ),
    "stuck": Scene(
        "Beside a queue at red those who must get into it: they pass vehicles that stand for long",
        "W 0 0 -; C 250 0 tl; D 400 0 -; S 250 -150 -",
        "WC W C 2 13.89 1; CD C D 1 13.89 1; CS C S 1 13.89 1",
        (Flow("WC CD", 0, 4, 28, more='departLane="1"'), Flow("WC CD", 14, 9, 11, more='departLane="0"')),
        "WC:0>CS:0@C.0; WC:1>CD:0@C.1",
        {"C": "45 Gr; 15 GG; 3 Gy"},
    ),
    "right_on_red": Scene(
        "Right turns at red after a stop, giving way to the cross street",
        CROSS + "C 200 0 tlr",
        "WC W C 1 13.89 1; CE C E 1 13.89 1; SC S C 1 13.89 1; CN C N 1 13.89 1",
        (Flow("SC CE", 0, 5, 22), Flow("SC CN", 40, 30, 3), Flow("WC CE", 0, 6, 18)),
        "SC:0>CE:0@C.0; SC:0>CN:0@C.1; WC:0>CE:0@C.2",
        {"C": "30 srG; 3 sry; 12 GGr; 3 yyr"},
    ),
}
