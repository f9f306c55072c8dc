"""Network and demand as the flat tables that the dynamics read."""

from collections.abc import Mapping, Sequence

import numpy as np

from fedsched.envs.intersections.closures import closure_arrays, plan_closures
from fedsched.envs.intersections.conflicts import build_conflicts
from fedsched.envs.intersections.demand import Closure, Demand, VehicleType
from fedsched.envs.intersections.links import Movements, begins, lane_arrays, link_arrays
from fedsched.envs.intersections.network import CLASSES, IntersectionsError, Network
from fedsched.envs.intersections.tables import F64, I32, Signals, Tables, Types, Vehicles, Ways
from fedsched.envs.intersections.ways import build_ways, reach_m

LANE_RULES = {"best_prob": -1, "best": -1, "allowed": -2, "first": -2, "random": -3, "free": -4}
"""Codes of `Vehicles.lane` for the rules that are no number."""

POSITION_RULES = {"base": -1.0, "last": -1.0, "random_free": -2.0, "random": -3.0, "free": -4.0}
"""What `Vehicles.position` says for them; `last` and `free` count as `base`."""

SPEED_RULES = {"avg": -1.0, "max": -2.0, "desired": -2.0, "speedLimit": -3.0, "last": -1.0, "random": -2.0}
"""Codes of `Vehicles.speed`."""


def compile_tables(
    network: Network, demand: Demand, begin_s: float, closures: Sequence[Sequence[Closure]] = ((),)
) -> Tables:
    """All tables of one network with one demand, read-only.

    Args:
        network: The network.
        demand: Who drives where and when.
        begin_s: The clock of the files at second 0 of an episode.
        closures: Of each instance.

    Raises:
        IntersectionsError: The network contradicts itself, or a depart lane or speed is unknown.
    """
    moves = Movements(network)
    classes = [CLASSES.index(kind.vehicle_class) for kind in demand.types]
    keys = way_keys(demand)
    place = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    plan = plan_closures(closures, begin_s)
    ways = build_ways(network, moves, list(place), plan.sets)
    tables = Tables(
        lanes=lane_arrays(network, moves),
        links=link_arrays(network, moves),
        conflicts=build_conflicts(network, moves),
        signals=_signals(network),
        ways=ways,
        vehicles=_vehicles(demand, begin_s, np.array([place[key] for key in keys], dtype=np.int32), ways),
        types=_types(demand.types, classes),
        closures=closure_arrays(plan, network, len(place)),
    )
    for part in vars(tables).values():
        for column in vars(part).values():
            column.flags.writeable = False
    return tables


def drivers(types: Sequence[VehicleType]) -> list[tuple[str, float]]:
    """Which way vehicles of each type read off a route: by their class and reach."""
    return [(kind.vehicle_class, reach_m(kind)) for kind in types]


def way_keys(demand: Demand) -> list[tuple[tuple[int, ...], str, float]]:
    """The (route, class, reach) of every trip."""
    readers = drivers(demand.types)
    return [(demand.routes[trip.route], *readers[trip.type]) for trip in demand.trips]


def _signals(network: Network) -> Signals:
    phases = [phase for signal in network.signals for phase in signal.phases]
    widths = [len(signal.connections) for signal in network.signals]
    state = np.zeros((len(phases), max(widths, default=0)), dtype=np.int32)
    for row, phase in zip(state, phases, strict=True):
        row[: len(phase.state)] = [ord(character) for character in phase.state]
    return Signals(
        link_begin=begins([signal.connections for signal in network.signals]),
        phase_begin=begins([signal.phases for signal in network.signals]),
        duration_s=np.array([phase.duration_s for phase in phases], dtype=np.float64),
        minimum_s=np.array([phase.minimum_s for phase in phases], dtype=np.float64),
        maximum_s=np.array([phase.maximum_s for phase in phases], dtype=np.float64),
        state=state,
        offset_s=np.array([signal.offset_s for signal in network.signals], dtype=np.float64),
        actuated=np.array([signal.kind == "actuated" for signal in network.signals], dtype=np.bool_),
    )


def _vehicles(demand: Demand, begin_s: float, keys: I32, ways: Ways) -> Vehicles:
    trips = demand.trips
    return Vehicles(
        depart_s=demand.departures_s() - begin_s,
        key=keys,
        way=ways.begin[0, keys],
        edges=np.array([len(demand.routes[trip.route]) for trip in trips], dtype=np.int32),
        type=np.array([trip.type for trip in trips], dtype=np.int32),
        lane=np.array([_lane(trip.depart_lane, trip.id) for trip in trips], dtype=np.int32),
        speed=np.array(
            [_number(SPEED_RULES, trip.depart_speed, "departSpeed", "m/s", trip.id) for trip in trips], dtype=np.float64
        ),
        position=np.array(
            [_number(POSITION_RULES, trip.depart_position, "departPos", "m", trip.id) for trip in trips],
            dtype=np.float64,
        ),
    )


def _lane(rule: str, name: str) -> int:
    if rule in LANE_RULES:
        return LANE_RULES[rule]
    if rule.isascii() and rule.isdigit():
        return int(rule)
    raise IntersectionsError(f"vehicle {name!r}: departLane {rule!r}; write a number or one of {', '.join(LANE_RULES)}")


def _number(rules: Mapping[str, float], rule: str, attribute: str, unit: str, name: str) -> float:
    if rule in rules:
        return rules[rule]
    try:
        number = float(rule)
    except ValueError:
        number = -1.0
    if 0 <= number < float("inf"):
        return number
    raise IntersectionsError(
        f"vehicle {name!r}: {attribute} {rule!r}; write {unit} from 0 or one of {', '.join(rules)}"
    )


def _types(types: tuple[VehicleType, ...], classes: list[int]) -> Types:
    def column(name: str) -> F64:
        return np.array([getattr(kind, name) for kind in types], dtype=np.float64)

    names = ("length", "min_gap", "accel", "decel", "emergency_decel", "sigma", "tau", "max_speed", "speed_factor")
    return Types(
        **{name: column(name) for name in (*names, "speed_deviation")},
        speed_low=np.array([kind.speed_range[0] for kind in types], dtype=np.float64),
        speed_high=np.array([kind.speed_range[1] for kind in types], dtype=np.float64),
        vehicle_class=np.array(classes, dtype=np.int32),
    )
