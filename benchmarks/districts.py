"""What districts do: limits at gates, and how much of a city its cut-outs keep.

    python -m benchmarks.districts                       # gates on the shipped grid
    python -m benchmarks.districts MAPS --maps cologne8 ingolstadt21     # and cut-outs of maps, a folder each

Gates: 4 balanced districts, greedy signals, epochs of 5 minutes, 5 seeds. First nobody is limited; then every gate may
let in half of its mean crossings. Demand is that of two instances at once. Cut-outs: greedy signals, 5 seeds; mean
delay is that of a signal's vehicles within 200 m (reward part `delay`), seconds per hour, in the whole network and in
the cut-outs, with departures by the speed limits and by measured edge times; and in the whole network with five other
seeds, to compare. What plans do: `benchmarks.city_plan`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import parser, table, write
from benchmarks.sumo_truth import CONTROLLED
from fedsched.envs.intersections.balance import balanced
from fedsched.envs.intersections.controllers import greedy
from fedsched.envs.intersections.cutout import cut_out
from fedsched.envs.intersections.districts import Districts
from fedsched.envs.intersections.edge_times import edge_times
from fedsched.envs.intersections.groups import Groups, edge_flows
from fedsched.envs.intersections.problem import Problem, grid_problem, make_problem, merge, read_problem
from fedsched.envs.intersections.world import IntersectionsWorld

SEEDS, EPOCH_S, DELAY = 5, 300, 0
Epoch = Callable[[IntersectionsWorld, int], None]


def run(world: IntersectionsWorld, begin_epoch: Epoch | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Plays SEEDS episodes side by side; crossings and limits of every epoch, [epochs, B, G] each."""
    controller, rows = greedy(), torch.arange(world.batch)
    controller.reset(world)
    until = torch.zeros(world.batch, dtype=torch.float64)
    observation, found = world.reset(rows * 0, rows, until_s=until), []
    limit = []
    for begin in range(0, world.problem.seconds, EPOCH_S):
        if begin_epoch is not None:
            begin_epoch(world, begin)
            observation = world.observe()
        before = world.traffic["gate_passed"].clone()
        limit.append(world.traffic["gate_limit"].clone())
        until.fill_(min(begin + EPOCH_S, world.problem.seconds))
        while bool((observation.time_s < until).any()):
            observation = world.step(controller.act(observation), until).observation
        found.append(world.traffic["gate_passed"] - before)
    return torch.stack(found), torch.stack(limit)


def limits(vehicles: torch.Tensor) -> Epoch:
    """The same limits [G] in every epoch."""

    def begin(world: IntersectionsWorld, now: int) -> None:
        until = torch.full((world.batch,), float(now + EPOCH_S), dtype=torch.float64)
        world.limit_inflow(vehicles.expand(world.batch, -1), until)

    return begin


def gates() -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Crossings of every gate without and with limits; what it costs the city."""
    grid = grid_problem(2)
    both = merge(grid.demands)
    dense = replace(both, trips=tuple(sorted(both.trips, key=lambda trip: trip.depart_s)))
    problem = make_problem(grid.network, [dense], 0.0, 1200.0, name=grid.name)
    districts = balanced(problem, 4)
    world = IntersectionsWorld(problem, SEEDS, "resco", districts=districts)
    free, none = run(world)
    costs = [("none", *_figures(world, free, none))]
    half = (free.double().mean((0, 1)) / 2).round().long()
    held, limit = run(world, limits(half))
    costs.append(("half", *_figures(world, held, limit)))
    rows = [
        (
            f"{districts.names[gate.source]} -> {districts.names[gate.target]}", len(gate.guards),
            float(free[:, :, g].double().mean()), int(half[g]), float(held[:, :, g].double().mean()),
            int(held[:, :, g].max()),
        )
        for g, gate in enumerate(districts.gates)
    ]  # fmt: skip
    return rows, costs


def _figures(world: IntersectionsWorld, crossed: torch.Tensor, limit: torch.Tensor) -> tuple[float | int | None, ...]:
    found = world.metrics()
    whole = [float(found[name].mean()) for name in ("completed", "resco_delay_s")]
    limited = limit[limit >= 0]
    over = (crossed - limit).clamp(min=0)[limit >= 0]
    most = int(over.max()) if len(over) else None
    mean = float(limited.double().mean()) if len(over) else None
    return float(crossed.double().mean()), mean, most, *whole, int(found["gridlock"].sum())


def signal_delay(problem: Problem, seed: int = 0) -> dict[str, float]:
    """Seconds per hour that vehicles lose within 200 m of each signal under greedy control, mean of SEEDS."""
    world, controller, rows = IntersectionsWorld(problem, SEEDS, "resco"), greedy(), torch.arange(SEEDS)
    controller.reset(world)
    observation, ended = world.reset(rows * 0, rows + seed), False
    while not ended:
        moved = world.step(controller.act(observation))
        observation, ended = moved.observation, bool(moved.truncated.all())
    lost = -world.counts["total"][:, :, DELAY].mean(0) * 3600.0 / problem.seconds
    return {signal.id: float(value) for signal, value in zip(problem.signals, lost, strict=True)}


def cutouts(folder: Path, parts: int) -> list[tuple[object, ...]]:
    """How balanced a map's districts are, and how near the delays in their cut-outs are to those in the whole."""
    problem = read_problem(next(folder.glob("*.sumocfg")), CONTROLLED.get(folder.name))
    districts = balanced(problem, parts)
    whole, rows = signal_delay(problem), []
    others = {"the whole again": signal_delay(problem, SEEDS)}
    for name, times in (("limits", None), ("measured", edge_times(problem, 1, greedy(), "resco"))):
        parts_of = [signal_delay(cut_out(problem, districts, district, times)) for district in districts.names]
        others[name] = {signal: value for part in parts_of for signal, value in part.items()}
    ids = list(whole)
    for name, apart in others.items():
        one, other = np.array([whole[n] for n in ids]), np.array([apart[n] for n in ids])
        sizes = "+".join(str(n) for n in np.bincount(districts.site))
        error = 100 * float(np.abs(other - one).sum() / one.sum())
        near, guarded = float(np.corrcoef(one, other)[0, 1]), 100 * _guarded(problem, districts)
        rows.append((folder.name, sizes, guarded, name, one.mean().item(), other.mean().item(), error, near))
    return rows


def _guarded(problem: Problem, districts: Districts) -> float:
    """Share of the crossings on all routes that a signal guards."""
    group = Groups(problem)
    crossing = {pair: n for pair, n in edge_flows(problem).items() if len(set(districts.edge[list(pair)])) > 1}
    return sum(n for pair, n in crossing.items() if group.guarded[pair]) / max(1, sum(crossing.values()))


GATES = ("gate", "links", "free", "limit", "held", "most")
COSTS = ("limits", "crossings", "limit", "most over it", "completed", "RESCO delay s", "gridlocks")
CUTS = (
    "map", "signals", "guarded %", "departures", "whole s/h", "cut-out s/h", "error %", "correlation",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables and writes JSON."""
    made = parser(__doc__, "districts")
    made.add_argument("folder", type=Path, nargs="?", help="holds a folder per map")
    made.add_argument("--maps", nargs="*", default=["cologne8", "ingolstadt21"])
    made.add_argument("--parts", type=int, default=3)
    options = made.parse_args(arguments)
    crossings, costs = gates()
    table(GATES, crossings)
    table(COSTS, costs)
    cuts: list[tuple[object, ...]] = []
    if options.folder is not None:
        for name in options.maps:
            cuts += cutouts(options.folder / name, options.parts)
        table(CUTS, cuts)
    named = (("gates", GATES, crossings), ("costs", COSTS, costs), ("cutouts", CUTS, cuts))
    write(options.out, {key: [dict(zip(names, row, strict=True)) for row in rows] for key, names, rows in named})


if __name__ == "__main__":
    main()
