"""The eight maps of RESCO: found at run time, since their licences keep them out of this package.

They come from a folder, else from the package sumo-rl (extra `maps`), whose data are read without importing it. Its
ingolstadt7 and ingolstadt21 are not RESCO's: phases of some signal programs are commented out there. RESCO's own files
are at github.com/Pi-Star-Lab/RESCO; give their folder for those maps.

Source: Ault and Sharon, Reinforcement Learning Benchmarks for Traffic Signal Control (NeurIPS 2021 data sets).
"""

import importlib.metadata
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fedsched.envs.intersections.configfile import read_config
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, read_problem
from fedsched.envs.intersections.xmlfile import XmlFile

FOLDER_VARIABLE = "FEDSCHED_MAPS"
"""Names a folder with one folder per map."""

PACKAGE, INSIDE = "sumo-rl", "sumo_rl/nets/RESCO"

NAMES = (
    "arterial4x4", "cologne1", "cologne3", "cologne8", "grid4x4", "ingolstadt1", "ingolstadt21", "ingolstadt7",
)  # fmt: skip

CONTROLLED: dict[str, tuple[str, ...]] = {
    "ingolstadt21": (
        "1863241632", "2330725114", "243351999", "243641585", "243749571", "30503246", "30624898", "32564122",
        "89127267", "89173763", "89173808", "cluster_1427494838_273472399", "cluster_1757124350_1757124352",
        "cluster_1863241547_1863241548_1976170214",
        "cluster_306484187_cluster_1200363791_1200363826_1200363834_1200363898_1200363927_1200363938_1200363947_"
        "1200364074_1200364103_1507566554_1507566556_255882157_306484190",
        "gneJ143", "gneJ207", "gneJ208", "gneJ210", "gneJ255", "gneJ257",
    )
}  # fmt: skip
"""Signals that are agents, in RESCO's order; elsewhere all of them."""

_CUT = "sumo-rl's copy: phases of its signal programs are commented out, which RESCO's own file has"
_OTHERWISE = dict.fromkeys(("ingolstadt7", "ingolstadt21"), _CUT)


@dataclass(frozen=True)
class ResearchMap:
    """A map that is there.

    Attributes:
        name: RESCO's.
        config: Its `.sumocfg`: network, demand and RESCO's hour.
        source: Where it was found: a folder, or the package with its version.
        note: How it is known to differ from RESCO's own files; empty where it is not.
    """

    name: str
    config: Path
    source: str
    note: str

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the uncompressed network and route files, by file name; tables name them."""
        found = read_config(self.config)
        return {path.name: _digest(path) for path in (found.network, *found.additional, *found.routes)}


def resco_maps(folder: str | Path | None = None) -> dict[str, ResearchMap]:
    """The maps that are there, by name.

    Args:
        folder: With a folder per map that holds one `.sumocfg`; else what FEDSCHED_MAPS names, else the package.

    Raises:
        IntersectionsError: No source of maps, or a folder that holds none.
    """
    place, source = _place(folder)
    packaged = source.startswith(PACKAGE)
    found = {}
    for name in NAMES:
        configs = sorted((place / name).glob("*.sumocfg"))
        if len(configs) > 1:
            raise IntersectionsError(f"{len(configs)} configurations; leave one .sumocfg", place / name)
        if configs:
            note = _OTHERWISE.get(name, "") if packaged else ""
            found[name] = ResearchMap(name, configs[0], source, note)
    if not found:
        raise IntersectionsError(f"holds no map; expected {NAMES[1]}/{NAMES[1]}.sumocfg and the like", place)
    return found


def resco_problem(name: str, folder: str | Path | None = None) -> Problem:
    """A map of RESCO as a problem of one instance: its hour, and the signals that are controlled there.

    Args:
        name: Such as `grid4x4`.
        folder: As in `resco_maps`.

    Raises:
        IntersectionsError: An unknown map, no source of maps, or a map that is not there.
    """
    if name not in NAMES:
        raise IntersectionsError(f"no map {name!r}; there are {', '.join(NAMES)}")
    found = resco_maps(folder)
    if name not in found:
        source = next(iter(found.values())).source
        raise IntersectionsError(f"{name} is not among the maps of {source}, which has {', '.join(found)}")
    return read_problem(found[name].config, CONTROLLED.get(name))


def _place(folder: str | Path | None) -> tuple[Path, str]:
    """Where the maps lie, and how to name it."""
    named = folder or os.environ.get(FOLDER_VARIABLE)
    if named:
        place = Path(named)
        if not place.is_dir():
            raise IntersectionsError(f"no such folder; correct the argument or {FOLDER_VARIABLE}", place)
        return place, str(place)
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise IntersectionsError(
            f"the RESCO maps are not installed: pip install 'fedsched[maps]', or set {FOLDER_VARIABLE} to their folder"
        ) from error
    return Path(str(package.locate_file(INSIDE))), f"{PACKAGE} {package.version}"


def _digest(path: Path) -> str:
    file = XmlFile(path)
    for _ in file.elements(("net", "routes", "additional")):
        pass  # the digest is complete once all has been read
    return file.digest
