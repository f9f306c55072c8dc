"""Makes the small networks of this folder anew, and asks SUMO what it makes of them.

    python tests/envs/intersections/networks/remake.py        # needs eclipse-sumo and libsumo 1.28.0, nothing else

Per network NAME.net.xml.gz and NAME.rou.xml.gz (trips drawn here) and NAME.sumo.json.gz with what libsumo reports:
`links` of every lane, `foes` of every link, `inside`: lanes that conflict with each internal lane, `best` lanes by
class, place and route, `zones`: m from a lane's start to where two internal lanes meet, and the size, for both, and
`routes`: edges, s. `types.json` holds what a vType with nothing but a class is.
"""

import gzip
import json
import random
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import libsumo
import sumo

FOLDER = Path(__file__).parent
BIN = Path(sumo.SUMO_HOME) / "bin"
SECONDS = 300
SEED = 11
CLASSES = (
    "passenger", "bus", "truck", "emergency", "delivery", "taxi", "coach", "trailer", "motorcycle", "moped", "bicycle",
    "private", "authority", "army", "vip", "hov", "evehicle", "tram",
)  # fmt: skip
GRID = ("--grid", "--grid.length", "150", "--grid.attach-length", "100", "--seed", "5")
NETWORKS = {
    "lights": (*GRID, "--grid.number", "2", "-L", "3", "-j", "traffic_light", "--turn-lanes", "1"),
    "walks": (*GRID, "--grid.number", "2", "-L", "1", "-j", "traffic_light", "--sidewalks.guess", "--crossings.guess"),
    "plain": (*GRID, "--grid.number", "2", "-L", "2", "-j", "traffic_light", "--no-internal-links"),
    "roads": ("--rand", "--rand.iterations", "14", "-L", "3", "--rand.random-lanenumber", "-j", "priority",
              "--seed", "8", "--rand.min-distance", "80", "--rand.max-distance", "160"),
}  # fmt: skip


def write(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def make(name: str, options: tuple[str, ...], trips: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "net.xml"
        subprocess.run([BIN / "netgenerate", *options, "-o", made, "--no-warnings"], check=True, capture_output=True)
        text = re.sub(r"<!--.*?-->\s*", "", made.read_text(), flags=re.DOTALL)
    write(FOLDER / f"{name}.net.xml.gz", text)
    if trips:
        write(FOLDER / f"{name}.rou.xml.gz", demand(name))


def start(name: str, *more: str) -> None:
    libsumo.start(
        [
            "sumo",
            "-n",
            str(FOLDER / f"{name}.net.xml.gz"),
            "--no-step-log",
            "--no-warnings",
            "--time-to-teleport",
            "-1",
            *more,
        ]
    )


def demand(name: str) -> str:
    """Trips between random edges, of cars and, where they may, buses."""
    rng = random.Random(SEED)
    start(name)
    edges = [e for e in libsumo.edge.getIDList() if not e.startswith(":")]
    edges = sorted(e for e in edges if "passenger" in allowed(f"{e}_{libsumo.edge.getLaneNumber(e) - 1}"))
    lines, at = ['<vType id="car"/>', '<vType id="coach" vClass="bus"/>'], 0.0
    while at < SECONDS - 60:
        one, two = rng.sample(edges, 2)
        if libsumo.simulation.findRoute(one, two).edges:
            kind = "coach" if rng.random() < 0.15 else "car"
            lines.append(f'<trip id="{len(lines)}" type="{kind}" depart="{at:.2f}" from="{one}" to="{two}"/>')
            at += round(rng.expovariate(0.8), 2)
    libsumo.close()
    return "\n".join(["<routes>", *lines, "</routes>", ""])


def allowed(lane: str) -> tuple[str, ...]:
    return libsumo.lane.getAllowed(lane) or ("passenger",)


def ask(name: str) -> dict[str, Any]:
    start(name, "-r", str(FOLDER / f"{name}.rou.xml.gz"), "--seed", "1")
    lanes = libsumo.lane.getIDList()
    links = {lane: [[k[0], k[4], k[5], k[6], round(k[7], 3)] for k in libsumo.lane.getLinks(lane)] for lane in lanes}
    foes = {f"{lane}>{k[0]}": list(libsumo.lane.getFoes(lane, k[0])) for lane in lanes for k in links[lane]}
    inside = {lane: list(libsumo.lane.getInternalFoes(lane)) for lane in lanes if lane.startswith(":")}
    best: dict[str, Any] = {}
    zones: dict[str, Any] = {}
    routes: dict[str, Any] = {}
    for _ in range(SECONDS):
        libsumo.simulationStep()
        for vehicle in libsumo.vehicle.getIDList():
            look(vehicle, best, zones, routes)
    libsumo.close()
    return {"links": links, "foes": foes, "inside": inside, "best": best, "zones": zones, "routes": routes}


def look(vehicle: str, best: dict[str, Any], zones: dict[str, Any], routes: dict[str, Any]) -> None:
    get = libsumo.vehicle
    lane, position, route = get.getLaneID(vehicle), get.getLanePosition(vehicle), get.getRoute(vehicle)
    key = f"{get.getVehicleClass(vehicle)}|{get.getRouteIndex(vehicle)}|{' '.join(route)}"
    if not lane.startswith(":") and key not in best:
        best[key] = [[b[0], round(b[1], 2), b[3], list(b[5])] for b in get.getBestLanes(vehicle)]
        found = libsumo.simulation.findRoute(route[0], route[-1], get.getTypeID(vehicle))
        routes[f"{get.getVehicleClass(vehicle)}|{route[0]}|{route[-1]}"] = [
            list(found.edges),
            round(found.travelTime, 3),
        ]
    for foe, own, other, own_end, other_end, own_lane, other_lane, yields, yielded in get.getJunctionFoes(vehicle, 30):
        place = [lane, round(position, 3), libsumo.vehicle.getLaneID(foe), round(get.getLanePosition(foe), 3)]
        numbers = [round(number, 3) for number in (own, own_end, other, other_end)]
        zones.setdefault(f"{own_lane}|{other_lane}", [*place, *numbers, yields, yielded])


def types() -> dict[str, dict[str, float]]:
    text = "".join(f'<vType id="{c}" vClass="{c}"/>' for c in CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "types.rou.xml"
        path.write_text(f"<routes>{text}</routes>")
        start("lights", "-r", str(path))
        get = libsumo.vehicletype
        asked = {
            "length": get.getLength, "min_gap": get.getMinGap, "accel": get.getAccel, "decel": get.getDecel,
            "emergency_decel": get.getEmergencyDecel, "max_speed": get.getMaxSpeed, "sigma": get.getImperfection,
            "tau": get.getTau, "speed_factor": get.getSpeedFactor, "speed_deviation": get.getSpeedDeviation,
        }  # fmt: skip
        found = {c: {name: round(ask(c), 6) for name, ask in asked.items()} for c in CLASSES}
        libsumo.close()
    return found


if __name__ == "__main__":
    for name, options in NETWORKS.items():
        make(name, options, trips=True)
        write(FOLDER / f"{name}.sumo.json.gz", json.dumps(ask(name), separators=(",", ":")))
    (FOLDER / "types.json").write_text(json.dumps(types(), indent=1) + "\n")
