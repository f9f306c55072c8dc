"""SUMO's configuration files: which network, which demand, when."""

from dataclasses import dataclass
from pathlib import Path

from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.xmlfile import Element, XmlFile

_ROOTS = ("configuration", "sumoConfiguration")
_ONE = ("step-length", "scale")
"""Options that change the traffic; here a step is 1 s, and flows are as they are written."""


@dataclass(frozen=True)
class Config:
    """What a `.sumocfg` names; paths are relative to its folder there, resolved here.

    Attributes:
        network: The network's file.
        routes: Files with demand, in order.
        additional: Further files, read before them.
        begin_s: First second of the simulation.
        end_s: Where it ends, infinite where the file does not say.
    """

    network: Path
    routes: tuple[Path, ...]
    additional: tuple[Path, ...]
    begin_s: float
    end_s: float


def read_config(path: str | Path) -> Config:
    """Reads a `.sumocfg`.

    Raises:
        IntersectionsError: With file, line, what is wrong and what to do.
    """
    found: dict[str, Element] = {}
    for section in XmlFile(path).elements(_ROOTS):
        for element in (section, *section.children):
            if "value" in element.attributes or "v" in element.attributes:
                found[element.name] = element
    for name in _ONE:
        if _seconds(found.get(name), 1.0) != 1.0:
            found[name].fail(f"<{name}> {_value(found[name])!r} is not modelled; write 1, or remove it")
    networks = _files(found, Path(path), "net-file", "n", "net")
    if len(networks) != 1:
        raise IntersectionsError(f"names {len(networks)} networks; write one <net-file value=...>", path)
    routes = _files(found, Path(path), "route-files", "r", "routes")
    additional = _files(found, Path(path), "additional-files", "a", "additional")
    begin = _seconds(found.get("begin") or found.get("b"), 0.0)
    end = _seconds(found.get("end") or found.get("e"), -1.0)
    if 0 <= end <= begin:
        raise IntersectionsError(f"ends at {end:g} s, not after its begin at {begin:g} s; correct one", path)
    return Config(networks[0], routes, additional, begin, end if end >= 0 else float("inf"))


def _files(found: dict[str, Element], path: Path, *names: str) -> tuple[Path, ...]:
    for name in names:
        if name in found:
            texts = _value(found[name]).split(",")
            return tuple(path.parent / text.strip() for text in texts if text.strip())
    return ()


def _value(element: Element) -> str:
    return element.attributes.get("value") or element.text("v")


def _seconds(element: Element | None, default: float) -> float:
    if element is None:
        return default
    try:
        return float(_value(element))
    except ValueError:
        element.fail(f"<{element.name}> {_value(element)!r} is not a number of seconds; write one")
