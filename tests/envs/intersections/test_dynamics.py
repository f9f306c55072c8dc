"""The kernels against SUMO second by second, against the slow reference, and against the laws of the road."""

import itertools
from types import ModuleType

import numpy as np
import pytest

from fedsched.envs.intersections.reference import Simulation

EXACT = (
    *("departures", "free_drive", "inner_lanes", "insertion", "permissive_left", "queue_discharge", "right_on_red"),
    *("spillback", "stuck", "yellow"),
)
"""Scenes in which every vehicle is where SUMO has it, every second; the others change lanes at other seconds."""
LANE_CHANGES = ("bus_and_emergency", "crossroads", "lane_drop", "mixed_lanes")


@pytest.mark.parametrize("name", EXACT)
def test_every_vehicle_is_where_sumo_has_it(streets: ModuleType, name: str) -> None:
    known = streets.scene(name)
    truth, lanes = known.truth["exact"], [lane.id for lane in known.network.lanes]
    city = streets.Streets(known.without_chance(), [0])
    for second, step in enumerate(truth["steps"]):
        city.run(1)
        own = {known.trips[trip]: (lanes[lane], at, v) for trip, (lane, at, v) in city.on_road().items()}
        assert len(own) == len(step), second
        for vehicle, lane, at, speed in step:
            where = own[truth["vehicles"][vehicle]]
            assert where[0] == truth["lanes"][lane], second
            assert where[1:] == pytest.approx((at, speed), abs=0.02), second


@pytest.mark.parametrize("name", ["crossroads", "permissive_left", "lane_drop", "bus_and_emergency", "departures"])
def test_kernels_equal_the_reference(streets: ModuleType, name: str) -> None:
    """With dawdling and drivers of all kinds, every position and speed."""
    known = streets.scene(name)
    slow, fast = Simulation(known.tables, 0.0, seed=3), streets.Streets(known.tables, [3])
    for second in range(len(known.truth["exact"]["steps"])):
        slow.step()
        fast.run(1)
        own = fast.on_road()
        assert len(own) == len(slow.running), second
        for vehicle in slow.running:
            lane, at, speed = own[vehicle.id]
            assert lane == vehicle.lane, second
            assert (at, speed) == pytest.approx((vehicle.position, vehicle.speed), abs=1e-6), second


@pytest.mark.parametrize("name", [*EXACT, *LANE_CHANGES, "priority_merge"])
def test_trips_take_as_long_as_in_sumo(streets: ModuleType, name: str) -> None:
    """Mean duration over 20 seeds: within two standard errors of the difference, and a tenth of a second."""
    known = streets.scene(name)
    noisy = known.truth["noisy"]
    city = streets.Streets(known.tables, list(range(20)))
    city.run(len(known.truth["exact"]["steps"]))
    own = []
    for row in range(20):
        arrived, inserted = city.trips("arrived", row), city.trips("inserted", row)
        own.append(float((arrived - inserted)[arrived >= 0].mean()))
    theirs = np.array(noisy["seeds"]["duration"])
    error = np.sqrt((np.var(own, ddof=1) + theirs.var(ddof=1)) / 20)
    assert abs(np.mean(own) - theirs.mean()) <= 2 * error + 0.1


def test_lanes_are_changed_inside_junctions_only_straight_on(streets: ModuleType) -> None:
    known = streets.scene("crossroads")
    lanes, links = known.tables.lanes, known.tables.links
    inside = np.flatnonzero(lanes.internal & ((lanes.right >= 0) | (lanes.left >= 0)))
    assert len(inside) == 8  # two lanes straight on from each of four arms
    for lane in inside:
        source, target = links.source[lanes.entry[lane]], links.target[lanes.entry[lane]]
        assert lanes.index[source] == lanes.index[target] == lanes.index[lane]


def test_nobody_is_lost_and_nobody_overlaps(streets: ModuleType) -> None:
    known = streets.scene("crossroads")
    city = streets.Streets(known.tables, [5])
    sizes, kinds = known.tables.types.length, known.tables.vehicles.type
    for _ in range(len(known.truth["exact"]["steps"])):
        city.run(1)
        on_road = city.on_road()
        inserted, arrived = city.trips("inserted") >= 0, city.trips("arrived") >= 0
        assert set(np.flatnonzero(inserted & ~arrived)) == set(on_road)
        for lane in {lane for lane, _, _ in on_road.values()}:
            queue = sorted((at, trip) for trip, (where, at, _) in on_road.items() if where == lane)
            for (behind, _), (ahead, trip) in itertools.pairwise(queue):
                assert behind <= ahead - sizes[kinds[trip]] + 1e-9


def test_a_world_does_not_depend_on_its_row(streets: ModuleType) -> None:
    known = streets.scene("crossroads")
    alone, among = streets.Streets(known.tables, [7]), streets.Streets(known.tables, [1, 7, 7, 2])
    for _ in range(6):
        alone.run(20)
        among.run(20)
    assert alone.on_road() == among.on_road(1) == among.on_road(2)
    assert alone.on_road() != among.on_road(0)
