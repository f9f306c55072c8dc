"""Whether our world and SUMO put the same policies first: rank correlation over controllers and policies."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from benchmarks.report import table, write
from benchmarks.resco.actors import Actor, Learned, Linear, Rule
from benchmarks.resco.checkpoints import found
from benchmarks.resco.episodes import Episodes
from benchmarks.resco.hour import SITE, scenario_of
from fedsched.agents.evolution import Cma
from fedsched.envs.core import stream
from fedsched.sim.domains.base import FloatArray
from fedsched.sim.domains.intersections.site import CitySite
from fedsched.sim.domains.intersections.worlds import RULES
from fedsched.sim.scenario import Scenario
from fedsched.sim.scenario.learning import Search
from fedsched.sim.training import Trainer

DRAWS = 10_000
SEARCH = Search(generations=12, population=12, windows=2)
"""Long enough to pass from the start to good policies."""
AFTER = (1, 2, 3, 4, 6, 8, 10, 12)
"""Generations whose centre is one of the policies."""
SPREADS = (2.0, 2.0, 8.0, 8.0, 32.0, 32.0)
"""Standard deviations of random scores around the start, in units of score."""
COLUMNS = (
    "map", "files", "actors", "seeds", "rho", "95 % from", "to", "jam here", "jam in SUMO", "rho without",
    "better half", "best in SUMO s", "our best there s",
)  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """How alike two sides rank the same actors by delay.

    Attributes:
        rho: Spearman's rank correlation.
        low: Of its 95 % interval, a percentile bootstrap over actors.
        high: Likewise.
        without_jams: Rank correlation of the actors that jam on neither side.
        better_half: Of the half that has less delay in SUMO.
    """

    rho: float
    low: float
    high: float
    without_jams: float
    better_half: float


def agreement(ours: Sequence[float], theirs: Sequence[float], jammed: Sequence[bool], seed: int = 0) -> Agreement:
    """Compares the delays of the same actors on both sides; ties share their rank."""
    pair, sound = np.array([ours, theirs], dtype=np.float64), ~np.array(jammed, dtype=np.bool_)
    count = pair.shape[1]
    chosen = stream(seed, "benchmarks/ranks").integers(count, size=(DRAWS, count))
    low, high = np.percentile(_rho(pair[0, chosen], pair[1, chosen]), [2.5, 97.5])
    better = pair[:, np.argsort(pair[1], kind="stable")[: (count + 1) // 2]]
    whole, free, half = (float(_rho(*sides[:, None, :])[0]) for sides in (pair, pair[:, sound], better))
    return Agreement(whole, float(low), float(high), free, half)


def _rho(ours: FloatArray, theirs: FloatArray) -> FloatArray:
    """Spearman's, row by row: the correlation of ranks."""
    ranks = [rankdata(side, axis=1) for side in (ours, theirs)]
    one, other = (side - side.mean(1, keepdims=True) for side in ranks)
    return np.asarray((one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1)))


def policies(name: str, path: Path) -> list[Linear]:
    """Linear policies of a map, from good to bad: centres along a search, and random ones; kept in the file."""
    record = json.loads(path.read_bytes()) if path.exists() else {}
    scenario = scenario_of(name)
    if name not in record.get("policies", {}):
        made = {title: weights.tolist() for title, weights in _made(scenario).items()}
        record["policies"] = record.get("policies", {}) | {name: made}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"episodes": [], **record}) + "\n")
    kept = record["policies"][name]
    return [Linear(title, scenario, np.array(weights)) for title, weights in kept.items()]


def _made(scenario: Scenario) -> dict[str, FloatArray]:
    searched = scenario.model_copy(update={"agents": scenario.agents.model_copy(update={"search": SEARCH})})
    site = CitySite(searched, SITE)
    trainer = Trainer(searched, [site])
    start = trainer.linear()
    found = {"start": start}
    search = Cma(start, SEARCH.sigma, SEARCH.population, seed=0)
    for generation in range(SEARCH.generations):
        candidates = search.ask()
        search.tell(candidates, trainer.trial(site, candidates, generation))
        if generation + 1 in AFTER:
            found[f"generation {generation + 1}"] = search.mean.copy()
    for number, spread in enumerate(SPREADS):
        noise = stream(0, "benchmarks/ranks/random", number).standard_normal(len(start))
        found[f"random {number}"] = start + spread * noise
    return found


def ranks(maps: Sequence[str], seeds: Sequence[int], path: Path, rows: int) -> None:
    """Plays every actor on both sides, prints the table and writes it."""
    lines = []
    for name in maps:
        actors: list[Actor] = [*(Rule(rule) for rule in RULES), *policies(name, path)]
        actors += [Learned(f"trained {place.stem}", place) for place in found(name)]
        lines.append(_line(name, actors, Episodes(path, rows), seeds))
        table(COLUMNS, lines)
    record = json.loads(path.read_bytes())
    write(path, {"columns": COLUMNS, "rows": lines, "policies": record["policies"], "episodes": record["episodes"]})


def _line(name: str, actors: Sequence[Actor], episodes: Episodes, seeds: Sequence[int]) -> tuple[object, ...]:
    played = [(episodes.of(name, actor, seeds, "own"), episodes.of(name, actor, seeds)) for actor in actors]
    delay = np.array([[np.mean([one.delay_s for one in side]) for side in sides] for sides in played])
    jams = np.array([[any(one.gridlock for one in side) for side in sides] for sides in played])
    ours, theirs = delay.T
    told = agreement(ours.tolist(), theirs.tolist(), jams.any(1).tolist())
    return (
        name, played[0][0][0].problem[:8], len(actors), len(seeds), told.rho, told.low, told.high,
        int(jams[:, 0].sum()), int(jams[:, 1].sum()), told.without_jams, told.better_half,
        float(theirs.min()), float(theirs[ours.argmin()]),
    )  # fmt: skip
