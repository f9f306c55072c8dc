"""What is installed beside fedsched for cities, as `fedsched doctor` finds it."""

from importlib.util import find_spec


def examine() -> list[tuple[str, str, str]]:
    """What was looked at, what was found, and what to do about it; nothing where all is well."""
    there = find_spec("libsumo") is not None
    state = "found" if there else "not installed; needed for --simulator sumo: pip install 'fedsched[sumo]'"
    return [("SUMO (libsumo)", state, "")]
