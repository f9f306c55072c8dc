"""Demand in SUMO's route files: read, routed, drawn and written."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np

from fedsched.envs.core.streams import stream
from fedsched.envs.intersections.closures import read_closures
from fedsched.envs.intersections.demand import Closure, Demand, Trip, VehicleType
from fedsched.envs.intersections.flows import departures
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.routing import Router
from fedsched.envs.intersections.vehicletypes import PREDEFINED, TYPE_ATTRIBUTES, read_type
from fedsched.envs.intersections.xmlfile import Element, XmlFile

_ROOTS = ("routes", "additional")


def read_demand(
    paths: str | Path | Sequence[str | Path], network: Network, begin: float, end: float, seed: int = 0
) -> Demand:
    """Reads vehicles, trips and flows that depart within [begin, end).

    Trips are routed once, at free flow. Whoever is not in order of departure is sorted in; SUMO leaves them out.

    Args:
        paths: Route files and additional files with types and routes, in the order in which SUMO loads them.
        network: Where they drive.
        begin: s on the clock of the files; whoever departs earlier is left out.
        end: s; whoever departs then or later is left out.
        seed: Of random flows and of types and routes drawn from distributions.

    Raises:
        IntersectionsError: With file, line, element id and remedy.
    """
    reader = _Reader(network, begin, end, seed)
    digest = hashlib.sha256()
    for path in [paths] if isinstance(paths, str | Path) else paths:
        file = XmlFile(path)
        for element in file.elements(_ROOTS):
            reader.take(element)
        digest.update(bytes.fromhex(file.digest))
    return reader.demand(digest.hexdigest())


class _Choice(NamedTuple):
    """A distribution: names and how probable each is."""

    names: tuple[str, ...]
    chances: tuple[float, ...]


@dataclass(frozen=True)
class _Departure:
    """One vehicle before sorting."""

    id: str
    type: str
    route: tuple[int, ...]
    depart_s: float
    lane: str
    speed: str
    position: str
    places: tuple[int, ...]


class _Reader:
    """Collects what the files say."""

    def __init__(self, network: Network, begin: float, end: float, seed: int) -> None:
        self.network, self.begin, self.end, self.seed = network, begin, end, seed
        self.router = Router(network)
        self.edge_of = {edge.id: n for n, edge in enumerate(network.edges) if not edge.internal}
        self.types: dict[str, VehicleType] = dict(PREDEFINED)
        self.routes: dict[str, tuple[int, ...]] = {}
        self.type_choices: dict[str, _Choice] = {}
        self.route_choices: dict[str, _Choice] = {}
        self.departures: list[_Departure] = []
        self.ids: set[str] = set()
        self.ways: dict[tuple[int, int, str, float], tuple[int, ...] | None] = {}
        self.checked: set[tuple[tuple[int, ...], str]] = set()
        self.closures: list[Closure] = []
        self.ignored: Counter[str] = Counter()

    def take(self, element: Element) -> None:
        """One element directly within the root."""
        match element.name:
            case "vType":
                self._type(element)
            case "vTypeDistribution":
                self._type_distribution(element)
            case "route":
                self.routes[element.text("id")] = self._edges(element)
            case "routeDistribution":
                self._route_distribution(element)
            case "vehicle" | "trip":
                self._vehicle(element)
            case "flow":
                self._flow(element)
            case "rerouter":
                closures, others = read_closures(element, self.network)
                self.closures += closures
                self.ignored.update(others)
            case _:
                self.ignored[element.name] += 1

    def demand(self, digest: str) -> Demand:
        """All of it, in order of departure."""
        ordered = sorted(self.departures, key=lambda d: d.depart_s)
        types = {name: n for n, name in enumerate(dict.fromkeys(d.type for d in ordered))}
        routes = {route: n for n, route in enumerate(dict.fromkeys(d.route for d in ordered))}
        trips = tuple(
            Trip(d.id, types[d.type], routes[d.route], d.depart_s, d.lane, d.speed, d.position, d.places)
            for d in ordered
        )
        ignored = tuple(sorted(self.ignored.items()))
        used = tuple(self.types[name] for name in types)
        return Demand(used, tuple(routes), trips, digest, ignored, tuple(self.closures))

    def _type(self, element: Element) -> str:
        kind = read_type(element)
        self.types[kind.id] = kind
        self.ignored.update(name for name in element.attributes if name not in TYPE_ATTRIBUTES)
        return kind.id

    def _type_distribution(self, element: Element) -> None:
        inner = [(self._type(c), c.number("probability", 1.0)) for c in element.children if c.name == "vType"]
        self.type_choices[element.text("id")] = self._choice(element, "vTypes", inner, self.types)

    def _route_distribution(self, element: Element) -> None:
        inner = []
        for n, child in enumerate(c for c in element.children if c.name == "route"):
            name = child.attributes.get("refId") or child.attributes.get("id") or f"{element.text('id')}#{n}"
            if "refId" not in child.attributes:
                self.routes[name] = self._edges(child)
            inner.append((name, child.number("probability", 1.0)))
        self.route_choices[element.text("id")] = self._choice(element, "routes", inner, self.routes)

    def _choice(
        self, element: Element, attribute: str, inner: list[tuple[str, float]], known: Iterable[str]
    ) -> _Choice:
        listed = element.words(attribute)
        chances = [self._chance(element, text) for text in element.words("probabilities")] or [1.0] * len(listed)
        if len(chances) != len(listed):
            element.fail(
                f"{element.text('id')!r}: {len(listed)} {attribute}, {len(chances)} probabilities; write as many"
            )
        pairs = inner + list(zip(listed, chances, strict=True))
        for name, chance in pairs:
            if name not in known:
                element.fail(f"{element.text('id')!r} names {name!r}, which is not defined above; define it first")
            if chance < 0:
                element.fail(f"{element.text('id')!r}: a negative probability; correct it")
        if not sum(chance for _, chance in pairs) > 0:
            element.fail(f"{element.text('id')!r} holds nothing to draw from; add an element of probability above 0")
        return _Choice(tuple(name for name, _ in pairs), tuple(chance for _, chance in pairs))

    def _chance(self, element: Element, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            element.fail(f"probability {text!r} is not a number; write one")

    def _edges(self, element: Element) -> tuple[int, ...]:
        names = element.words("edges")
        if not names:
            element.fail("a route without edges; name at least one")
        return tuple(self._edge(element, name) for name in names)

    def _edge(self, element: Element, name: str) -> int:
        if name not in self.edge_of:
            element.fail(f"{self._who(element)}: no edge {name!r} in the network; correct the name")
        return self.edge_of[name]

    def _who(self, element: Element) -> str:
        return f"<{element.name}> {element.attributes.get('id', '')!r}"

    def _vehicle(self, element: Element) -> None:
        name, depart = element.text("id"), self._seconds(element, "depart")
        if not self.begin <= depart < self.end:
            return
        self._depart(element, name, depart)

    def _seconds(self, element: Element, name: str, default: float | None = None) -> float:
        """A time in s or as [days:]hours:minutes:seconds."""
        text = element.attributes.get(name, "")
        parts = text.split(":")
        if len(parts) in (3, 4) and all(part.replace(".", "", 1).isdigit() for part in parts):
            return sum(float(part) * s for part, s in zip(reversed(parts), (1, 60, 3600, 86400), strict=False))
        if text and not text[0].isdigit() and text[0] not in "+-.":
            element.fail(f"{self._who(element)}: {name}={text!r} is not supported; write seconds")
        return element.number(name, default)

    def _depart(self, element: Element, name: str, depart: float) -> None:
        if name in self.ids:
            element.fail(f"{self._who(element)}: the id {name!r} is there twice; rename one")
        self.ids.add(name)
        for attribute in ("arrivalPos", "arrivalLane", "arrivalSpeed", "line"):
            if attribute in element.attributes:
                self.ignored[attribute] += 1
        for child in element.children:
            if child.name not in ("route", "param"):
                self.ignored[child.name] += 1
        kind = self.types[self._kind(element, name)]
        route, places = self._route(element, name, kind)
        how = element.text("departLane", "best_prob"), element.text("departSpeed", "avg")
        self.departures.append(
            _Departure(name, kind.id, route, depart, *how, element.text("departPos", "base"), places)
        )

    def _kind(self, element: Element, name: str) -> str:
        kind = element.text("type", "DEFAULT_VEHTYPE")
        if kind in self.type_choices:
            return self._draw(self.type_choices[kind], "type", name)
        if kind not in self.types:
            element.fail(
                f"{self._who(element)}: no vehicle type {kind!r} is defined above; define it or correct the name"
            )
        return kind

    def _draw(self, choice: _Choice, what: str, name: str) -> str:
        chances = np.array(choice.chances) / sum(choice.chances)
        rng = stream(self.seed, f"{what} of {name}")
        return choice.names[int(rng.choice(len(choice.names), p=chances))]

    def _route(self, element: Element, name: str, kind: VehicleType) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Its edges, and those it names instead of them."""
        inner = [child for child in element.children if child.name == "route"]
        if inner:
            route = self._edges(inner[0])
        elif "route" in element.attributes:
            route = self._named(element, element.text("route"), name)
        elif "from" in element.attributes and "to" in element.attributes:
            places = tuple(
                self._edge(element, name) for name in (element.text("from"), *element.words("via"), element.text("to"))
            )
            return self._routed(element, places, kind), places
        else:
            element.fail(f"{self._who(element)} has no route, and not from and to as edges either; add them")
        self._check(element, route, kind)
        return route, ()

    def _named(self, element: Element, route: str, name: str) -> tuple[int, ...]:
        if route in self.route_choices:
            route = self._draw(self.route_choices[route], "route", name)
        if route not in self.routes:
            element.fail(f"{self._who(element)}: no route {route!r} is defined above; define it or correct the name")
        return self.routes[route]

    def _check(self, element: Element, route: tuple[int, ...], kind: VehicleType) -> None:
        key = route, kind.vehicle_class
        if key in self.checked:
            return
        edges = self.network.edges
        for edge in route:
            if not self.router.usable(edge, kind.vehicle_class):
                element.fail(
                    f"{self._who(element)}: edge {edges[edge].id!r} is closed to {kind.vehicle_class}; route around"
                )
        for edge, following in itertools.pairwise(route):
            if not self.router.connected(edge, following, kind.vehicle_class):
                element.fail(
                    f"{self._who(element)}: no connection for {kind.vehicle_class} from edge {edges[edge].id!r} "
                    f"to {edges[following].id!r}; correct the route"
                )
        self.checked.add(key)

    def _routed(self, element: Element, places: tuple[int, ...], kind: VehicleType) -> tuple[int, ...]:
        route = places[:1]
        for start, goal in itertools.pairwise(places):
            key = start, goal, kind.vehicle_class, kind.max_speed
            if key not in self.ways:
                self.ways[key] = self.router.way(start, goal, kind.vehicle_class, kind.max_speed)
            way = self.ways[key]
            if way is None:
                a, b = self.network.edges[start].id, self.network.edges[goal].id
                element.fail(
                    f"{self._who(element)}: no way for {kind.vehicle_class} from edge {a!r} to {b!r}; correct it"
                )
            route += way[1:]
        return route

    def _flow(self, element: Element) -> None:
        name = element.text("id")
        begin, end = self._seconds(element, "begin", self.begin), self._seconds(element, "end", self.end)
        departs = departures(element, begin, end, stream(self.seed, f"departures of {name}"))
        inside = [depart for depart in departs if self.begin <= depart < self.end]
        for n, depart in enumerate(inside):
            self._depart(element, f"{name}.{n}", depart)


def write_routes(demand: Demand, network: Network, path: str | Path) -> None:
    """Writes a plain route file: every vehicle with its type, its route and when, where and how it departs.

    Run by SUMO on the same network it is the same demand; read again it is equal but for the digest. Who was read
    without a route is written without one.

    Args:
        demand: What to write.
        network: Whose edges the routes name.
        path: Where to; ends in .rou.xml by custom.
    """
    Path(path).write_text(routes_text(demand, network), encoding="utf-8")


def routes_text(demand: Demand, network: Network) -> str:
    """What `write_routes` writes."""
    lines = ["<routes>", *(_type_line(kind) for kind in demand.types)]
    for trip in demand.trips:
        head = {"id": trip.id, "type": demand.types[trip.type].id, "depart": _text(trip.depart_s)}
        how = {"departLane": trip.depart_lane, "departSpeed": trip.depart_speed, "departPos": trip.depart_position}
        names = [network.edges[edge].id for edge in trip.places or demand.routes[trip.route]]
        if trip.places:
            via = {"via": " ".join(names[1:-1])} if len(names) > 2 else {}
            lines.append(f"<trip{_attributes(head | {'from': names[0], 'to': names[-1]} | via | how)}/>")
        else:
            route = _attributes({"edges": " ".join(names)})
            lines.append(f"<vehicle{_attributes(head | how)}><route{route}/></vehicle>")
    return "\n".join([*lines, "</routes>"]) + "\n"


def _type_line(kind: VehicleType) -> str:
    low, high = kind.speed_range
    values = kind.speed_factor, kind.speed_deviation, low, high
    numbers = {
        "length": kind.length, "minGap": kind.min_gap, "accel": kind.accel, "decel": kind.decel,
        "emergencyDecel": kind.emergency_decel, "sigma": kind.sigma, "tau": kind.tau, "maxSpeed": kind.max_speed,
    }  # fmt: skip
    factor = {"speedFactor": f"normc({','.join(_text(value) for value in values)})"}
    texts = {name: _text(value) for name, value in numbers.items()}
    return f"<vType{_attributes({'id': kind.id, 'vClass': kind.vehicle_class} | texts | factor)}/>"


def _attributes(values: dict[str, str]) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in values.items())


def _text(number: float) -> str:
    """A number that reads back as itself."""
    return repr(float(number)).removesuffix(".0")
