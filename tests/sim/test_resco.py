"""The benchmark on RESCO's maps, without the maps: its scenarios, checkpoints, kept episodes and rank correlations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from benchmarks.resco import episodes as playing
from benchmarks.resco.actors import Learned, Linear, Rule
from benchmarks.resco.checkpoints import Checkpoint, digest, found, load, save
from benchmarks.resco.episodes import Episodes
from benchmarks.resco.hour import SITE, scenario_of
from benchmarks.resco.published import PUBLISHED
from benchmarks.resco.ranks import agreement
from fedsched.envs.intersections.maps import NAMES
from fedsched.sim.domains.intersections.site import CitySite
from fedsched.sim.scenario import IntersectionsWorld, Scenario, as_kind
from fedsched.sim.training import Trainer

BARS = {
    "cologne1": 18.4, "cologne3": 17.5, "cologne8": 17.5, "ingolstadt1": 12.2, "ingolstadt7": 28.0,
    "ingolstadt21": 52.0, "grid4x4": 31.0, "arterial4x4": 590.0,
}  # fmt: skip


def small() -> Scenario:
    """A benchmark's scenario on streets that are shipped."""
    data: dict[str, Any] = scenario_of("grid4x4").model_dump(mode="json")
    data["sites"][SITE]["world"] |= {"city": "grid3x3", "variation": None, "demands": 1}
    return Scenario.model_validate(data)


@pytest.fixture(scope="module")
def city() -> CitySite:
    return CitySite(small(), SITE)


@pytest.fixture(scope="module")
def start(city: CitySite) -> Trainer:
    return Trainer(small(), [city])


@pytest.fixture(scope="module")
def kept(start: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = Checkpoint(
        *("grid3x3", 3, SITE), small().model_dump(mode="json"), start.parameters, {"net": "ab"}, 1.0, 2.0, None, {}
    )
    return save(checkpoint, tmp_path_factory.mktemp("checkpoints"))


def test_every_map_has_a_scenario_that_trains_on_other_hours_than_it_is_judged_by() -> None:
    assert {name: of.bar_s for name, of in PUBLISHED.items()} == BARS
    assert set(BARS) == set(NAMES)
    for name in NAMES:
        scenario = scenario_of(name, seed=2)
        world = as_kind(scenario.sites[SITE].world, IntersectionsWorld)
        assert (scenario.name, scenario.seed, world.city, world.timing) == (name, 2, name, "resco")
        assert world.variation is not None
        assert world.variation.scale == 1.0


def test_a_checkpoint_comes_back_as_it_was_and_is_small(kept: Path, start: Trainer) -> None:
    back = load(kept)
    assert found("grid3x3", kept.parent) == [kept]
    assert kept.stat().st_size < 100_000
    for name, values in start.parameters.items():
        assert np.array_equal(back.parameters[name], values)
    assert Scenario.model_validate(dict(back.scenario)) == small()


def test_an_episode_is_played_once(
    city: CitySite, kept: Path, start: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playing, "hour_of", lambda _: city)
    path = tmp_path / "episodes.json"
    learned, linear = Learned("policy", kept), Linear("start", small(), start.linear())
    actors = learned, linear, Rule("greedy")
    first = {actor.name: Episodes(path).of("grid3x3", actor, [5, 6], "own") for actor in actors}
    for one, other in zip(first["policy"], first["start"], strict=True):
        assert one.delay_s == other.delay_s, "the untrained policy is its linear scores"
    assert first["policy"][0].delay_s != first["policy"][1].delay_s
    assert {one.trips for one in first["greedy"]} == {len(city.problem.demands[0].trips)}

    def never(*_: object) -> None:
        raise AssertionError("played again")

    monkeypatch.setattr(playing, "played", never)
    assert Episodes(path).of("grid3x3", learned, [6, 5], "own") == first["policy"][::-1]
    with pytest.raises(AssertionError, match="played again"):
        Episodes(path).of("grid3x3", learned, [7], "own")
    assert learned.digest == digest(kept) == first["policy"][0].digest != linear.digest


def test_rank_correlations_are_spearmans() -> None:
    rng = torch.Generator().manual_seed(0)
    ours, sound = torch.rand(24, generator=rng).tolist(), [False] * 24
    assert agreement(ours, [value**3 for value in ours], sound).rho == pytest.approx(1.0)
    assert agreement(ours, [-value for value in ours], sound).rho == pytest.approx(-1.0)
    noisy = [value + 0.2 * float(torch.randn(1, generator=rng)) for value in ours]
    told = agreement(ours, noisy, sound)
    assert told.rho == told.without_jams == pytest.approx(float(spearmanr(ours, noisy).statistic))
    ties = [round(value, 1) for value in ours]
    assert agreement(ours, ties, sound).rho == pytest.approx(float(spearmanr(ours, ties).statistic))
    assert -1.0 <= told.low < told.rho < told.high <= 1.0
    assert told.better_half < told.rho


def test_actors_that_jam_can_be_left_out_of_the_correlation() -> None:
    ours = [float(value) for value in range(20)]
    theirs = [*ours[:18], -1.0, -2.0]
    told = agreement(ours, theirs, [*[False] * 18, True, True])
    assert told.without_jams == pytest.approx(1.0)
    assert told.rho == pytest.approx(float(spearmanr(ours, theirs).statistic))
    assert told.rho < 0.5
