"""Vehicle types: SUMO's defaults by class, and `<vType>` elements."""

import re

from fedsched.envs.intersections.demand import VehicleType
from fedsched.envs.intersections.network import CLASSES
from fedsched.envs.intersections.xmlfile import Element

_ROWS = {
    # length, gap, accel, decel, emergency, max speed, deviation, sigma
    "passenger": (5.0, 2.5, 2.6, 4.5, 9.0, 200 / 3.6, 0.1, 0.5),
    "bus": (12.0, 2.5, 1.2, 4.0, 7.0, 100 / 3.6, 0.0, 0.5),
    "truck": (7.1, 2.5, 1.3, 4.0, 7.0, 130 / 3.6, 0.05, 0.5),
    "emergency": (6.5, 2.5, 2.6, 4.5, 9.0, 200 / 3.6, 0.0, 0.5),
    "delivery": (6.5, 2.5, 2.6, 4.5, 9.0, 200 / 3.6, 0.05, 0.5),
    "taxi": (5.0, 2.5, 2.6, 4.5, 9.0, 200 / 3.6, 0.05, 0.5),
    "coach": (14.0, 2.5, 2.0, 4.0, 7.0, 100 / 3.6, 0.05, 0.5),
    "trailer": (16.5, 2.5, 1.1, 4.0, 7.0, 130 / 3.6, 0.05, 0.5),
    "motorcycle": (2.2, 2.5, 6.0, 10.0, 10.0, 200 / 3.6, 0.1, 0.5),
    "moped": (2.1, 2.5, 1.1, 7.0, 10.0, 60 / 3.6, 0.1, 0.5),
    "bicycle": (1.6, 0.5, 1.2, 3.0, 7.0, 50 / 3.6, 0.1, 0.5),
    "private": (5.0, 2.5, 2.6, 4.5, 9.0, 200 / 3.6, 0.1, 0.5),
    "authority": (5.0, 2.5, 2.6, 4.5, 9.0, 200 / 3.6, 0.0, 0.5),
    "army": (5.0, 2.5, 2.6, 4.5, 9.0, 200 / 3.6, 0.0, 0.5),
    "vip": (5.0, 2.5, 2.6, 4.5, 9.0, 200 / 3.6, 0.1, 0.5),
    "hov": (5.0, 2.5, 2.6, 4.5, 9.0, 200 / 3.6, 0.1, 0.5),
    "evehicle": (5.0, 2.5, 2.6, 4.5, 9.0, 200 / 3.6, 0.1, 0.5),
    "tram": (22.0, 2.5, 1.0, 3.0, 7.0, 80 / 3.6, 0.0, 0.0),
}
"""What SUMO 1.28.0 gives to a `<vType>` with nothing but a vClass, as libsumo reports it."""

_FACTOR = re.compile(r"\s*(norm|normc)\(([^()]*)\)\s*")
_SYNONYMS = {"emergency_decel": "emergencyDecel", "min_gap": "minGap", "max_speed": "maxSpeed"}
_POSITIVE = ("length", "accel", "decel", "emergency_decel", "max_speed")

TYPE_ATTRIBUTES = frozenset(
    [
        "id",
        "vClass",
        "carFollowModel",
        "speedFactor",
        "speedDev",
        "length",
        "minGap",
        "accel",
        "decel",
        "emergencyDecel",
        "sigma",
        "tau",
        "maxSpeed",
        "probability",
        "color",
        "guiShape",
        "imgFile",
    ]
)
"""What a `<vType>` says that is heeded, or that changes no driving."""


def default_type(name: str, vehicle_class: str = "passenger") -> VehicleType:
    """The type that SUMO 1.28 makes of a class."""
    length, gap, accel, decel, emergency, fastest, deviation, sigma = _ROWS[vehicle_class]
    return VehicleType(name, vehicle_class, length, gap, accel, decel, emergency, sigma, 1.0, fastest, 1.0, deviation)


PREDEFINED = {
    "DEFAULT_VEHTYPE": default_type("DEFAULT_VEHTYPE"),
    "DEFAULT_TAXITYPE": default_type("DEFAULT_TAXITYPE", "taxi"),
    "DEFAULT_BIKETYPE": default_type("DEFAULT_BIKETYPE", "bicycle"),
}
"""Types that are there without being written down."""


def read_type(element: Element) -> VehicleType:
    """A `<vType>`; raises IntersectionsError for a class or a value that cannot be used."""
    name = element.text("id")
    vehicle_class = element.text("vClass", "passenger")
    if vehicle_class not in _ROWS:
        known = ", ".join(c for c in CLASSES if c in _ROWS)
        element.fail(f"vType {name!r}: vClass {vehicle_class!r} cannot be driven here; use one of {known}")
    model = element.text("carFollowModel", "Krauss")
    if model not in ("Krauss", "krauss", "KraussOrig1"):
        element.fail(f"vType {name!r}: carFollowModel {model!r} is not built in; use Krauss")
    base = default_type(name, vehicle_class)
    values = {
        field: element.number(_SYNONYMS.get(field, field), getattr(base, field))
        for field in ("length", "min_gap", "accel", "decel", "sigma", "tau", "max_speed")
    }
    values["emergency_decel"] = element.number("emergencyDecel", max(base.emergency_decel, values["decel"]))
    mean, deviation, bounds = _factor(element, base)
    for field in _POSITIVE:
        if values[field] <= 0:
            element.fail(f"vType {name!r}: {_SYNONYMS.get(field, field)} is {values[field]:g}; write more than 0")
    if not 0 <= values["sigma"] <= 1 or values["min_gap"] < 0 or values["tau"] < 0:
        element.fail(f"vType {name!r}: sigma lies within 0 to 1, minGap and tau from 0; correct them")
    return VehicleType(name, vehicle_class, **values, speed_factor=mean, speed_deviation=deviation, speed_range=bounds)


def _factor(element: Element, base: VehicleType) -> tuple[float, float, tuple[float, float]]:
    """Mean, deviation and bounds of the factor on speed limits, in the old and the new way of writing."""
    text = element.text("speedFactor", "1")
    match = _FACTOR.fullmatch(text)
    bounds = base.speed_range
    if match is None:
        mean, deviation = element.number("speedFactor", 1.0), base.speed_deviation
    else:
        try:
            numbers = [float(number) for number in match[2].split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != (2 if match[1] == "norm" else 4):
            element.fail(f"speedFactor={text!r}: write a number, norm(mean,dev) or normc(mean,dev,low,high)")
        mean, deviation = numbers[:2]
        bounds = (numbers[2], numbers[3]) if len(numbers) == 4 else (float("-inf"), float("inf"))
    deviation = element.number("speedDev", deviation)
    if mean <= 0 or deviation < 0 or bounds[0] > bounds[1]:
        element.fail(f"speedFactor={text!r}: the mean is above 0, the deviation from 0, low not above high; correct it")
    return mean, deviation, bounds
