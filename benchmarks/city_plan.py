"""What a plan of districts is worth in an overloaded city: on against off, the same demands and seeds.

    python -m benchmarks.city_plan MAPS                      # a folder per map; arterial4x4 and ingolstadt21
    python -m benchmarks.city_plan MAPS --maps arterial4x4 --tune      # several markets, on other demands
    python -m benchmarks.city_plan MAPS --policy RUN         # a trained policy drives the signals, too
    python -m benchmarks.city_plan MAPS --maps arterial4x4 --scales 1.5 --simulator sumo

Four balanced districts, RESCO's hour with every trip there 1.5 times or twice in the mean, departures jittered by 30 s.
Row k has demand k and seed k. Off: nobody is limited. On: every minute the districts state their lots, `clear` (what
honest replicas settle) matches them, the signals keep the limits. Alone: each keeps to its own room, but nobody counts
what neighbours settle. Total delay is RESCO's (time loss and departure delay, those who never got in until the end) in
vehicle-hours; differences on - off are paired by row, with 95 % intervals (t).

`--tune` tries markets on the demands of seed 100; the figures are of those of seed 0.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from benchmarks.report import parser, table, write
from fedsched.consensus import Bid, Link, clear
from fedsched.consensus import Lot as BidLot
from fedsched.envs.core import Controller, Delivery, Lot
from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.controllers import greedy, max_pressure
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.entrances import with_entrances
from fedsched.envs.intersections.exchange import DistrictExchange, Market, inflow_of
from fedsched.envs.intersections.maps import resco_problem
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.envs.intersections.variation import Variation, varied_problem
from fedsched.envs.intersections.world import IntersectionsWorld
from fedsched.sim.trained import load_policy

PARTS, EPOCH_S, JITTER_S = 4, 60, 30.0
MARKETS = {"arterial4x4": Market(pace=0.15), "ingolstadt21": Market(pace=0.2)}
"""Chosen on the demands of seed 100."""
TRIED = tuple(Market(pace=pace) for pace in (0.15, 0.2, 0.3))
FIGURES = ("delay_h", "never_inserted", "completed", "gridlock")
Figures = Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]


def city(folder: Path, name: str, scale: float, rows: int, seed: int) -> tuple[Problem, Districts]:
    """A map with more demand, and its districts."""
    problem = varied_problem(
        resco_problem(name, folder), Variation(volume=0.0, jitter_s=JITTER_S, scale=scale), rows, seed
    )
    return problem, with_entrances(problem, balanced(problem, PARTS))


def run(world: IntersectionsWorld, controller: Controller, market: Market | None, alone: bool = False) -> Figures:
    """Plays all rows to their end, with plans of a market or without any."""
    problem, districts, rows = world.problem, world.districts, torch.arange(world.batch)
    assert districts is not None
    homes = {} if market is None else {n: DistrictExchange(problem, districts, n, market) for n in districts.names}
    controller.reset(world)
    until = torch.zeros(world.batch, dtype=torch.float64)
    observation = world.reset(rows, rows, until_s=until)
    for now in range(0, problem.seconds, EPOCH_S if homes else problem.seconds):
        window = now, min(now + (EPOCH_S if homes else problem.seconds), problem.seconds)
        for row in range(world.batch) if now else ():
            settle(world, homes, row, window, alone)
        observation = world.observe()
        until.fill_(window[1])
        while bool((observation.time_s < until).any()):
            observation = world.step(controller.act(observation), until).observation
    found = {name: values.double().numpy() for name, values in world.metrics().items()}
    due = found["completed"] + found["running"] + found["never_inserted"]
    return {**found, "delay_h": found["resco_delay_s"] * due / 3600.0}


def settle(
    world: IntersectionsWorld, homes: Mapping[str, DistrictExchange], row: int, window: tuple[int, int], alone: bool
) -> None:
    """One row's plan of an epoch, carried out."""
    lots = {name: home.lots(world, row, window) for name, home in homes.items()}
    deliveries = _granted(lots) if alone else _cleared(lots)
    for name, home in homes.items():
        home.keep(world, row, window, deliveries[name], list(homes))


def _cleared(lots: Mapping[str, Sequence[Lot]]) -> dict[str, list[Delivery]]:
    bids = [Bid(name, 0, _side(own, "offer"), _side(own, "ask")) for name, own in lots.items()]
    links = [Link(one, other, 0) for one in lots for other in lots if one != other]
    found: dict[str, list[Delivery]] = {name: [] for name in lots}
    for one in clear(bids, links):
        found[one.giver].append(Delivery("give", one.resource, one.quantity, one.window, one.taker))
        found[one.taker].append(Delivery("take", one.resource, one.quantity, one.window, one.giver))
    return found


def _granted(lots: Mapping[str, Sequence[Lot]]) -> dict[str, list[Delivery]]:
    """Everybody passes on what it asks to, and nobody's room counts it."""
    taker = {inflow_of(name): name for name in lots}
    return {
        name: [
            Delivery("give", lot.resource, lot.quantity, lot.window, taker[lot.resource])
            for lot in own
            if lot.side == "ask"
        ]
        for name, own in lots.items()
    }


def _side(lots: Iterable[Lot], side: str) -> tuple[BidLot, ...]:
    return tuple(
        BidLot(lot.resource, lot.quantity, lot.unit_value, lot.window, lot.limits) for lot in lots if lot.side == side
    )


def difference(on: Figures, off: Figures, name: str) -> tuple[float, float]:
    """The mean of on - off, and half the width of its 95 % interval."""
    apart = on[name] - off[name]
    half = float(student.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / len(apart) ** 0.5)
    return float(apart.mean()), half


def cell(
    world: IntersectionsWorld, scale: float, controller: Controller, markets: Mapping[str, Market]
) -> list[dict[str, Any]]:
    """One controller on one demand: off, and on with each market; each as a line."""
    name = world.problem.name
    off = run(world, controller, None)
    lines = [_line(name, scale, controller.name, "off", off)]
    for label, market in markets.items():
        on = run(world, controller, market, alone=label.startswith("alone"))
        change, half = difference(on, off, "delay_h")
        told = {"change_h": change, "half_h": half, "change_pct": 100.0 * change / float(off["delay_h"].mean())}
        lines.append({**_line(name, scale, controller.name, label, on), **told})
    return lines


def _line(name: str, scale: float, controller: str, plan: str, found: Figures) -> dict[str, Any]:
    means = {figure: float(found[figure].mean()) for figure in FIGURES[:-1]}
    rows = {f"{figure}_rows": found[figure].tolist() for figure in FIGURES}
    gridlocks = int(found["gridlock"].sum())
    return {
        "map": name,
        "scale": scale,
        "controller": controller,
        "plan": plan,
        **means,
        "gridlocks": gridlocks,
        **rows,
    }


SHOWN = (
    "map", "scale", "controller", "plan", "delay_h", "never_inserted", "completed", "gridlocks", "change_h", "half_h",
    "change_pct",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes JSON after every cell."""
    options = _options(arguments)
    lines: list[dict[str, Any]] = []
    for scale in options.scales:
        for name in options.maps:
            controllers: list[Controller] = [greedy(), max_pressure()]
            if options.policy is not None:
                controllers.append(load_policy(options.policy))
            problem, districts = city(options.folder, name, scale, options.rows, 100 if options.tune else 0)
            world = IntersectionsWorld(problem, options.rows, "resco", districts=districts)
            if options.simulator == "sumo":
                world = SumoWorld(problem, options.rows, "resco", districts)
            for controller in controllers:
                lines += cell(world, scale, controller, _markets(name, options))
                table(SHOWN, [tuple(line.get(key) for key in SHOWN) for line in lines])
                write(options.out, {"cells": lines, "simulator": options.simulator, "tune": options.tune})
            if isinstance(world, SumoWorld):
                world.close()


def _markets(name: str, options: argparse.Namespace) -> dict[str, Market]:
    if options.tune:
        return {f"pace {market.pace} fill {market.fill}": market for market in TRIED}
    own = MARKETS.get(name, Market())
    return {"on": own, "alone": own}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "city_plan")
    made.add_argument("folder", type=Path, help="holds a folder per map")
    made.add_argument("--maps", nargs="*", default=["arterial4x4", "ingolstadt21"])
    made.add_argument("--scales", nargs="*", type=float, default=[1.5, 2.0])
    made.add_argument("--rows", type=int, default=6, help="demands, each with a seed")
    made.add_argument("--policy", help="run folder of a trained policy")
    made.add_argument("--simulator", choices=("own", "sumo"), default="own")
    made.add_argument("--tune", action="store_true", help="several markets, on other demands")
    return made.parse_args(arguments)


if __name__ == "__main__":
    main()
