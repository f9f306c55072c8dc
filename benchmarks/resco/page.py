"""The table of RESCO's protocol: policies and classical controllers in SUMO, beside the bars and what is published."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.report import table, write
from benchmarks.resco.actors import Actor, Learned, Rule
from benchmarks.resco.checkpoints import digest, found, load
from benchmarks.resco.episodes import Episode, Episodes
from benchmarks.resco.hour import UNIVERSAL, network_digest, trained_on
from benchmarks.resco.published import PUBLISHED
from fedsched.sim.scenario import Scenario

RULES = ("program", "max-pressure", "max-pressure-all", "greedy")
COLUMNS = (
    "map", "network", "actor", "digest", "delay s", "by seed", "gridlocks", "inserted", "never", "bar s", "reached",
)  # fmt: skip
TRAINED = "map", "seed", "checkpoint", "trained in s", "CPU s", "commit"
THEIRS = "map", "fixed", "greedy", "max-pressure", "learner", "best episode", "its last ten"
CAVEAT = "Published, SUMO 1.9, delay s (learners: best episode of a training); not comparable with the table above:"


def resco_table(maps: Sequence[str], seeds: Sequence[int], path: Path, rows: int) -> None:
    """Plays what has not been played yet, prints the tables and writes them."""
    episodes, lines, trained = Episodes(path, rows), [], []
    for name in maps:
        policies = found(name)
        actors: list[Actor] = [*(Rule(rule) for rule in RULES)]
        actors += [Learned(f"policy {_seed(place)}", place) for place in policies]
        actors += [Learned(_universal(place, name), place) for place in found(UNIVERSAL)]
        lines += [_line(name, actor, episodes.of(name, actor, seeds)) for actor in actors]
        trained += [_trained(place) for place in policies]
    trained += [_trained(place) for place in found(UNIVERSAL)]
    theirs = [_published(name) for name in maps]
    table(COLUMNS, lines)
    if trained:
        print("\nTraining:")
        table(TRAINED, trained)
    print(f"\n{CAVEAT}")
    table(THEIRS, theirs)
    kept = json.loads(path.read_bytes())["episodes"]
    published = {name: asdict(PUBLISHED[name]) for name in maps}
    tables = {"columns": COLUMNS, "rows": lines, "training": [dict(zip(TRAINED, one, strict=True)) for one in trained]}
    write(path, {"seeds": list(seeds), **tables, "published": published, "caveat": CAVEAT, "episodes": kept})


def _line(name: str, actor: Actor, played: Sequence[Episode]) -> tuple[object, ...]:
    delays, jams = [one.delay_s for one in played], sum(one.gridlock for one in played)
    mean, bar = float(np.mean(delays)), PUBLISHED[name].bar_s
    never = float(np.mean([one.never_inserted for one in played]))
    inserted = float(np.mean([one.trips for one in played])) - never
    learned = isinstance(actor, Learned)
    return (
        name, network_digest(name)[:8], actor.name, actor.digest[:8] if learned else "",
        mean, " ".join(f"{delay:.1f}" for delay in delays), jams, inserted, never, bar,
        ("yes" if mean <= bar and not jams else "no") if learned else "",
    )  # fmt: skip


def _seed(place: Path) -> str:
    return place.stem.rpartition("-")[2]


def _universal(place: Path, name: str) -> str:
    """Whether it has seen the map stands in the name."""
    maps = trained_on(Scenario.model_validate(dict(load(place).scenario)))
    return f"universal {_seed(place)}" + (", seen" if name in maps else ", unseen")


def _trained(place: Path) -> tuple[object, ...]:
    kept = load(place)
    commit = "" if kept.git is None else str(kept.git["commit"])[:8] + ("+" if kept.git["changed"] else "")
    return kept.map, kept.seed, digest(place)[:8], kept.wall_s, kept.cpu_s, commit


def _published(name: str) -> tuple[object, ...]:
    of = PUBLISHED[name]
    return name, of.fixed_s, of.greedy_s, of.pressure_s, of.learner, of.best_s, of.last_s
