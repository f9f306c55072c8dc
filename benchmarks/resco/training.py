"""Trains a map's agents by its scenario, as `fedsched run` does, and keeps the policy as a small file."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.resco.checkpoints import Checkpoint, load, place_of, save
from benchmarks.resco.hour import RULES, file_digests, scenario_of
from benchmarks.same_policy import cpu_s
from fedsched.sim.folder import read_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.provenance import git_state, silence, versions
from fedsched.sim.run import run
from fedsched.sim.scenario import Scenario
from fedsched.sim.trained import trained_parameters


def train(name: str, seed: int) -> Path:
    """The checkpoint of a map and a seed; one that the same scenario made from the same files is kept."""
    scenario, place = scenario_of(name, seed), place_of(name, seed)
    if place.exists() and _made_by(place, scenario):
        print(f"{place}: kept, its scenario and the map's files are the same; remove it to train again")
        return place
    silence()
    cpu, wall = cpu_s(), time.perf_counter()
    site = next(iter(scenario.sites))  # those that learn centrally have the same policy
    folder = run(scenario, None, None, PlainProgress(sys.stdout))
    checkpoint = Checkpoint(
        map=name,
        seed=seed,
        site=site,
        scenario=scenario.model_dump(mode="json"),
        parameters=trained_parameters(read_run(folder))[site],
        digests=file_digests(scenario),
        wall_s=time.perf_counter() - wall,
        cpu_s=cpu_s() - cpu,
        git=git_state(),
        versions=versions(),
        rules=RULES,
    )
    save(checkpoint)
    print(f"{place}: from {folder}, {checkpoint.wall_s:.0f} s, {checkpoint.cpu_s:.0f} CPU s", flush=True)
    return place


def _made_by(place: Path, scenario: Scenario) -> bool:
    kept = load(place)
    same = Scenario.model_validate(dict(kept.scenario)) == scenario  # keys that are newer have their defaults
    return same and kept.digests == file_digests(scenario) and kept.rules == RULES


def train_all(maps: Sequence[str], seeds: Sequence[int]) -> None:
    """One after another."""
    for name in maps:
        for seed in seeds:
            train(name, seed)
