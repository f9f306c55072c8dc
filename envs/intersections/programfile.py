"""The `<tlLogic>` of a network file: phases, and when an actuated program lengthens them."""

import math

from fedsched.envs.intersections.network import GapRule, Phase
from fedsched.envs.intersections.xmlfile import Element

_STATES = "GgrRyYusoO"
_RULES = {"max-gap": "max_gap_s", "detector-gap": "detector_gap_s", "passing-time": "passing_s"}
_READ_OVER = ("show-detectors", "file", "freq", "build-all-detectors", "inactive-threshold")
"""Parameters that say what SUMO writes or draws, or what it does only where phases branch."""
_BRANCHES = ("earliestEnd", "latestEnd", "earlyTarget", "finalTarget")


def read_kind(element: Element, signal: str) -> tuple[str, GapRule]:
    """`static` or `actuated`, and the rule of the latter.

    Raises:
        IntersectionsError: Another type, or a parameter of an actuated program that is not modelled.
    """
    kind = element.text("type", "static")
    if kind not in ("static", "actuated"):
        element.fail(f"signal {signal!r}: programs of type {kind!r} are not modelled; make it 'static' or 'actuated'")
    found = {}
    for child in element.children:
        if child.name != "param" or kind == "static":
            continue
        key = child.text("key")
        if key in _RULES:
            found[_RULES[key]] = child.number("value")
            if found[_RULES[key]] <= 0:
                child.fail(f"signal {signal!r}: {key} is {found[_RULES[key]]:g} s; give it a value above 0")
        elif key not in _READ_OVER:
            child.fail(f"signal {signal!r}: the parameter {key!r} of an actuated program is not modelled; remove it")
    return kind, GapRule(**found)


def read_phase(element: Element, signal: str, kind: str) -> Phase:
    """One phase of a program of that type.

    Raises:
        IntersectionsError: Unknown states, no duration, limits that exclude each other, or another order of phases than
            that of the file.
    """
    state = element.text("state")
    duration = element.number("duration")
    for character in state:
        if character not in _STATES:
            element.fail(f"signal {signal!r}: unknown state {character!r} in a phase; use one of {_STATES}")
    if duration <= 0:
        element.fail(f"signal {signal!r}: a phase of {duration:g} s; give it a duration above 0")
    actuated = kind == "actuated"
    for name in ("next", *_BRANCHES) if actuated else ("next",):
        if name in element.attributes:
            element.fail(f"signal {signal!r}: a phase with {name!r} is not modelled; phases follow one another")
    minimum = element.number("minDur", duration)
    maximum = element.number("maxDur", math.inf if "minDur" in element.attributes else duration)
    if actuated and not 0 <= minimum <= maximum:
        element.fail(f"signal {signal!r}: a phase of {minimum:g} to {maximum:g} s; give maxDur of at least minDur")
    return Phase(duration, state, minimum, maximum)
