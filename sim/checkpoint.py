"""Checkpoints: what a run can go on from, in a folder of its own each.

    checkpoints/newest.json               names the one that counts, and how long the records were then
    checkpoints/000007/shared.msgpack     what all sites share: the parameters, and which were chosen
    checkpoints/000007/sites/north.msgpack   the learner of one site; who reads it can work out single updates

A folder is complete before `newest.json` names it, and never changed afterwards.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsched.sim.errors import UserError
from fedsched.sim.files import replace_file, sync_folder, write_json

FOLDER, POINTER, SHARED, SITES, SUFFIX = "checkpoints", "newest.json", "shared.msgpack", "sites", ".msgpack"
KEPT = 2
"""The newest and the one before, which somebody may be reading."""


class CheckpointError(UserError):
    """A checkpoint that cannot be read, or not as a whole."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run can go on from.

    Attributes:
        path: Its folder.
        round: Rounds done; -1 before the search for a start.
        sites: Names of the sites with a state of their own.
        events_bytes: Length of events.jsonl when it was taken.
        metrics_parts: Closed parts of the metrics then.
        frames_parts: Closed parts of the replays then.
    """

    path: Path
    round: int
    sites: tuple[str, ...]
    events_bytes: int
    metrics_parts: int
    frames_parts: int

    def shared(self) -> dict[str, Any]:
        """What all sites share. Raises CheckpointError if it is damaged or gone."""
        return _read(self.path / SHARED)

    def site_states(self) -> dict[str, dict[str, Any]]:
        """Each site's own state by name. Raises CheckpointError if one is missing or damaged."""
        place = self.path / SITES
        missing = [site for site in self.sites if not (place / f"{site}{SUFFIX}").is_file()]
        if missing:
            raise CheckpointError(
                f"{place}: lacks {', '.join(name + SUFFIX for name in missing)}; a run goes on with every site's own "
                "file only: put them back, or start a new run (`fedsched evaluate` needs none of them)"
            )
        return {site: _read(place / f"{site}{SUFFIX}") for site in self.sites}


def write_checkpoint(
    run: Path,
    round: int,
    shared: Mapping[str, Any],
    sites: Mapping[str, Mapping[str, Any]],
    *,
    events_bytes: int,
    metrics_parts: int,
    frames_parts: int,
) -> None:
    """Writes a checkpoint of a run folder and removes those that are too old.

    Args:
        run: The run folder.
        round: Rounds done; -1 before the search for a start.
        shared: State that all sites share; see `encoding.encode`.
        sites: Each site's own state.
        events_bytes: Length of events.jsonl.
        metrics_parts: Closed parts of the metrics.
        frames_parts: Closed parts of the replays.
    """
    from fedsched.sim.encoding import encode

    folder = run / FOLDER
    place = folder / f"{_last(folder) + 1:06d}"
    (place / SITES).mkdir(parents=True)
    states = {place / SHARED: shared, **{place / SITES / f"{site}{SUFFIX}": state for site, state in sites.items()}}
    for path, state in states.items():
        with replace_file(path) as temporary:
            temporary.write_bytes(encode(state))
    for parent in (place, folder, run):
        sync_folder(parent)
    lengths = {"events_bytes": events_bytes, "metrics_parts": metrics_parts, "frames_parts": frames_parts}
    write_json(folder / POINTER, {"checkpoint": place.name, "round": round, "sites": list(sites), **lengths})
    for old in _numbered(folder)[:-KEPT]:
        shutil.rmtree(old)


def newest_checkpoint(run: Path) -> Checkpoint | None:
    """The newest checkpoint of a run folder that was written whole; None before the first."""
    folder = run / FOLDER
    try:
        notes = json.loads((folder / POINTER).read_bytes())
    except FileNotFoundError:
        return None
    sites = tuple(notes["sites"])
    lengths = {name: notes.get(name, 0) for name in ("events_bytes", "metrics_parts", "frames_parts")}
    return Checkpoint(folder / notes["checkpoint"], notes["round"], sites, **lengths)


def _numbered(folder: Path) -> list[Path]:
    """All folders of checkpoints in order, those that a kill left unfinished among them."""
    return sorted(path for path in folder.glob("*") if path.name.isdigit())


def _last(folder: Path) -> int:
    return max((int(path.name) for path in _numbered(folder)), default=0)


def _read(path: Path) -> dict[str, Any]:
    from fedsched.sim.encoding import decode

    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
