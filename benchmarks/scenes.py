"""Two-minute scenes for the traffic core: each shows one rule, with what SUMO 1.28 does in it.

    python -m benchmarks.scenes                       # all, about a minute; needs the extra `sumo`
    python -m benchmarks.scenes --only yellow         # one of them

Per scene a folder with `net.xml.gz`, `rou.xml` and `truth.json.gz`. The truth has two variants. *exact*: every vehicle
type with sigma 0 and speedDev 0; per second who is on which lane, where and how fast, the signals' states in force,
trips and lane changes. *noisy*: the types as in `rou.xml`; per seed the means over completed trips. Second t is the
state after the step from t to t + 1, as SUMO's fcd-output has it. The networks are our own, made by netconvert.
"""

import argparse
import gzip
import json
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import libsumo
import sumo

from benchmarks.scene_plans import SCENES, Scene

FOLDER = Path(__file__).parent.parent / "tests" / "envs" / "intersections" / "scenes"
BIN = Path(sumo.SUMO_HOME) / "bin"
OPTIONS = ("--time-to-teleport", "-1", "--step-length", "1", "--no-warnings", "--no-step-log")
END_S = 120
SEEDS = 20
TRIP = ("depart", "departLane", "departPos", "departSpeed", "departDelay", "arrival", "duration", "timeLoss",
        "waitingTime", "speedFactor")  # fmt: skip
TYPES = {
    "car": "",
    "lorry": 'vClass="truck" maxSpeed="19.44"',
    "bus": 'vClass="bus"',
    "emergency": 'vClass="emergency"',
}
KINDS = {"-": "priority", "tl": "traffic_light", "tlr": "traffic_light_right_on_red"}


def _entries(text: str) -> Iterator[list[str]]:
    return (entry.split() for entry in text.split(";") if entry.strip())


def _edge(words: list[str]) -> str:
    name, source, target, lanes, speed, priority, *more = words
    buses = '<lane index="0" allow="bus"/>' if "buslane" in more else ""
    return (
        f'<edge id="{name}" from="{source}" to="{target}" numLanes="{lanes}" speed="{speed}" priority="{priority}">'
        f"{buses}</edge>"
    )


def _connection(words: list[str], signals: bool) -> str:
    way, _, place = words[0].partition("@")
    (source, source_lane), (target, target_lane) = (end.split(":") for end in way.split(">"))
    signal, _, index = place.partition(".")
    control = f' tl="{signal}" linkIndex="{index}"' if place and signals else ""
    lanes = f'from="{source}" to="{target}" fromLane="{source_lane}" toLane="{target_lane}"'
    return f"<connection {lanes}{control}/>"


def build_net(scene: Scene, work: Path) -> str:
    """The network as netconvert writes it, without the header that names files and dates."""
    nodes = [f'<node id="{n}" x="{x}" y="{y}" type="{KINDS[k]}"/>' for n, x, y, k in _entries(scene.nodes)]
    (work / "nod.xml").write_text("<nodes>" + "".join(nodes) + "</nodes>")
    (work / "edg.xml").write_text("<edges>" + "".join(map(_edge, _entries(scene.edges))) + "</edges>")
    command = [str(BIN / "netconvert"), "-n", "nod.xml", "-e", "edg.xml", "-o", "net.xml", "--no-turnarounds"]
    if scene.connections:
        links = "".join(_connection(words, signals=False) for words in _entries(scene.connections))
        (work / "con.xml").write_text(f"<connections>{links}</connections>")
        command += ["-x", "con.xml"]
    if scene.programs:
        programs = "".join(
            f'<tlLogic id="{signal}" type="static" programID="0" offset="0">'
            + "".join(f'<phase duration="{seconds}" state="{state}"/>' for seconds, state in _entries(phases))
            + "</tlLogic>"
            for signal, phases in scene.programs.items()
        )
        links = "".join(_connection(words, signals=True) for words in _entries(scene.connections))
        (work / "tll.xml").write_text(f"<tlLogics>{programs}{links}</tlLogics>")
        command += ["-i", "tll.xml"]
    subprocess.run(command, cwd=work, check=True, capture_output=True)
    return re.sub(r"<!--.*?-->\s*", "", (work / "net.xml").read_text(), flags=re.DOTALL)


def build_routes(scene: Scene, exact: bool) -> str:
    """The route file; `exact`: nobody dawdles and all drive at the limit."""
    same = ' sigma="0" speedDev="0"' if exact else ""
    used = sorted({flow.type for flow in scene.flows})
    lines = [f'    <vType id="{name}" {TYPES[name]}{same}/>' for name in used]
    routes = list(dict.fromkeys(flow.route for flow in scene.flows))
    lines += [f'    <route id="r{k}" edges="{edges}"/>' for k, edges in enumerate(routes)]
    everyone = sorted((f.begin + n * f.period, k, n, f) for k, f in enumerate(scene.flows) for n in range(f.count))
    for depart, k, n, flow in everyone:
        if depart >= END_S:
            break
        where = f'type="{flow.type}" route="r{routes.index(flow.route)}" depart="{depart:.2f}"'
        lines.append(f'    <vehicle id="{k}.{n}" {where} {flow.more}'.rstrip() + "/>")
    return "<routes>\n" + "\n".join(lines) + "\n</routes>\n"


def simulate(work: Path, routes: str, seed: int, detail: bool) -> list[dict[str, Any]]:
    """Runs SUMO in a folder; returns the trips, unfinished ones with arrival -1."""
    command = [str(BIN / "sumo"), "-n", "net.xml", "-r", routes, "-b", "0", "-e", str(END_S), "--seed", str(seed)]
    command += [*OPTIONS, "--tripinfo-output", "trips.xml", "--tripinfo-output.write-unfinished", "--precision", "3"]
    if detail:
        command += ["--fcd-output", "fcd.xml", "--lanechange-output", "changes.xml", "-a", "tls.xml"]
    subprocess.run(command, cwd=work, check=True, capture_output=True)
    trips = []
    for element in ET.parse(work / "trips.xml").getroot():
        numbers = {k: element.attrib[k] if k == "departLane" else float(element.attrib[k]) for k in TRIP}
        trips.append({"id": element.attrib["id"], "type": element.attrib["vType"], **numbers})
    return trips


def read_detail(work: Path) -> dict[str, Any]:
    """What every vehicle and signal did in every second."""
    lanes: dict[str, int] = {}
    vehicles: dict[str, int] = {}
    steps = []
    for step in ET.parse(work / "fcd.xml").getroot():
        rows = []
        for v in step.iter("vehicle"):
            who = vehicles.setdefault(v.attrib["id"], len(vehicles))
            lane = lanes.setdefault(v.attrib["lane"], len(lanes))
            rows.append([who, lane, float(v.attrib["pos"]), float(v.attrib["speed"])])
        steps.append(rows)
    signals: dict[str, list[str]] = {}
    for path in sorted(work.glob("tls_*.xml")):
        for state in ET.parse(path).getroot():
            signals.setdefault(state.attrib["id"], []).append(state.attrib["state"])
    changes = [
        [int(float(c.attrib["time"])), c.attrib["id"], c.attrib["from"], c.attrib["to"], c.attrib["reason"]]
        for c in ET.parse(work / "changes.xml").getroot()
    ]
    return {"lanes": list(lanes), "vehicles": list(vehicles), "steps": steps, "signals": signals, "changes": changes}


def summary(trips: list[dict[str, Any]], demand: int) -> dict[str, float]:
    """One seed in numbers: means over completed trips, of the departure delay over all that were inserted."""
    done = [trip for trip in trips if trip["arrival"] >= 0]
    means = {name: fmean(trip[name] for trip in done) for name in ("duration", "timeLoss", "waitingTime")}
    delay = fmean(trip["departDelay"] for trip in trips)
    return {"completed": len(done), "never_inserted": demand - len(trips), **means, "departDelay": delay}


def read_types(work: Path) -> dict[str, dict[str, float | str]]:
    """The vehicle types as SUMO completes them from the class."""
    libsumo.start(["sumo", "-n", str(work / "net.xml"), "-r", str(work / "rou.xml"), *OPTIONS])
    of = libsumo.vehicletype
    getters = {
        "vClass": of.getVehicleClass, "length": of.getLength, "minGap": of.getMinGap, "accel": of.getAccel,
        "decel": of.getDecel, "emergencyDecel": of.getEmergencyDecel, "sigma": of.getImperfection, "tau": of.getTau,
        "maxSpeed": of.getMaxSpeed, "speedFactor": of.getSpeedFactor, "speedDev": of.getSpeedDeviation,
    }  # fmt: skip
    found = {name: {key: get(name) for key, get in getters.items()} for name in of.getIDList() if name in TYPES}
    libsumo.close()
    return found


def make(name: str, scene: Scene, folder: Path) -> None:
    """Writes the three files of a scene."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        net = build_net(scene, work)
        (work / "rou.xml").write_text(build_routes(scene, exact=False))
        (work / "exact.xml").write_text(build_routes(scene, exact=True))
        events = (f'<timedEvent type="SaveTLSStates" source="{s}" dest="tls_{s}.xml"/>' for s in scene.programs)
        (work / "tls.xml").write_text("<additional>" + "".join(events) + "</additional>")
        demand = (work / "rou.xml").read_text().count("<vehicle ")
        trips = simulate(work, "exact.xml", 0, detail=True)
        exact = {**read_detail(work), "trips": trips, "summary": summary(trips, demand)}
        others = (simulate(work, "exact.xml", seed, detail=False) for seed in range(1, 6))
        exact["same_under_other_seeds"] = all(other == trips for other in others)
        seeds = [summary(simulate(work, "rou.xml", seed, detail=False), demand) for seed in range(SEEDS)]
        noisy = {
            "seeds": {key: [round(s[key], 4) for s in seeds] for key in seeds[0]},
            "mean": {key: round(fmean(s[key] for s in seeds), 4) for key in seeds[0]},
            "sd": {key: round(stdev(s[key] for s in seeds), 4) for key in seeds[0]},
        }
        truth = {
            "scene": name, "about": scene.about, "sumo": libsumo.getVersion()[1], "options": OPTIONS, "begin_s": 0,
            "end_s": END_S, "demand": demand, "types": read_types(work), "exact": exact, "noisy": noisy,
        }  # fmt: skip
    out = folder / name
    out.mkdir(parents=True, exist_ok=True)
    (out / "net.xml.gz").write_bytes(gzip.compress(net.encode(), mtime=0))
    (out / "rou.xml").write_text(build_routes(scene, exact=False))
    (out / "truth.json.gz").write_bytes(gzip.compress(json.dumps(truth, separators=(",", ":")).encode(), mtime=0))
    print(f"{name:18s} {demand:4d} vehicles  exact {exact['summary']}", flush=True)
    print(f"  same under other seeds: {exact['same_under_other_seeds']}  noisy {noisy['mean']}", flush=True)


def main() -> None:
    """Makes the scenes."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="*", choices=list(SCENES), help="which scenes")
    arguments.add_argument("--out", type=Path, default=FOLDER, help="where the folders go")
    chosen = arguments.parse_args()
    for name in chosen.only or SCENES:
        make(name, SCENES[name], chosen.out)


if __name__ == "__main__":
    main()
