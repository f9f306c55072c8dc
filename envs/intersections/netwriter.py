"""Networks written as SUMO's `.net.xml`, so that SUMO can run those that were made here."""

import math
from pathlib import Path
from xml.sax.saxutils import quoteattr

from fedsched.envs.intersections.network import (
    CLASSES,
    Connection,
    Edge,
    FloatArray,
    GapRule,
    Junction,
    Lane,
    Network,
    Request,
    Signal,
    Turn,
)

VERSION = "1.20"
"""Of the format."""

_OTHER = "custom1"
"""A class of SUMO that counts as `other`."""

_ALL = (1 << len(CLASSES)) - 1
_DIRECTIONS = {
    Turn.STRAIGHT: "s", Turn.RIGHT: "r", Turn.PARTIAL_RIGHT: "R", Turn.LEFT: "l", Turn.PARTIAL_LEFT: "L",
    Turn.TURN: "t",
}  # fmt: skip


def write_network(network: Network, path: str | Path) -> None:
    """Writes a network file.

    SUMO runs it as it runs the file the network was read from, with the same draws: edges, junctions and connections
    stand in the order in which netconvert writes them. Elements that are not modelled (crossings, further programs)
    are not there. Read again, it is equal but for the digest.

    Args:
        network: What to write.
        path: Where to; ends in .net.xml by custom.
    """
    lines = [f'<net version="{VERSION}">']
    for edge in sorted(network.edges, key=lambda edge: not edge.internal):
        lines += _edge(network, edge)
    for signal in network.signals:
        lines += _signal(signal)
    for junction in network.junctions:
        lines += _junction(network, junction)
    lines += [_connection(network, connection) for connection in network.connections]
    for edges in network.roundabouts:
        ends = dict.fromkeys(network.junctions[network.edges[n].target].id for n in edges)
        names = {"nodes": " ".join(ends), "edges": " ".join(network.edges[n].id for n in edges)}
        lines.append(f"<roundabout{_text(names)}/>")
    Path(path).write_text("\n".join([*lines, "</net>"]) + "\n", encoding="utf-8")


def _edge(network: Network, edge: Edge) -> list[str]:
    if edge.internal:
        head = {"id": edge.id, "function": "internal"}
    else:
        ends = {"from": network.junctions[edge.origin].id, "to": network.junctions[edge.target].id}
        head = {"id": edge.id} | ends | {"priority": str(edge.priority)}
    return [f"<edge{_text(head)}>", *(_lane(network.lanes[n]) for n in edge.lanes), "</edge>"]


def _lane(lane: Lane) -> str:
    values = {
        "id": lane.id, "index": str(lane.index), "speed": _number(lane.speed), "length": _number(lane.length),
        "width": _number(lane.width), "shape": _points(lane.shape),
    }  # fmt: skip
    if lane.allowed != _ALL:
        names = [_OTHER if name == "other" else name for n, name in enumerate(CLASSES) if lane.allowed >> n & 1]
        values |= {"allow": " ".join(names)} if names else {"disallow": "all"}
    return f"<lane{_text(values)}/>"


def _signal(signal: Signal) -> list[str]:
    head = {"id": signal.id, "type": signal.kind, "programID": signal.program, "offset": _number(signal.offset_s)}
    lines = [f"<tlLogic{_text(head)}>"]
    for phase in signal.phases:
        values = {"duration": _number(phase.duration_s), "state": phase.state}
        if phase.minimum_s != phase.duration_s or phase.maximum_s != phase.duration_s:
            values |= {"minDur": _number(phase.minimum_s)}
            values |= {"maxDur": _number(phase.maximum_s)} if math.isfinite(phase.maximum_s) else {}
        lines.append(f"<phase{_text(values)}/>")
    rule = {"max-gap": signal.rule.max_gap_s, "detector-gap": signal.rule.detector_gap_s}
    if signal.kind == "actuated" and signal.rule != GapRule():
        rule |= {"passing-time": signal.rule.passing_s}
        lines += [f"<param{_text({'key': key, 'value': _number(value)})}/>" for key, value in rule.items()]
    return [*lines, "</tlLogic>"]


def _junction(network: Network, junction: Junction) -> list[str]:
    place = f"{_number(junction.x)},{_number(junction.y)}"
    values = {
        "id": junction.id, "type": junction.kind, "x": _number(junction.x), "y": _number(junction.y),
        "incLanes": " ".join(network.lanes[n].id for n in junction.incoming),
        "intLanes": " ".join(network.lanes[n].id for n in junction.inside), "shape": place,
    }  # fmt: skip
    count = len(junction.requests)
    rows = [f"<request{_text(_request(n, row, count))}/>" for n, row in enumerate(junction.requests)]
    return [f"<junction{_text(values)}>", *rows, "</junction>"]


def _request(n: int, row: Request, count: int) -> dict[str, str]:
    bits = ["".join("1" if k in found else "0" for k in reversed(range(count))) for found in (row.response, row.foes)]
    return {"index": str(n), "response": bits[0], "foes": bits[1], "cont": str(int(row.cont))}


def _connection(network: Network, connection: Connection) -> str:
    source, target = network.lanes[connection.source], network.lanes[connection.target]
    values = {
        "from": network.edges[source.edge].id, "to": network.edges[target.edge].id,
        "fromLane": str(source.index), "toLane": str(target.index),
    }  # fmt: skip
    if connection.via >= 0:
        values["via"] = network.lanes[connection.via].id
    if connection.signal >= 0:
        values |= {"tl": network.signals[connection.signal].id, "linkIndex": str(connection.signal_index)}
    values |= {"dir": _DIRECTIONS[connection.turn], "state": connection.state}
    if not connection.keep_clear:
        values["keepClear"] = "0"
    if connection.visibility_m != Connection.visibility_m:
        values["visibility"] = _number(connection.visibility_m)
    return f"<connection{_text(values)}/>"


def _points(shape: FloatArray) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in shape.tolist())


def _text(values: dict[str, str]) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in values.items())


def _number(value: float) -> str:
    """A number that reads back as itself."""
    return repr(float(value)).removesuffix(".0")
