"""Episodes of a map's hour, in SUMO or in our world, each played once and kept."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.resco.actors import Actor
from benchmarks.resco.hour import RULES, hour_of
from fedsched.agents.collect import play
from fedsched.envs.intersections.sumo.simulation import load_libsumo
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.sim.domains.base import Simulator


@dataclass(frozen=True)
class Episode:
    """What one actor made of the hour under one driver seed.

    Attributes:
        map: Of RESCO.
        problem: SHA-256 of its files, hour, and controlled signals.
        actor: Name.
        digest: SHA-256 of the actor.
        simulator: With its version and `RULES`, such as `SUMO 1.28.0, rules 2` or `fedsched, rules 2`.
        seed: Of the drivers; SUMO's `--seed`.
        delay_s: RESCO's, over all trips that were due.
        trips: That were due.
        completed: Arrived within the hour.
        never_inserted: Found no room to depart.
        gridlock: Whether it jammed.
        wall_s: What it took.
    """

    map: str
    problem: str
    actor: str
    digest: str
    simulator: str
    seed: int
    delay_s: float
    trips: int
    completed: int
    never_inserted: int
    gridlock: bool
    wall_s: float

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Equal keys are the same episode."""
        return self.problem, self.digest, self.simulator, self.seed


class Episodes:
    """The episodes of a JSON file; what is asked for and not there is played and written at once.

    Args:
        path: The file; with other content beside `episodes`, as `report.write` leaves it.
        rows: Simulations at a time.
    """

    def __init__(self, path: Path, rows: int = 1) -> None:
        self._path, self._rows = path, rows
        kept = json.loads(path.read_bytes())["episodes"] if path.exists() else []
        self._known = {one.key: one for one in (Episode(**values) for values in kept)}

    @property
    def told(self) -> list[dict[str, object]]:
        """All episodes, as JSON."""
        return [asdict(one) for one in self._known.values()]

    def of(self, name: str, actor: Actor, seeds: Sequence[int], simulator: Simulator = "sumo") -> list[Episode]:
        """The hour of a map under an actor, an episode per seed."""
        problem, engine, digest = hour_of(name).problem.digest, version(simulator), actor.digest
        keys = [(problem, digest, engine, seed) for seed in seeds]
        missing = [key[3] for key in keys if key not in self._known]
        for start in range(0, len(missing), self._rows):
            for one in played(name, actor, missing[start : start + self._rows], simulator):
                self._known[one.key] = one
                print(f"{name} {actor.name} seed {one.seed}, {engine}: {one.delay_s:.2f} s", flush=True)
            self._keep()
        return [self._known[key] for key in keys]

    def _keep(self) -> None:
        """Only the episodes change; the tables of an older call stay until they are written anew."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        record = json.loads(self._path.read_bytes()) if self._path.exists() else {}
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(record | {"episodes": self.told}, indent=1) + "\n")
        fresh.replace(self._path)


def version(simulator: Simulator) -> str:
    """The name that tables give a simulator, with what our signals and observations add to it."""
    name = str(load_libsumo().simulation.getVersion()[1]) if simulator == "sumo" else "fedsched"
    return f"{name}, rules {RULES}"


def played(name: str, actor: Actor, seeds: Sequence[int], simulator: Simulator) -> Iterable[Episode]:
    """Plays the hour of a map under every seed."""
    city, begun = hour_of(name), time.perf_counter()
    world, controller = actor.enter(city, len(seeds), simulator)
    try:
        first = torch.zeros(len(seeds), dtype=torch.int64)
        found = play(world, first, torch.tensor(seeds), controller.act)
    finally:
        if isinstance(world, SumoWorld):
            world.close()
    took = (time.perf_counter() - begun) / len(seeds)
    for row, seed in enumerate(seeds):
        figure = {key: float(values[row]) for key, values in found.items()}
        missing = round(figure["never_inserted"])
        yield Episode(
            map=name,
            problem=city.problem.digest,
            actor=actor.name,
            digest=actor.digest,
            simulator=version(simulator),
            seed=seed,
            delay_s=figure["resco_delay_s"],
            trips=round(figure["completed"] + figure["running"]) + missing,
            completed=round(figure["completed"]),
            never_inserted=missing,
            gridlock=bool(figure["gridlock"]),
            wall_s=took,
        )
