"""What is installed beside fedsched for cities, as `fedsched doctor` finds it."""

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from fedsched.envs.intersections.maps import FOLDER_VARIABLE, resco_maps
from fedsched.envs.intersections.network import IntersectionsError


def examine() -> list[tuple[str, str, str]]:
    """What was looked at, what was found, and what to do about it; nothing where all is well."""
    return [("SUMO (libsumo)", _sumo(), ""), ("RESCO maps", *_maps())]


def _sumo() -> str:
    if find_spec("libsumo") is None:
        return "not installed; needed for --simulator sumo: pip install 'fedsched[sumo]'"
    try:
        return version("libsumo")
    except PackageNotFoundError:
        return "found"


def _maps() -> tuple[str, str]:
    """The state, and a remedy where the variable names a folder that is of no use."""
    try:
        found = resco_maps()
    except IntersectionsError as error:
        if FOLDER_VARIABLE in os.environ:
            return str(error), f"correct {FOLDER_VARIABLE}, or unset it"
        return str(error), ""
    return f"{next(iter(found.values())).source}: {', '.join(found)}", ""
