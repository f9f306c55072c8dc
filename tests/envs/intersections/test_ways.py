import itertools
from pathlib import Path

import numpy as np
import pytest

from fedsched.envs.intersections.links import Movements
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.vehicletypes import default_type
from fedsched.envs.intersections.ways import LaneView, LaneViews, build_ways, reach_m

FOLDER = Path(__file__).parent / "networks"
CAR = reach_m(default_type("car"))


def street(folder: Path, lanes: dict[str, int], links: str, closed: str = "", metres: float = 100) -> Network:
    """Edges one behind the other; `links` like `a0>b1 a1>b2` (`~` for a link without priority)."""
    names = list(lanes)
    rows = []
    for n, name in enumerate(names):
        inner = ""
        for k in range(lanes[name]):
            allow = 'allow="bus" ' if f"{name}{k}" in closed.split() else ""
            shape = f"{n * metres},{k} {(n + 1) * metres},{k}"
            inner += f'<lane id="{name}_{k}" index="{k}" {allow}speed="10" length="{metres}" shape="{shape}"/>'
        rows.append(f'<edge id="{name}" from="{n}" to="{n + 1}">{inner}</edge>')
    for n in range(len(names) + 1):
        into = " ".join(f"{names[n - 1]}_{k}" for k in range(lanes[names[n - 1]])) if n else ""
        rows.append(f'<junction id="{n}" type="priority" x="{n}" y="0" incLanes="{into}" intLanes=""/>')
    for text in links.split():
        one, two = text.strip("~").split(">")
        state = "m" if "~" in text else "M"
        ends = f'from="{one[0]}" to="{two[0]}" fromLane="{one[1]}" toLane="{two[1]}"'
        rows.append(f'<connection {ends} dir="s" state="{state}"/>')
    path = folder / "street.net.xml"
    path.write_text("<net>" + "\n".join(rows) + "</net>")
    return read_network(path)


def look(network: Network, place: int = 0, vehicle_class: str = "passenger") -> list[tuple[float, int, str | None]]:
    """Length, offset and the lane led to, for every lane."""
    moves = Movements(network)
    route = range(len(network.edges))
    views = LaneViews(network, moves).at(route, place, vehicle_class, CAR)
    names = [lane.id for lane in network.lanes]
    return [(v.length, v.offset, names[moves.target[v.link]] if v.link >= 0 else None) for v in views]


def test_a_lane_that_ends_is_left_for_the_one_that_goes_on(tmp_path: Path) -> None:
    network = street(tmp_path, {"a": 3, "b": 1}, "a2>b0")
    assert look(network) == [(100, 2, None), (100, 1, None), (200, 0, "b_0")]
    assert look(network, 1) == [(100, 0, None)]


def test_the_nearest_of_several_best_lanes_is_taken(tmp_path: Path) -> None:
    network = street(tmp_path, {"a": 4, "b": 2}, "a1>b0 a2>b1")
    assert look(network) == [(100, 1, None), (200, 0, "b_0"), (200, 0, "b_1"), (100, -1, None)]


def test_what_comes_later_counts(tmp_path: Path) -> None:
    network = street(tmp_path, {"a": 3, "b": 3, "c": 1}, "a0>b0 a1>b1 a2>b2 b2>c0")
    assert look(network, 1) == [(100, 2, None), (100, 1, None), (200, 0, "c_0")]
    assert look(network) == [(200, 2, "b_0"), (200, 1, "b_1"), (300, 0, "b_2")]


def test_closed_lanes_lead_nowhere_and_bar_what_lies_behind_them(tmp_path: Path) -> None:
    links = "a0>b0 a1>b1 a2>b2"
    network = street(tmp_path, {"a": 3, "b": 3}, links, closed="a1 b1")
    assert look(network, vehicle_class="bus") == [(200, 0, f"b_{n}") for n in range(3)]
    assert look(network) == [(200, 0, "b_0"), (0, 1, None), (200, 0, "b_2")]
    only_right = street(tmp_path, {"a": 3, "b": 3}, "a0>b0", closed="a1")
    assert look(only_right) == [(200, 0, "b_0"), (0, -1, None), (0, -2, None)]


def test_of_two_lanes_as_long_the_one_with_priority_is_better(tmp_path: Path) -> None:
    network = street(tmp_path, {"a": 2, "b": 2}, "a0>b0 ~a1>b1")
    assert look(network) == [(200, 0, "b_0"), (100, -1, "b_1")]


def test_the_look_ahead_ends(tmp_path: Path) -> None:
    names = "abcdefghijkl"
    links = " ".join(f"{one}{k}>{two}{k}" for one, two in itertools.pairwise(names) for k in (0, 1))
    longer = street(tmp_path, dict.fromkeys(names, 2), links.replace("k1>l1", ""), metres=60)
    assert look(longer)[1] == (60 * 9, 0, "b_1")  # nine edges are more than eight and more than the 489 m of a car
    assert look(longer, 2)[1] == (60 * 9, 0, "d_1")
    assert look(longer, 3) == [(60 * 9, 0, "e_0"), (60 * 8, -1, "e_1")]


def test_how_far_a_vehicle_looks() -> None:
    kind = default_type("car")
    steps = int(kind.max_speed / kind.decel)
    stop = sum(kind.max_speed - kind.decel * n for n in range(1, steps + 1))
    assert reach_m(kind) == pytest.approx(2 * kind.max_speed * kind.tau + stop + kind.min_gap)


def test_the_table_holds_the_views_of_every_place() -> None:
    network = read_network(FOLDER / "lights.net.xml.gz")
    demand = read_demand(FOLDER / "lights.rou.xml.gz", network, 0, 300)
    moves = Movements(network)
    used = [(route, kind, CAR) for route in demand.routes[:20] for kind in ("passenger", "bus")]
    ways = build_ways(network, moves, used)
    views = LaneViews(network, moves)
    assert len(ways.edge) == sum(len(route) for route, _, _ in used)
    for begin, (route, kind, reach) in zip(ways.begin[0], used, strict=True):
        for place, edge in enumerate(route):
            row = begin + place
            own: tuple[LaneView, ...] = views.at(route, place, kind, reach)
            assert (ways.edge[row], ways.last[row]) == (edge, place == len(route) - 1)
            count = len(own)
            assert [v.length for v in own] == ways.length[row, :count].tolist()
            assert [v.offset for v in own] == ways.offset[row, :count].tolist()
            assert [v.link for v in own] == ways.link[row, :count].tolist()
            assert np.all(ways.link[row, count:] == -1)
            assert (ways.offset[row, :count] == 0).any()
