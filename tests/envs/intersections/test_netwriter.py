"""Networks written for SUMO: they read back as they were, and SUMO runs them as it runs the file they came from."""

import dataclasses
import gzip
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedsched.envs.intersections.actuation import actuated
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.netwriter import write_network
from fedsched.envs.intersections.timing import TIMINGS

HERE = Path(__file__).parent
NETS = {
    **{name: HERE / "networks" / f"{name}.net.xml.gz" for name in ("lights", "plain", "roads", "walks")},
    **{name: HERE / "scenes" / name / "net.xml.gz" for name in ("bus_and_emergency", "spillback")},
}
DRIVE = (
    "import sys, libsumo; libsumo.start(['sumo', '-n', sys.argv[1], '-r', sys.argv[2], '-e', '200', '--seed', '4', "
    "'--no-warnings', 'true', '--no-step-log', 'true', '--fcd-output', sys.argv[3], '--fcd-output.attributes', "
    "'id,lane,pos,speed'])\n"
    "for _ in range(200): libsumo.simulationStep()\n"
    "libsumo.close()"
)


def content(network: Network) -> dict[str, object]:
    """All of a network that a file can hold, comparable."""
    lanes = [dataclasses.replace(lane, shape=np.zeros(0)).__dict__ | {"shape": 0} for lane in network.lanes]
    shapes = [lane.shape.tolist() for lane in network.lanes]
    rest = ("edges", "connections", "junctions", "signals", "roundabouts")
    return {"lanes": lanes, "shapes": shapes} | {name: getattr(network, name) for name in rest}


@pytest.mark.parametrize("name", NETS)
def test_what_is_written_reads_back_equal(name: str, tmp_path: Path) -> None:
    network = read_network(NETS[name])
    first = dataclasses.replace(network.connections[0], visibility_m=9.0, keep_clear=False)
    edges = tuple(n for n, edge in enumerate(network.edges) if not edge.internal)[:2]
    changed = dataclasses.replace(network, connections=(first, *network.connections[1:]), roundabouts=(edges,))
    write_network(changed, tmp_path / "net.xml")
    assert content(read_network(tmp_path / "net.xml")) == content(changed)


def test_actuated_programs_have_the_bounds_of_the_timing(tmp_path: Path) -> None:
    network = read_network(NETS["spillback"])
    write_network(actuated(network, TIMINGS["actuated"], [0]), tmp_path / "net.xml")
    found = read_network(tmp_path / "net.xml").signals
    assert [signal.kind for signal in found] == ["actuated", "static"]
    assert [(phase.minimum_s, phase.maximum_s) for phase in found[0].phases] == [(5, 50), (3, 3), (5, 50), (3, 3)]
    assert found[1] == network.signals[1]


@pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="the extra `sumo` is not installed")
@pytest.mark.parametrize("name", NETS)
def test_sumo_drives_on_it_as_on_the_file(name: str, tmp_path: Path) -> None:
    """Everybody's lane, place and speed at every second, drawn numbers included.

    Where crossings are left out, lanes have other numbers, and SUMO draws other numbers for them.
    """
    folder = NETS[name].parent
    routes = folder / "rou.xml" if (folder / "rou.xml").exists() else folder / f"{name}.rou.xml.gz"
    (tmp_path / "file.xml").write_bytes(gzip.decompress(NETS[name].read_bytes()))
    write_network(read_network(NETS[name]), tmp_path / "ours.xml")
    seen = []
    for net in ("file", "ours"):
        out = tmp_path / f"{net}.fcd.xml"
        command = [sys.executable, "-c", DRIVE, str(tmp_path / f"{net}.xml"), str(routes), str(out)]
        subprocess.run(command, check=True, capture_output=True)
        seen.append([line for line in out.read_text().splitlines() if "<vehicle" in line or "<timestep" in line])
    counts = [sum("<vehicle" in line for line in lines) for lines in seen]
    assert counts[0] > 300
    if name == "walks":
        assert counts[1] == pytest.approx(counts[0], rel=0.1)
    else:
        assert seen[0] == seen[1]
