"""When the vehicles of a `<flow>` depart."""

import math

import numpy as np

from fedsched.envs.intersections.xmlfile import Element

MOST = 1_000_000
"""Vehicles of one flow at most."""

_WAYS = ("number", "period", "vehsPerHour", "probability")


def departures(element: Element, begin: float, end: float, rng: np.random.Generator) -> list[float]:
    """Departures of a flow in s, in order.

    `number` spreads so many over [begin, end); `period` and `vehsPerHour` space them evenly, at most `number` of them;
    `probability` draws every second; `period="exp(x)"` draws gaps with a mean of 1/x s.

    Args:
        element: The flow.
        begin: s, first departure.
        end: s; nobody departs then or later.
        rng: For what is drawn.

    Raises:
        IntersectionsError: The flow does not say how many depart, or contradicts itself.
    """
    if end < begin:
        element.fail(f"flow {element.text('id')!r} ends at {end:g} s, before it begins at {begin:g} s; correct it")
    if "probability" in element.attributes:
        return _each_second(element, begin, end, rng)
    period = element.attributes.get("period", "")
    if period.startswith("exp(") and period.endswith(")"):
        return _poisson(begin, end, _positive(element, "period", period[4:-1], end - begin), rng)
    most = element.whole("number", MOST + 1)
    if period:
        gap = _positive(element, "period", period)
    elif "vehsPerHour" in element.attributes:
        gap = 3600 / _positive(element, "vehsPerHour", element.text("vehsPerHour"))
    elif "number" in element.attributes:
        gap = (end - begin) / max(1, most)
    else:
        element.fail(f"flow {element.text('id')!r} does not say how many depart; write one of {', '.join(_WAYS)}")
    count = min(most, math.ceil((end - begin) / gap - 1e-9)) if end > begin else 0
    if count > MOST:
        element.fail(f"flow {element.text('id')!r} has {count} vehicles, more than {MOST}; lengthen the period")
    return [begin + n * gap for n in range(count)]


def _positive(element: Element, name: str, text: str, seconds: float = 0.0) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf") or value * seconds > MOST:
        element.fail(f"flow {element.text('id')!r}: {name}={text!r}; write a number above 0, not too large")
    return value


def _each_second(element: Element, begin: float, end: float, rng: np.random.Generator) -> list[float]:
    chance = element.number("probability")
    if not 0 <= chance <= 1 or end - begin > MOST:
        element.fail(f"flow {element.text('id')!r}: probability {chance:g}; write 0 to 1, over less than {MOST} s")
    seconds = np.arange(math.ceil(begin), end)
    return [float(second) for second in seconds[rng.random(len(seconds)) < chance]]


def _poisson(begin: float, end: float, rate: float, rng: np.random.Generator) -> list[float]:
    found, at = [], begin
    while (at := at + float(rng.exponential(1 / rate))) < end:
        found.append(at)
    return found
