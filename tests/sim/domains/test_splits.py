"""Which demands train, validate and test: without variation, with it, and where there is only one demand."""

import io
from pathlib import Path
from typing import Any

import pytest

from fedsched.envs.intersections.generate import Grid, Traffic, write_city
from fedsched.sim.domains.base import Split
from fedsched.sim.domains.intersections.city import read_city
from fedsched.sim.domains.intersections.domain import DOMAIN
from fedsched.sim.domains.intersections.splits import demands_of
from fedsched.sim.domains.intersections.worlds import CityWorlds
from fedsched.sim.errors import WorldSetupError
from fedsched.sim.folder import read_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.run import run
from fedsched.sim.scenario import IntersectionsWorld, Scenario

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
VARIED = {"volume": 0.3, "jitter": "60 s"}


def world(**changes: Any) -> IntersectionsWorld:
    given = {"domain": "intersections", "city": "grid3x3", "timing": "sumo_rl"}
    return IntersectionsWorld.model_validate(given | changes)


def city(**changes: Any) -> Scenario:
    data = {
        "version": 1,
        "name": "city",
        "sites": {"a": {"world": {"domain": "intersections", "city": "grid3x3", "timing": "sumo_rl"} | changes}},
        "agents": {"encoder": {"width": 8}, "search": {"generations": 1, "population": 4, "windows": 2}},
        "federation": {"rounds": 0},
        "evaluation": {"windows": 2, "validation": 2, "against": ["greedy"]},
    }
    return Scenario.model_validate(data)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A city whose files hold one demand, of trips."""
    folder = tmp_path_factory.mktemp("city")
    write_city(Grid(rows=1, columns=2), Traffic(vehicles_per_h=900, seconds=300), folder, seed=1)
    return str(folder / "city.sumocfg")


def test_the_demands_of_a_city_are_split_once() -> None:
    for count in (5, 8, 21):
        ends = [demands_of(split, count) for split in SPLITS]
        assert [first for first, _ in ends] == [0, *(last for _, last in ends[:-1])]
        assert ends[-1][1] == count
        assert all(first < last for first, last in ends)
    assert {demands_of(split, 4) for split in SPLITS} == {(0, 4)}


def test_one_given_demand_tests_and_varied_ones_train(fixed: str) -> None:
    given = read_city(world(city=fixed)).problem.demands[0]
    found = CityWorlds(city(city=fixed, demands=6, variation=VARIED), "a")
    assert found.problem.demands[0] == given, "to the digest: what is judged is the demand of the files"
    assert len({demand.trips for demand in found.problem.demands}) == 1 + 6
    assert set(found.draw("train", 200, 1).instances.tolist()) == set(range(1, 7))
    for split in ("validation", "test"):
        assert set(found.draw(split, 20).instances.tolist()) == {0}


def test_drivers_of_tests_have_never_been_in_training(fixed: str) -> None:
    found = CityWorlds(city(city=fixed, demands=6, variation=VARIED), "a")
    seeds = [found.draw(split, 2000).seeds for split in SPLITS]
    (least, _), (low, high), (first, last) = ((int(own.min()), int(own.max())) for own in seeds)
    assert 0 <= first < last < low < high < least, "and all are seeds that SUMO takes"
    assert all(own.unique().numel() == 2000 for own in seeds)
    assert int(seeds[0].max()) < 1 << 31


def test_drawn_demands_are_split_and_only_those_that_train_are_varied() -> None:
    drawn, varied = (read_city(world(demands=10, **more)).problem.demands for more in ({}, {"variation": VARIED}))
    train = range(*demands_of("train", 10))
    assert [one != other for one, other in zip(drawn, varied, strict=True)] == [k in train for k in range(10)]


def test_few_drawn_demands_are_kept_apart_and_varied() -> None:
    found = read_city(world(demands=3, variation=VARIED))
    drawn = read_city(world(demands=3)).problem.demands
    assert found.problem.demands[:3] == drawn
    assert found.apart == 3
    assert len(found.problem.demands) == 6
    assert demands_of("train", 6, found.apart) == (3, 6)


def test_the_scale_holds_for_tests_too(fixed: str) -> None:
    given = read_city(world(city=fixed)).problem.demands[0]
    found = read_city(world(city=fixed, demands=2, variation={"volume": 0.0, "jitter": "0 s", "scale": 2.0})).problem
    assert [len(demand.trips) for demand in found.demands] == [2 * len(given.trips)] * 3


def test_incidents_are_of_training(fixed: str) -> None:
    found = read_city(world(city=fixed, demands=2, variation={"incidents": 1})).problem
    assert [bool(demand.closures) for demand in found.demands] == [False, True, True]


def test_weather_is_everywhere(fixed: str) -> None:
    found = read_city(world(city=fixed, demands=2, variation=VARIED, weather="snow")).problem
    assert found.demands[0].types == found.demands[1].types != read_city(world(city=fixed)).problem.demands[0].types


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variation": {}}, "one varied demand is learned by heart; write how many train, such as 'demands: 64'"),
        ({"city": "grid4x4", "demands": 5}, "leave it out, or add 'variation: {}'"),
        ({"demands": 5, "variation": {"volume": 1.0}}, "less than 1"),
        ({"demands": 5, "variation": {"incidents": -1}}, "greater than or equal to 0"),
    ],
)
def test_variations_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world(**changes)


def test_maps_of_resco_take_varied_demands() -> None:
    assert world(city="grid4x4", demands=64, variation={}).demands == 64


def test_a_scale_that_leaves_nobody_is_told(fixed: str) -> None:
    with pytest.raises(WorldSetupError, match="no vehicle departs"):
        DOMAIN.check(city(city=fixed, demands=2, variation={"scale": 1e-6}))


def test_a_search_alone_is_a_run(fixed: str, tmp_path: Path) -> None:
    scenario = city(city=fixed, demands=4, variation=VARIED)
    told = read_run(run(scenario, tmp_path / "run", None, PlainProgress(io.StringIO())))
    assert told.status == "done"
    assert [event["kind"] for event in told.events] == ["search", "validation", "operated", "operated", "operated"]
    figures = told.events[-1]["sites"]["a"]
    given = read_city(world(city=fixed)).problem
    assert figures["trips"] == len(given.demands[0].trips), "the mean over two test periods"
