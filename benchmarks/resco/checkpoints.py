"""A policy as a small file: what it takes to act, how it was trained, and on which files."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.resco.hour import FOLDER
from fedsched.sim.encoding import decode, encode
from fedsched.sim.scenario import Scenario
from fedsched.sim.trained import TrainedPolicy, fitted
from fedsched.sim.training import Parameters

CHECKPOINTS = FOLDER / "checkpoints"
SUFFIX = ".msgpack"


@dataclass(frozen=True)
class Checkpoint:
    """The policy that a run ended with.

    Attributes:
        map: Name of the scenario: of the map it was trained on.
        seed: Of the run.
        site: Whose policy it is.
        scenario: The resolved scenario, as JSON: the agents' settings, the demands, the search.
        parameters: float32 arrays by name.
        digests: SHA-256 of the map's files by name.
        wall_s: What the run took, its validation and its test episodes in our world included.
        cpu_s: The same in CPU seconds, of all its processes.
        git: State of the checkout; None outside one.
        versions: Of fedsched and of what it builds on.
        rules: `hour.RULES` at the time.
    """

    map: str
    seed: int
    site: str
    scenario: Mapping[str, Any]
    parameters: Parameters
    digests: Mapping[str, str]
    wall_s: float
    cpu_s: float
    git: Mapping[str, Any] | None
    versions: Mapping[str, str | None]
    rules: int = 1

    def policy(self) -> TrainedPolicy:
        """What acts by it."""
        scenario = Scenario.model_validate(dict(self.scenario))
        return TrainedPolicy("policy", fitted(scenario, self.site, self.parameters, place_of(self.map, self.seed)))


def place_of(name: str, seed: int, folder: Path = CHECKPOINTS) -> Path:
    """Where the checkpoint of a map and a training seed lies."""
    return folder / f"{name}-s{seed}{SUFFIX}"


def save(checkpoint: Checkpoint, folder: Path = CHECKPOINTS) -> Path:
    """Writes a checkpoint to its place."""
    path = place_of(checkpoint.map, checkpoint.seed, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(asdict(checkpoint)))
    return path


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint; raises EncodingError for a file that is none."""
    return Checkpoint(**decode(path.read_bytes()))


def found(name: str, folder: Path = CHECKPOINTS) -> list[Path]:
    """The checkpoints of a map by training seed."""
    numbered = {int(path.name[len(name) + 2 : -len(SUFFIX)]): path for path in folder.glob(f"{name}-s*{SUFFIX}")}
    return [numbered[seed] for seed in sorted(numbered)]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
