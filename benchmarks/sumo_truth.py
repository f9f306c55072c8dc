"""What SUMO 1.28 does on a map under fixed time, greedy and max-pressure: the truth our own traffic is compared with.

    python -m benchmarks.sumo_truth MAPS --maps cologne1 grid4x4 --out TRUTH           # seeds 0 to 9
    python -m benchmarks.sumo_truth MAPS --maps cologne1 --seeds 0 1 2 --out TRUTH     # those that are missing
    python -m benchmarks.sumo_truth MAPS --speed --out TRUTH                           # vehicle updates per CPU second

MAPS holds a folder per map with a `.sumocfg` that names net, routes, begin and end. Into TRUTH/<map>/ go
`fixed.rou.xml` (the demand of the hour with the routes of a run under fixed time with seed 0, so that no simulator
chooses routes) and `<controller>.json`. Seeds that are there already are kept. One process per run. Needs the extra
`sumo`.

Controllers: *static*, the program of the net. *actuated* (only where asked for): the same with SUMO's gap-based rule
and greens of 5 to 50 s. *greedy*: every signal serves the phase with most vehicles within 50 m. *mp* (max-pressure):
most standing vehicles within 200 m, less those on the first 200 m behind the junction. Vehicles count for their next
signal; ties keep the phase. Decisions every 10 s, yellow 3 s (arterial4x4: 5 s, 2 s).
"""

import argparse
import gzip
import hashlib
import json
import multiprocessing
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import table, write
from fedsched.envs.intersections.maps import CONTROLLED
from fedsched.envs.intersections.sumo.seen import OnRoad, SignalPlan
from fedsched.envs.intersections.sumo.simulation import OPTIONS, SumoSetup, SumoSimulation, load_libsumo

CONTROLLERS = ("static", "greedy", "mp")
ACTUATED_S = ("5", "50")
"""Least and greatest green of the controller `actuated`."""
TIMING = {"arterial4x4": (5, 2)}
"""Seconds between decisions, and of yellow; (10, 3) elsewhere."""
GREEDY_M, PRESSURE_M = 50.0, 200.0
STANDING = 0.1
REPEATS = 3
KEPT = ("departLane", "departPos", "departSpeed", "arrivalLane", "arrivalPos", "arrivalSpeed")


@dataclass(frozen=True)
class Map:
    """A map: its files and its hour."""

    name: str
    net: Path
    routes: Path
    begin_s: int
    end_s: int

    @property
    def timing(self) -> tuple[int, int]:
        """Seconds between decisions, and of yellow."""
        return TIMING.get(self.name, (10, 3))


def read_map(folder: Path) -> Map:
    """Reads the only `.sumocfg` of a folder."""
    config = next(folder.glob("*.sumocfg"))
    values = {element.tag: element.attrib["value"] for element in ET.parse(config).getroot().iter() if element.attrib}
    hour = int(float(values["begin"])), int(float(values["end"]))
    return Map(folder.name, folder / values["net-file"], folder / values["route-files"], *hour)


def actuated_net(of: Map, out: Path) -> None:
    """Writes the net with every program actuated."""
    net = ET.parse(of.net)
    for logic in net.getroot().iter("tlLogic"):
        logic.set("type", "actuated")
        for phase in logic.iter("phase"):
            if "y" not in phase.attrib["state"] and set(phase.attrib["state"]) & set("gG"):
                phase.attrib.update(zip(("minDur", "maxDur"), ACTUATED_S, strict=True))
    net.write(out)


def in_hour(element: ET.Element, of: Map) -> bool:
    """Whether a vehicle or trip is to depart in the hour."""
    return of.begin_s <= float(element.attrib["depart"]) < of.end_s


def fix_routes(of: Map, out: Path) -> None:
    """Writes the demand of the hour with the routes that a run under fixed time with seed 0 has taken."""
    demand = ET.parse(of.routes).getroot()
    due = sorted((e for e in demand if e.tag in ("vehicle", "trip") and in_hour(e, of)), key=departure)
    taken = {e.attrib["id"]: e.findall("route")[0].attrib["edges"] for e in due if e.findall("route")}
    if len(taken) < len(due):
        taken = {**_found(of), **_driven(of), **taken}
    lines = [ET.tostring(kind, encoding="unicode").strip() for kind in demand.iter("vType")]
    for element in due:
        name = element.attrib["id"]
        wanted = {key: element.attrib[key] for key in ("type", "depart", *KEPT) if key in element.attrib}
        vehicle = ET.Element("vehicle", {"id": name, **wanted})
        vehicle.append(ET.Element("route", {"edges": taken[name]}))
        lines.append(ET.tostring(vehicle, encoding="unicode"))
    out.write_text("<routes>\n" + "\n".join(f"    {line}" for line in lines) + "\n</routes>\n")


def departure(element: ET.Element) -> float:
    """When a vehicle wants to depart, s."""
    return float(element.attrib["depart"])


def _run(program: str, of: Map, routes_option: str, *more: str) -> dict[str, str]:
    """Runs a program of SUMO that writes routes; the routes by vehicle."""
    import sumo

    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary) / "routes.xml"
        command = [str(Path(sumo.SUMO_HOME) / "bin" / program), "-n", str(of.net), "-r", str(of.routes)]
        command += ["-b", str(of.begin_s), "-e", str(of.end_s), "--no-warnings", "true", "--no-step-log", "true"]
        subprocess.run([*command, *more, routes_option, str(written)], check=True, capture_output=True)
        found = ET.parse(written).getroot().iter("vehicle")
        return {vehicle.attrib["id"]: vehicle.findall(".//route")[-1].attrib["edges"] for vehicle in found}


def _driven(of: Map) -> dict[str, str]:
    """Routes of a run under fixed time with seed 0."""
    unfinished = ("--vehroute-output.write-unfinished", "true", "--vehroute-output.last-route", "true")
    return _run("sumo", of, "--vehroute-output", "--seed", "0", "--time-to-teleport", "-1", *unfinished)


def _found(of: Map) -> dict[str, str]:
    """Fastest routes on an empty net: for those that were never inserted."""
    return _run("duarouter", of, "-o", "--ignore-errors", "true")


class Junctions:
    """The controlled signals of a simulation: green phases, and what each would serve.

    Phases of all signals stand below each other; [P] below.
    """

    def __init__(self, simulation: SumoSimulation, controlled: Collection[str] | None) -> None:
        plans = simulation.plans()
        self.numbers = [k for k, plan in enumerate(plans) if controlled is None or plan.id in controlled]
        self.greens = {k: green_phases(plans[k]) for k in self.numbers}
        width = max(len(plan.leads_to) for plan in plans)
        self._place = {k: n * width for n, k in enumerate(range(len(plans)))}
        self._links = len(plans) * width
        self._lanes = 1 + max(lane for plan in plans for place in plan.leads_to for lane in place)
        self._serves = {k: [self._served(plans[k], k, state) for state in self.greens[k]] for k in self.numbers}
        self._reaches = {k: [_reached(plans[k], state) for state in self.greens[k]] for k in self.numbers}
        self.phase = dict.fromkeys(self.numbers, 0)

    def _served(self, plan: SignalPlan, number: int, state: str) -> npt.NDArray[np.int64]:
        places = [place for place in range(len(plan.leads_to)) if state[place] in "gG"]
        return np.array(places, dtype=np.int64) + self._place[number]

    def choose(self, controller: str, seen: OnRoad) -> dict[int, int]:
        """The phase each signal wants, all from the same moment."""
        standing = seen.speed < STANDING
        near = (seen.signal >= 0) & (seen.distance <= (GREEDY_M if controller == "greedy" else PRESSURE_M))
        behind = np.zeros(self._lanes)
        if controller == "mp":
            near &= standing
            first = standing & (seen.position <= PRESSURE_M) & (seen.lane < self._lanes)
            behind = np.bincount(seen.lane[first], minlength=self._lanes).astype(float)
        offset = np.array([self._place[int(k)] for k in seen.signal[near]], dtype=np.int64)
        demand = np.bincount(offset + seen.signal_index[near], minlength=self._links)
        chosen = {}
        for k in self.numbers:
            pairs = zip(self._serves[k], self._reaches[k], strict=True)
            worth = [float(demand[links].sum() - behind[lanes].sum()) for links, lanes in pairs]
            chosen[k] = self.phase[k] if worth[self.phase[k]] == max(worth) else int(np.argmax(worth))
        return chosen


def green_phases(plan: SignalPlan) -> list[str]:
    """States of a program without yellow and with at least one green."""
    return [state for _, state in plan.phases if "y" not in state and ("g" in state or "G" in state)]


def _reached(plan: SignalPlan, state: str) -> npt.NDArray[np.int64]:
    """Lanes behind the junction, each once."""
    lanes = {lane for place, targets in enumerate(plan.leads_to) if state[place] in "gG" for lane in targets}
    return np.array(sorted(lanes), dtype=np.int64)


def yellow_between(old: str, new: str) -> str:
    """Places that lose their green show yellow, all others what they had."""
    return "".join("y" if a in "gG" and b in "rs" else a for a, b in zip(old, new, strict=True))


def control(simulation: SumoSimulation, controller: str, of: Map) -> int:
    """Runs the hour; returns the vehicle updates: vehicles on the road after each second, summed."""
    step_s, yellow_s = of.timing
    updates = 0

    def go(seconds: int) -> None:
        nonlocal updates
        for _ in range(min(seconds, of.end_s - simulation.time_s)):
            simulation.step()
            updates += simulation.count

    if controller in ("static", "actuated"):
        go(of.end_s - of.begin_s)
        return updates
    junctions = Junctions(simulation, CONTROLLED.get(of.name))
    simulation.set_states({k: greens[0] for k, greens in junctions.greens.items()})
    while simulation.time_s < of.end_s:
        chosen = junctions.choose(controller, simulation.on_road())
        changes = {k: p for k, p in chosen.items() if p != junctions.phase[k]}
        old = {k: junctions.greens[k][junctions.phase[k]] for k in changes}
        new = {k: junctions.greens[k][p] for k, p in changes.items()}
        simulation.set_states({k: yellow_between(old[k], new[k]) for k in changes})
        go(yellow_s)
        simulation.set_states(new)
        junctions.phase.update(changes)
        go(step_s - yellow_s)
    return updates


def run_seed(of: Map, routes: Path, controller: str, seed: int, edges: bool = True) -> dict[str, Any]:
    """One run in this process: the numbers that comparisons read."""
    departs = np.array([departure(e) for e in ET.parse(routes).getroot().iter("vehicle")])
    with SumoSimulation(SumoSetup(of.net, (routes,), of.begin_s, of.end_s, seed, edge_times=edges)) as simulation:
        begin = time.process_time()
        updates = control(simulation, controller, of)
        cpu_s = time.process_time() - begin
    found = asdict(simulation.outcome(departs))
    means = {edge: [count, round(mean, 4)] for edge, (count, mean) in sorted(simulation.edge_times().items())}
    return {**found, "edges": means, "vehicle_updates": updates, "cpu_s": round(cpu_s, 3)}


def in_own_process(*arguments: object) -> dict[str, Any]:
    """`run_seed` in a fresh process: libsumo holds one simulation per process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result: dict[str, Any] = pool.apply(run_seed, arguments)
        return result


def truth(of: Map, controller: str, seeds: Sequence[int], folder: Path) -> dict[str, Any]:
    """Runs the seeds that a cell still lacks and writes it after each."""
    path, routes = folder / f"{controller}.json", folder / "fixed.rou.xml"
    step_s, yellow_s = of.timing
    head = {
        "map": of.name, "controller": controller, "simulator": "SUMO " + load_libsumo().getVersion()[1].split()[-1],
        "begin_s": of.begin_s, "end_s": of.end_s, "step_s": step_s, "yellow_s": yellow_s, "options": OPTIONS,
        "routes_sha256": hashlib.sha256(routes.read_bytes()).hexdigest(), "network_sha256": digest(of.net),
    }  # fmt: skip
    if controller == "actuated":
        actuated_net(of, folder / "actuated.net.xml")
        of = replace(of, net=folder / "actuated.net.xml")
    cell: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"seeds": {}}
    if cell.get("routes_sha256", head["routes_sha256"]) != head["routes_sha256"]:
        raise SystemExit(f"{path}: made with other routes; remove it first")
    for seed in seeds:
        if str(seed) in cell["seeds"]:
            continue
        one = in_own_process(of, routes, controller, seed)
        cell = {**head, "seeds": {**cell["seeds"], str(seed): one}}
        path.write_text(json.dumps(cell, separators=(",", ":")) + "\n")
        shown = {key: round(one[key], 2) for key in ("completed", "duration_s", "time_loss_s", "waiting_s", "delay_s")}
        print(f"{of.name} {controller} {seed}: {shown} cpu {one['cpu_s']:.1f} s", flush=True)
    return cell


def digest(path: Path) -> str:
    """SHA-256 of the uncompressed content, as our own reader notes it."""
    data = path.read_bytes()
    return hashlib.sha256(gzip.decompress(data) if path.suffix == ".gz" else data).hexdigest()


def speed(of: Map) -> dict[str, float]:
    """SUMO's speed under the program of the net with the map's own routes; the median of `REPEATS` runs."""
    runs = [in_own_process(of, of.routes, "static", 0, False) for _ in range(REPEATS)]
    cpu_s = median(run["cpu_s"] for run in runs)
    updates = runs[0]["vehicle_updates"]
    return {
        "vehicle_updates_per_cpu_s": round(updates / cpu_s),
        "simulated_s_per_cpu_s": round((of.end_s - of.begin_s) / cpu_s),
        "mean_vehicles": round(updates / (of.end_s - of.begin_s), 1),
    }


def main() -> None:
    """Fills the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps_folder", type=Path, metavar="MAPS")
    parser.add_argument("--maps", nargs="+", help="which; default: all in the folder")
    parser.add_argument("--controllers", nargs="+", choices=(*CONTROLLERS, "actuated"), default=CONTROLLERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=range(10))
    parser.add_argument("--speed", action="store_true", help="measure speed instead")
    parser.add_argument("--out", type=Path, required=True, metavar="TRUTH")
    chosen = parser.parse_args()
    folders = [chosen.maps_folder / name for name in chosen.maps or []]
    speeds: dict[str, dict[str, float]] = {}
    for folder in folders or sorted(f for f in chosen.maps_folder.iterdir() if f.is_dir()):
        of, out = read_map(folder), chosen.out / folder.name
        out.mkdir(parents=True, exist_ok=True)
        if chosen.speed:
            speeds[of.name] = speed(of)
            continue
        if not (out / "fixed.rou.xml").exists():
            fix_routes(of, out / "fixed.rou.xml")
        for controller in chosen.controllers:
            truth(of, controller, chosen.seeds, out)
    if speeds:
        columns = ("map", "vehicle updates/CPU s", "simulated s/CPU s", "mean vehicles")
        table(columns, [(name, *rates.values()) for name, rates in speeds.items()])
        write(chosen.out / "speed.json", {"repeats": REPEATS, "maps": speeds})


if __name__ == "__main__":
    main()
