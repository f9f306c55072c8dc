"""SUMO behind libsumo: sees what the scenes' truth has, is repeatable row by row, and fails with names."""

import gzip
import importlib.util
import json
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedsched.envs.intersections.sumo.batch import SumoBatch, SumoWorkerError
from fedsched.envs.intersections.sumo.film import Film
from fedsched.envs.intersections.sumo.outputs import Trips, edge_times, outcome
from fedsched.envs.intersections.sumo.simulation import Names, SumoError, SumoSetup, SumoSimulation

SCENES = Path(__file__).parent
needs_sumo = pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="the extra `sumo` is not installed")


def setup(scene: str, folder: Path, exact: bool) -> SumoSetup:
    """A scene; exact: nobody dawdles, all drive at the limit."""
    net = gzip.decompress((SCENES / scene / "net.xml.gz").read_bytes())
    demand = (SCENES / scene / "rou.xml").read_text()
    if exact:
        demand = re.sub(r"(<vType [^/]*)/>", r'\1 sigma="0" speedDev="0"/>', demand)
    (folder / "net.xml").write_bytes(net)
    (folder / "rou.xml").write_text(demand)

    def ids(root: ET.Element, tag: str) -> tuple[str, ...]:
        return tuple(element.attrib["id"] for element in root.iter(tag))

    road, drivers = ET.fromstring(net), ET.fromstring(demand)
    names = Names(ids(road, "lane"), ids(road, "tlLogic"), ids(drivers, "vType"), ids(drivers, "vehicle"))
    return SumoSetup(folder / "net.xml", (folder / "rou.xml",), 0, 120, 0, names)


def departs(made: SumoSetup) -> np.ndarray:
    """When each vehicle is to depart."""
    return np.array([float(v.attrib["depart"]) for v in ET.parse(made.routes[0]).getroot().iter("vehicle")])


def same(a: Film, b: Film) -> bool:
    """Whether two films are equal to the bit."""
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def shown(film: Film, second: int) -> str:
    """All signals' states in a second."""
    return film.states[second].tobytes().decode()


@needs_sumo
@pytest.mark.parametrize("scene", ["permissive_left", "bus_and_emergency", "spillback"])
def test_rows_see_every_vehicle_where_the_truth_has_it(scene: str, tmp_path: Path) -> None:
    truth = json.loads(gzip.decompress((SCENES / scene / "truth.json.gz").read_bytes()))
    made = setup(scene, tmp_path, exact=True)
    assert made.names is not None
    exact, names = truth["exact"], made.names
    with SumoBatch() as batch:
        batch.start({0: made})
        film = batch.advance({0: [({}, len(exact["steps"]))]})[0]
        trips = batch.finish([0])[0]
    arrived: set[int] = set()
    for second, expected in enumerate(exact["steps"]):
        part = slice(film.on[second], film.on[second + 1])
        rows = zip(film.trip[part], film.lane[part], film.position[part], film.speed[part], strict=True)
        seen = sorted((names.trips[trip], names.lanes[lane], x, v) for trip, lane, x, v in rows)
        wanted = sorted((exact["vehicles"][who], exact["lanes"][lane], x, v) for who, lane, x, v in expected)
        assert [row[:2] for row in seen] == [row[:2] for row in wanted], second
        numbers = [np.array([row[2:] for row in side]) for side in (seen, wanted)]
        np.testing.assert_allclose(*numbers, rtol=0, atol=0.00051)  # the truth is rounded to a millimetre
        assert shown(film, second) == "".join(exact["signals"][signal][second] for signal in names.signals)
        arrived |= set(film.left[film.left_on[second] : film.left_on[second + 1]].tolist())
        entered = set(film.entered[: film.entered_on[second + 1]].tolist())
        assert entered - arrived == set(film.trip[part].tolist()), second
    found = outcome(trips, departs(made), 0, 120)
    assert found.completed == exact["summary"]["completed"] == len(arrived)
    assert found.duration_s == pytest.approx(exact["summary"]["duration"])
    assert found.demand == found.completed + found.running + found.never_inserted == truth["demand"]


@needs_sumo
def test_controllers_see_how_far_the_next_signal_is(tmp_path: Path) -> None:
    made = setup("spillback", tmp_path, exact=True)
    assert made.names is not None
    lengths = {e.attrib["id"]: float(e.attrib["length"]) for e in ET.parse(made.net).getroot().iter("lane")}
    lanes = made.names.lanes
    with SumoSimulation(made) as simulation:
        simulation.step(60)
        road = simulation.on_road()
    direct = np.array([not lanes[k].startswith(":") for k in road.lane], dtype=bool) & (road.signal >= 0)
    left = np.array([lengths[lanes[k]] for k in road.lane]) - road.position
    assert direct.sum() > 5
    assert np.all(road.distance[direct] >= left[direct] - 1e-6)


@needs_sumo
def test_signals_obey_and_equal_setups_are_equal_runs_at_every_start(tmp_path: Path) -> None:
    made = setup("queue_discharge", tmp_path, exact=False)
    with SumoBatch() as batch:
        batch.start({0: made, 1: made, 2: replace(made, seed=1)})
        red: list[tuple[dict[int, str], int]] = [({}, 40), ({0: "r"}, 60)]
        first = batch.advance({0: red, 1: red, 2: red})
        assert all({shown(film, k) for k in range(40, 100)} == {"r"} for film in first.values())
        assert same(first[0], first[1])
        assert not same(first[0], first[2])
        batch.start({0: made})
        assert same(batch.advance({0: red})[0], first[0])


@needs_sumo
def test_a_dead_worker_and_a_refused_file_are_named_and_the_other_rows_go_on(tmp_path: Path) -> None:
    made = setup("yellow", tmp_path, exact=False)
    with SumoBatch() as batch:
        batch.start({0: made, 1: made})
        batch._workers[1].kill()
        with pytest.raises(SumoWorkerError, match="worker 1: its process is gone, exit code -9") as caught:
            batch.advance({0: [({}, 5)], 1: [({}, 5)]})
        assert caught.value.row == 1
        assert len(batch.advance({0: [({}, 5)]})[0].states) == 5
        with pytest.raises(SumoWorkerError, match=r"worker 2: SUMO refuses .*nothing\.xml"):
            batch.start({2: replace(made, net=tmp_path / "nothing.xml")})
        with pytest.raises(SumoError, match="have not been started"):
            batch.advance({7: [({}, 1)]})


def test_without_sumo_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libsumo", None)
    with pytest.raises(SumoError, match=r"^SUMO is not installed: pip install 'fedsched\[sumo\]'$"):
        SumoBatch()


def test_outcome_counts_the_whole_wait_of_those_that_never_got_in() -> None:
    # wanted at 10, 20, 40 and 130; the first arrives, the second is on its way, the third never gets in
    def column(*values: float) -> np.ndarray:
        return np.array(values)

    trips = Trips(("a", "b"), column(10, 25), column(60, -1), column(50, 75), column(7, 30), column(3, 9),
                  column(0, 5), column(1, 1))  # fmt: skip
    found = outcome(trips, column(10, 20, 40, 130), 0, 100)
    assert (found.demand, found.completed, found.running, found.never_inserted) == (3, 1, 1, 1)
    assert (found.duration_s, found.time_loss_s, found.waiting_s, found.depart_delay_s) == (50, 7, 3, 2.5)
    assert found.delay_s == pytest.approx((7 + 30 + 5 + 60) / 3)


def test_edge_times_are_between_exits_and_leave_out_edges_not_left(tmp_path: Path) -> None:
    (tmp_path / "routes.xml").write_text(
        '<routes><vehicle id="a" depart="5"><route edges="x y" exitTimes="15 40"/></vehicle>'
        '<vehicle id="b" depart="10"><routeDistribution><route edges="x z" exitTimes="1 1"/>'
        '<route edges="x y" exitTimes="30 -1"/></routeDistribution></vehicle></routes>'
    )
    assert edge_times(tmp_path / "routes.xml") == {"x": (2, 15.0), "y": (1, 25.0)}
