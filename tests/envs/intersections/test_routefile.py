from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fedsched.envs.intersections.configfile import read_config
from fedsched.envs.intersections.demand import Demand, VehicleType
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import IntersectionsError, Network
from fedsched.envs.intersections.routefile import read_demand, write_routes
from fedsched.envs.intersections.vehicletypes import default_type

FOLDER = Path(__file__).parent / "networks"
WAY = "A0A1 A1B1"  # a right turn
Read = Callable[..., Demand]


@cache
def network() -> Network:
    return read_network(FOLDER / "plain.net.xml.gz")


def names(route: tuple[int, ...]) -> list[str]:
    return [network().edges[edge].id for edge in route]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(body: str, begin: float = 0, end: float = 100, seed: int = 0) -> Demand:
        path = tmp_path / "made.rou.xml"
        path.write_text(f"<routes>\n{body}\n</routes>")
        return read_demand(path, network(), begin, end, seed)

    return read


def test_routes_are_given_named_or_found(read: Read) -> None:
    demand = read(
        f'<route id="r" edges="{WAY}"/>'
        '<vehicle id="a" route="r" depart="1"/>'
        f'<vehicle id="b" depart="2"><route edges="{WAY}"/></vehicle>'
        '<trip id="c" from="A0A1" to="A1B1" depart="3"/>'
        '<trip id="d" from="A0A1" via="B1B0" to="B0A0" depart="4"/>'
    )
    assert [names(demand.routes[trip.route]) for trip in demand.trips] == [WAY.split()] * 3 + [
        ["A0A1", "A1B1", "B1B0", "B0A0"]
    ]
    assert len(demand.routes) == 2
    assert {trip.type for trip in demand.trips} == {0}
    assert demand.types == (default_type("DEFAULT_VEHTYPE"),)


def test_who_departs_outside_the_time_is_left_out_and_the_rest_is_in_order(read: Read) -> None:
    times = {"a": 30, "b": 10, "c": 9.99, "d": 60, "e": 10, "f": 59.9}
    body = "".join(f'<vehicle id="{n}" depart="{s}"><route edges="{WAY}"/></vehicle>' for n, s in times.items())
    demand = read(body, 10, 60)
    assert [trip.id for trip in demand.trips] == ["b", "e", "a", "f"]
    assert np.array_equal(demand.departures_s(), [10, 10, 30, 59.9])


def test_how_a_vehicle_departs(read: Read) -> None:
    demand = read(
        f'<vehicle id="a" depart="0:01:05" departLane="1" departSpeed="max"><route edges="{WAY}"/></vehicle>'
        f'<vehicle id="b" depart="70" departPos="5"><route edges="{WAY}"/><stop lane="A1B1_1" duration="5"/></vehicle>'
        '<person id="p" depart="0"/>'
    )
    first, second = demand.trips
    assert (first.depart_s, first.depart_lane, first.depart_speed) == (65, "1", "max")
    assert (second.depart_lane, second.depart_speed) == ("best_prob", "avg")
    assert (first.depart_position, second.depart_position) == ("base", "5")
    assert demand.ignored == (("person", 1), ("stop", 1))


def test_what_a_type_says_beyond_the_model_is_counted(read: Read) -> None:
    assert read('<vType id="a" color="red" tau="1.2" speedDev="0"/>').ignored == ()
    demand = read('<vType id="a" lcStrategic="2"/><vType id="b" lcStrategic="3" laneChangeModel="SL2015"/>')
    assert demand.ignored == (("laneChangeModel", 1), ("lcStrategic", 2))


def departs(demand: Demand) -> list[float]:
    return [trip.depart_s for trip in demand.trips]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [  # as SUMO 1.28 does it with --begin 10
        ('begin="0" end="40" number="8"', [10, 15, 20, 25, 30, 35]),
        ('begin="0" end="40" period="7"', [14, 21, 28, 35]),
        ('begin="12" end="40" vehsPerHour="450"', [12, 20, 28, 36]),
        ('begin="0" period="7" number="4"', [14, 21]),
        ('begin="0" period="7"', [14, 21, 28, 35, 42, 49, 56]),
        ('end="50" period="7"', [10, 17, 24, 31, 38, 45]),
        ('begin="15" end="18" probability="1"', [15, 16, 17]),
        ('begin="12.5" end="20" period="2.5"', [12.5, 15, 17.5]),
        ('begin="12" end="30" number="3"', [12, 18, 24]),
        ('begin="12" end="30" number="0"', []),
    ],
)
def test_flows_depart_when_sumos_do(read: Read, attributes: str, expected: list[float]) -> None:
    demand = read(f'<flow id="f" from="A0A1" to="A1B1" {attributes}/>', 10, 60)
    assert departs(demand) == expected
    assert [trip.id for trip in demand.trips] == [f"f.{n}" for n in range(len(expected))]


@pytest.mark.parametrize(("attribute", "mean"), [('probability="0.25"', 5000), ('period="exp(0.25)"', 5000)])
def test_random_flows_have_their_mean_and_hang_on_the_seed(read: Read, attribute: str, mean: float) -> None:
    body = f'<flow id="f" from="A0A1" to="A1B1" begin="0" end="20000" {attribute}/>'
    one, again, other = (read(body, 0, 20000, seed) for seed in (1, 1, 2))
    assert departs(one) == departs(again) != departs(other)
    assert abs(len(one.trips) - mean) < 4 * np.sqrt(mean)
    assert departs(one) == sorted(departs(one))


def test_types_and_routes_are_drawn_by_their_probability(read: Read) -> None:
    demand = read(
        '<vTypeDistribution id="mix"><vType id="car" probability="3"/><vType id="bus" vClass="bus" probability="1"/>'
        "</vTypeDistribution>"
        '<route id="x" edges="A0A1 A1B1"/><route id="y" edges="A0A1 A1top0"/>'
        '<routeDistribution id="either" routes="x y" probabilities="1 1"/>'
        '<flow id="f" type="mix" route="either" begin="0" end="4000" period="1"/>',
        0,
        4000,
    )
    kinds = [demand.types[trip.type].vehicle_class for trip in demand.trips]
    assert kinds.count("bus") == pytest.approx(1000, abs=110)
    assert [trip.route for trip in demand.trips].count(0) == pytest.approx(2000, abs=130)


def test_a_type_says_what_its_attributes_say(read: Read) -> None:
    def kind(attributes: str) -> VehicleType:
        demand = read(f'<vType id="q" {attributes}/><trip id="a" type="q" depart="0" from="A0A1" to="A1B1"/>')
        return demand.types[0]

    base = default_type("q")
    assert kind("") == base
    assert (base.length, base.min_gap, base.speed_range) == (5.0, 2.5, (0.2, 2.0))
    own = kind('length="4.3" minGap="1.5" accel="5" decel="10" sigma="0.2" tau="1.2" maxSpeed="20" speedDev="0.05"')
    assert own == type(base)("q", "passenger", 4.3, 1.5, 5, 10, 10, 0.2, 1.2, 20, 1.0, 0.05)
    drawn = kind('vClass="bus" speedFactor="normc(1.1,0.2,0.5,1.5)"')
    assert (drawn.speed_factor, drawn.speed_deviation, drawn.speed_range) == (1.1, 0.2, (0.5, 1.5))
    old = kind('speedFactor="1.2" speedDev="0"')
    assert (old.speed_factor, old.speed_deviation) == (1.2, 0)


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    demand = read_demand(FOLDER / "plain.rou.xml.gz", network(), 0, 300)
    write_routes(demand, network(), tmp_path / "fixed.rou.xml")
    again = read_demand(tmp_path / "fixed.rou.xml", network(), 0, 300)
    assert (again.types, again.routes, again.trips) == (demand.types, demand.routes, demand.trips)
    assert {demand.types[t.type].vehicle_class for t in demand.trips} == {"passenger", "bus"}


def test_permissions_decide_the_way() -> None:
    walks = read_network(FOLDER / "walks.net.xml.gz")
    demand = read_demand(FOLDER / "walks.rou.xml.gz", walks, 0, 300)
    for route in demand.routes:
        for edge in route:
            assert any(walks.lanes[lane].allows("passenger") for lane in walks.edges[edge].lanes)


VEHICLE = '<vehicle id="v" depart="5" {more}><route edges="{edges}"/></vehicle>'
BAD = {
    "unknown edge": (VEHICLE.format(more="", edges="A0A1 nowhere"), "no edge 'nowhere'"),
    "gap": (VEHICLE.format(more="", edges="A0A1 B1B0"), "no connection for passenger from edge 'A0A1' to 'B1B0'"),
    "no edges": (VEHICLE.format(more="", edges=""), "route without edges"),
    "unknown type": (VEHICLE.format(more='type="tank"', edges=WAY), "no vehicle type 'tank'"),
    "unknown route": ('<vehicle id="v" depart="5" route="x"/>', "no route 'x'"),
    "later route": (f'<vehicle id="v" depart="5" route="x"/><route id="x" edges="{WAY}"/>', "no route 'x'"),
    "no route at all": ('<trip id="v" depart="5"/>', "has no route"),
    "zones": ('<trip id="v" depart="5" fromTaz="1" toTaz="2"/>', "has no route"),
    "triggered": ('<vehicle id="v" depart="triggered"/>', "not supported; write seconds"),
    "no time": ('<vehicle id="v" depart="-"/>', "not a number"),
    "twice": (VEHICLE.format(more="", edges=WAY) * 2, "'v' is there twice"),
    "tram type": ('<vType id="t" vClass="ship"/>', "vClass 'ship' cannot be driven"),
    "model": ('<vType id="t" carFollowModel="IDM"/>', "'IDM' is not built in"),
    "length": ('<vType id="t" length="0"/>', "length is 0"),
    "sigma": ('<vType id="t" sigma="1.5"/>', "sigma lies within"),
    "factor": ('<vType id="t" speedFactor="gamma(1,2)"/>', "is not a number"),
    "bounds": ('<vType id="t" speedFactor="normc(1,0.1,2,0.2)"/>', "low not above high"),
    "empty choice": ('<vTypeDistribution id="d"/>', "nothing to draw from"),
    "unknown choice": ('<vTypeDistribution id="d" vTypes="x"/>', "names 'x'"),
    "chances": (f'<route id="x" edges="{WAY}"/><routeDistribution id="d" routes="x" probabilities="1 2"/>', "as many"),
    "flow": ('<flow id="v" from="A0A1" to="A1B1"/>', "how many depart"),
    "period": ('<flow id="v" from="A0A1" to="A1B1" period="0"/>', "above 0"),
    "rate": ('<flow id="v" from="A0A1" to="A1B1" period="exp(1e9)"/>', "not too large"),
    "chance": ('<flow id="v" from="A0A1" to="A1B1" probability="2"/>', "write 0 to 1"),
    "backwards": ('<flow id="v" from="A0A1" to="A1B1" begin="9" end="3" period="1"/>', "before it begins"),
    "many": ('<flow id="v" from="A0A1" to="A1B1" period="1e-9"/>', "more than 1000000"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_demand_is_named_with_its_line(read: Read, tmp_path: Path, case: str) -> None:
    body, message = BAD[case]
    with pytest.raises(IntersectionsError, match=message.replace("(", r"\(")) as caught:
        read(body)
    assert caught.value.line == 2
    assert str(caught.value).startswith(f"{tmp_path / 'made.rou.xml'}:2: ")


APART = """<net>
<edge id="a" from="A" to="B"><lane id="a_0" index="0" speed="9" length="9" shape="0,0 9,0" allow="bus"/></edge>
<edge id="b" from="B" to="C"><lane id="b_0" index="0" speed="9" length="9" shape="9,0 18,0"/></edge>
<edge id="c" from="B" to="C"><lane id="c_0" index="0" speed="9" length="9" shape="9,0 18,0"/></edge>
<junction id="A" type="dead_end" x="0" y="0" incLanes="" intLanes=""/>
<junction id="B" type="priority" x="9" y="0" incLanes="a_0" intLanes=""/>
<junction id="C" type="dead_end" x="18" y="0" incLanes="b_0 c_0" intLanes=""/>
<connection from="a" to="b" fromLane="0" toLane="0" dir="s" state="M"/>
</net>"""


@pytest.mark.parametrize(
    ("kind", "trip", "message"),
    [
        ("bus", 'from="a" to="b"', None),
        ("bus", 'from="a" to="c"', "no way for bus from edge 'a' to 'c'"),
        ("taxi", 'from="a" to="b"', "no way for taxi from edge 'a' to 'b'"),
        ("taxi", 'route="r"', "edge 'a' is closed to taxi"),
    ],
)
def test_a_class_drives_only_where_it_may(tmp_path: Path, kind: str, trip: str, message: str | None) -> None:
    (tmp_path / "net.xml").write_text(APART)
    path = tmp_path / "t.rou.xml"
    head = f'<routes><vType id="t" vClass="{kind}"/><route id="r" edges="a b"/>'
    path.write_text(f'{head}\n<vehicle id="v" type="t" depart="0" {trip}/></routes>')
    small = read_network(tmp_path / "net.xml")
    if message is None:
        assert read_demand(path, small, 0, 10).routes == ((0, 1),)
        return
    with pytest.raises(IntersectionsError, match=message) as caught:
        read_demand(path, small, 0, 10)
    assert caught.value.line == 2


def test_a_configuration_names_its_files(tmp_path: Path) -> None:
    path = tmp_path / "a.sumocfg"
    path.write_text(
        '<configuration><input><net-file value="n.net.xml"/><route-files value="r.xml, s.xml"/>'
        '<additional-files value="sub/t.xml"/></input><time><begin value="25200"/><end value="28800"/></time>'
        "</configuration>"
    )
    config = read_config(path)
    assert config.network == tmp_path / "n.net.xml"
    assert config.routes == (tmp_path / "r.xml", tmp_path / "s.xml")
    assert config.additional == (tmp_path / "sub" / "t.xml",)
    assert (config.begin_s, config.end_s) == (25200, 28800)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<input/>", "names 0 networks"),
        ('<net-file value="a"/><time><begin value="5"/><end value="5"/></time>', "not after its begin"),
        ('<net-file value="a"/><begin value="soon"/>', "not a number of seconds"),
        ('<net-file value="a"/><scale value="2"/>', "<scale> '2' is not modelled; write 1, or remove it"),
        ('<net-file value="a"/><step-length value="0.5"/>', "<step-length> '0.5' is not modelled"),
    ],
)
def test_bad_configurations(tmp_path: Path, body: str, message: str) -> None:
    path = tmp_path / "a.sumocfg"
    path.write_text(f"<configuration>{body}</configuration>")
    with pytest.raises(IntersectionsError, match=message):
        read_config(path)
