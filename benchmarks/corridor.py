"""Emergency corridors: what an event's vehicles gain by a settled plan, and what everybody else pays.

    python -m benchmarks.corridor                                   # generated cities
    python -m benchmarks.corridor cologne8 ingolstadt21 sumo        # other cases, beside those in the JSON already

Names are cases: ambulances in a generated city or on one of RESCO's maps (FEDSCHED_MAPS), a surge, a closed road;
`sumo`: ambulances on the arterial in SUMO 1.28.

Every row of a batch is one episode with one event: an ambulance over at least four stop lines in two districts or more,
a closed road whose traffic drives around it, or many who leave one place. With the plan, four districts bid at the
epoch before the event (an ambulance: once, 60 s before it departs at most; others: every two minutes), PBFT settles,
and the signals keep what is settled. Off and on are the same episodes; differences are paired, with 95 % intervals
(Student's t). *saved*: of the ambulance's delay, which is its time loss and departure delay, in the mean. *others*:
delay of everybody else in an episode, vehicle hours. *granted*: of the stop lines or green units asked for.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.corridor_cases import CITIES, FLOWS, PARTS, Case, ambulances
from benchmarks.report import parser, table, write
from fedsched.consensus import Council, Link, Settlement, SiteKey
from fedsched.envs.core import Delivery, Observation
from fedsched.envs.intersections.controllers import PressureController, greedy, max_pressure
from fedsched.envs.intersections.corridors import CorridorExchange
from fedsched.envs.intersections.metrics import delays
from fedsched.envs.intersections.priorities import Priority
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.envs.intersections.world import IntersectionsWorld
from fedsched.sim.market import bid_of

CONTROLLERS = {"greedy": greedy, "max_pressure": max_pressure}
WEIGHTS = 1.0, 10.0, 30.0
FLOW_WEIGHTS = (1.0,)
USUAL = 30.0
SEED, ROWS, SUMO_ROWS = 7, 32, 6
EPOCH_S = {"vehicle": 60, "closure": 120, "surge": 120}
AHEAD_S = 60


@dataclass(frozen=True)
class Played:
    """Figures of each row: delay of the event's vehicles (mean, s) and of the others (sum, h), trip of the first."""

    own_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    others_h: np.ndarray[tuple[int], np.dtype[np.float64]]
    trip_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    jams: int
    asked: int = 0
    granted: int = 0


class Plans:
    """Settles the corridors of all rows and has the signals keep them.

    Args:
        case: The city and its events.
        weight: Of the events.
    """

    def __init__(self, case: Case, weight: float) -> None:
        self.case, self.asked, self.granted = case, 0, 0
        events = case.weighted(weight)
        self.exchanges = [CorridorExchange(case.problem, case.districts, k, e) for k, e in enumerate(events)]
        names = case.districts.names
        links = tuple(Link(one, other, 0) for one in names for other in names if one != other)
        keys = {name: SiteKey.from_seed(name.encode().ljust(32)) for name in names}
        self.council = Council(f"corridor/{case.name}/{weight:g}", keys, links=links)
        self.room = max(len(one.passages) for one in self.exchanges)

    def begin(self, world: IntersectionsWorld, now: int, epoch_s: int) -> Observation:
        """What happens at an epoch's begin."""
        wanted: dict[int, list[Priority]] = {}
        for row, exchange in enumerate(self.exchanges):
            event = exchange.event
            if event.kind == "vehicle" and now <= event.begin_s < now + epoch_s:
                wanted[row] = self._settle(world, row, (now, world.problem.seconds))
            elif event.kind != "vehicle":
                on = event.begin_s - AHEAD_S <= now < event.end_s + AHEAD_S
                wanted[row] = self._settle(world, row, (now, now + epoch_s)) if on else []
        return world.prioritise(wanted)

    def _settle(self, world: IntersectionsWorld, row: int, window: tuple[int, int]) -> list[Priority]:
        exchange = self.exchanges[row]
        lots = exchange.lots(world, row, window)
        bids = {name: bid_of(name, window[0], own) for name, own in lots.items()}
        settled = granted_to(exchange.home, self.council.settle(window[0], bids, row))
        self.asked += sum(lot.quantity for lot in lots.get(exchange.home, []) if lot.side == "ask")
        self.granted += sum(one.quantity for one in settled)
        return exchange.priorities(world, row, window, settled)


def granted_to(home: str, settlement: Settlement) -> list[Delivery]:
    """What a district was granted; the council has checked the certificate."""
    own = [one for one in settlement.plan.transfers if one.giver == home]
    return [Delivery("give", one.resource, one.quantity, one.window, one.taker) for one in own]


def play(world: IntersectionsWorld, controller: PressureController, case: Case, plans: Plans | None) -> Played:
    """All episodes side by side."""
    controller.reset(world)
    rows, epoch_s = torch.arange(world.batch), EPOCH_S[case.events[0].kind]
    until = torch.zeros(world.batch, dtype=torch.float64)
    observation = world.reset(rows, rows + SEED, until_s=until)
    for now in range(0, case.problem.seconds, epoch_s):
        if plans is not None:
            observation = plans.begin(world, now, epoch_s)
        until.fill_(min(now + epoch_s, case.problem.seconds))
        while bool((observation.time_s < until).any()):
            observation = world.step(controller.act(observation), until).observation
    lost, traffic = delays(world), world.traffic
    trips = [torch.tensor(event.trips) for event in case.events]
    own = [float(lost[row, these].sum()) for row, these in enumerate(trips)]
    others = [(float(lost[row].sum()) - own[row]) / 3600 for row in range(world.batch)]
    each = np.array([one / len(these) for one, these in zip(own, trips, strict=True)])
    took = [float(traffic["trip_arrived"][k, t[0]] - traffic["trip_inserted"][k, t[0]]) for k, t in enumerate(trips)]
    arrived = [bool(traffic["trip_arrived"][k, t[0]] >= 0) for k, t in enumerate(trips)]
    trip_s = np.where(arrived, took, np.nan)
    jams = int(world.metrics()["gridlock"].sum())
    asked, granted = (0, 0) if plans is None else (plans.asked, plans.granted)
    return Played(each, np.array(others), trip_s, jams, asked, granted)


def interval(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    """Mean and half of its 95 % interval."""
    from scipy.stats import t as student

    half = float(student.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()), half


COLUMNS = (
    "case", "controller", "weight", "rows", "trip off s", "trip on s", "own off s", "own on s", "change s", "+-",
    "saved %", "others off h", "change % ", "+- %", "net h", "granted %", "jams off", "jams on",
)  # fmt: skip


def compared(case: Case, name: str, weight: float, off: Played, on: Played) -> tuple[object, ...]:
    """One line of the table."""
    own, own_half = interval(on.own_s - off.own_s)
    others, others_half = interval(on.others_h - off.others_h)
    vehicles = np.array([len(event.trips) for event in case.events])
    net = float((others + (on.own_s - off.own_s) * vehicles / 3600).mean())
    both = ~np.isnan(off.trip_s) & ~np.isnan(on.trip_s)
    single = case.events[0].kind == "vehicle"
    trips = [float(one.trip_s[both].mean()) if single else None for one in (off, on)]
    percent = 100 / float(off.others_h.mean())
    granted = 100 * on.granted / on.asked if on.asked else None
    return (
        case.name, name, weight, len(off.own_s), *trips, float(off.own_s.mean()), float(on.own_s.mean()), own, own_half,
        -100 * own / float(off.own_s.mean()), float(off.others_h.mean()), others * percent, others_half * percent, net,
        granted, off.jams, on.jams,
    )  # fmt: skip


def cells(case: Case, weights: Mapping[str, Sequence[float]]) -> list[tuple[object, ...]]:
    """A case under the controllers, with the plan at some weights against none."""
    rows = []
    for name, own in weights.items():
        room = Plans(case, USUAL).room
        world = IntersectionsWorld(case.problem, len(case.events), "resco", districts=case.districts, priorities=room)
        off = play(world, CONTROLLERS[name](), case, None)
        for weight in own:
            on = play(world, CONTROLLERS[name](), case, Plans(case, weight))
            rows.append(compared(case, name, weight, off, on))
    return rows


def in_sumo(case: Case, weight: float) -> tuple[object, ...]:
    """Greedy in SUMO."""
    found = []
    for plans in (None, Plans(case, weight)):
        room = Plans(case, weight).room
        with SumoWorld(case.problem, len(case.events), "resco", districts=case.districts, priorities=room) as world:
            found.append(play(world, greedy(), case, plans))
    return compared(case, "greedy, SUMO", weight, *found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Plays, prints the table and writes JSON."""
    made = parser(__doc__, "corridor")
    made.add_argument("cases", nargs="*", default=["arterial", "grid", *FLOWS], help="default: %(default)s")
    made.add_argument("--rows", type=int, default=ROWS, help="events of each case, %(default)s")
    options = made.parse_args(arguments)
    for name in options.cases:
        found = measured(name, options.rows)
        table(COLUMNS, found)
        save(options.out, name, found)


def measured(name: str, rows: int) -> list[tuple[object, ...]]:
    """The lines of one case."""
    if name == "sumo":
        return [in_sumo(ambulances("arterial", min(rows, SUMO_ROWS), SEED), USUAL)]
    if name in FLOWS:
        return cells(FLOWS[name](rows, SEED), dict.fromkeys(CONTROLLERS, FLOW_WEIGHTS))
    weights = WEIGHTS if name in CITIES else (USUAL,)
    return cells(ambulances(name, rows, SEED), dict.fromkeys(CONTROLLERS, weights))


def save(path: Path, name: str, rows: Sequence[Sequence[object]]) -> None:
    """Writes a case beside those that the file has."""
    known = json.loads(path.read_text())["cases"] if path.exists() else {}
    write(path, {"parts": PARTS, "cases": {**known, name: [dict(zip(COLUMNS, row, strict=True)) for row in rows]}})


if __name__ == "__main__":
    main()
