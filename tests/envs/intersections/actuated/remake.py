"""Makes what SUMO does with actuated signals anew: the streets of `networks/lights` with programs that extend greens.

    python tests/envs/intersections/actuated/remake.py        # needs libsumo 1.28.0, nothing else

`net.xml.gz`: the network; `truth.json.gz`: of each signal the phases in every second, of each detector lane, m from its
start and, when each second begins, for how long it has been free (None: for 9 s or more).
"""

import gzip
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import libsumo

FOLDER = Path(__file__).parent
LIGHTS = FOLDER.parent / "networks"
SECONDS = 300
NEVER_S = 9.0
FOUR, NINE = {"minDur": "4", "maxDur": "12"}, {"minDur": "9", "maxDur": "30"}
PROGRAMS = {
    "A0": ("0", {}, ({"minDur": "5", "maxDur": "50"},)),
    "A1": ("20", {"max-gap": "2", "detector-gap": "1.4"}, (FOUR, NINE)),
    "B0": ("-13", {"passing-time": "1.2", "show-detectors": "true"}, ({"minDur": "3"}, {"maxDur": "60"})),
    "B1": ("0", {}, ({}, {"minDur": "6", "maxDur": "25"})),
}
"""Offset, parameters and limits of greens, in turn, of the actuated signals."""
STATES = {
    "rrrrGGrrrrrrrrrrGGrrrrrr": "rrrrGgrrrrrrrrrrGgrrrrrr",
    "rrrrrrrrrrGGrrrrrrrrrrGG": "rrrrrGrrrrGGrrrrrGrrrrGG",
}
"""Of B1: who turns back from the left lane is protected with the others, not with those who turn left."""


def network() -> str:
    root = ET.fromstring(gzip.decompress((LIGHTS / "lights.net.xml.gz").read_bytes()))
    for logic in root.iter("tlLogic"):
        if logic.attrib["id"] not in PROGRAMS:
            continue
        offset, rule, limits = PROGRAMS[logic.attrib["id"]]
        logic.set("type", "actuated")
        logic.set("offset", offset)
        phases = logic.findall("phase")
        greens = [
            phase for phase in phases if "y" not in phase.attrib["state"] and set(phase.attrib["state"]) & {*"gG"}
        ]
        if logic.attrib["id"] == "B1":
            for phase in phases:
                phase.set("state", STATES.get(phase.attrib["state"], phase.attrib["state"]))
        for n, phase in enumerate(greens):
            phase.attrib.update(limits[n % len(limits)])
        for key, value in rule.items():
            ET.SubElement(logic, "param", {"key": key, "value": value})
    return ET.tostring(root, encoding="unicode")


def free_s(loop: str) -> float | None:
    seconds = libsumo.inductionloop.getTimeSinceDetection(loop)
    return round(seconds, 4) if seconds < NEVER_S else None


def main() -> None:
    net = FOLDER / "net.xml.gz"
    net.write_bytes(gzip.compress(network().encode(), mtime=0))
    routes = str(LIGHTS / "lights.rou.xml.gz")
    libsumo.start(
        ["sumo", "-n", str(net), "-r", routes, "--seed", "3", "--no-step-log", "true", "--no-warnings", "true"]
    )
    loops, signals = libsumo.inductionloop.getIDList(), libsumo.trafficlight.getIDList()
    where = [(libsumo.inductionloop.getLaneID(i), libsumo.inductionloop.getPosition(i)) for i in loops]
    free, phases = [[free_s(loop) for loop in loops]], []
    for _ in range(SECONDS):
        libsumo.simulationStep()
        phases.append([libsumo.trafficlight.getPhase(signal) for signal in signals])
        free.append([free_s(loop) for loop in loops])
    libsumo.close()
    truth = {"signals": signals, "phases": phases, "loops": where, "free_s": free}
    text = json.dumps(truth, separators=(",", ":"))
    (FOLDER / "truth.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
