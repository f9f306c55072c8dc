"""Learning together, alone and pooled."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from fedsched.federation import FederationError, Update
from fedsched.sim.learning import Answers, Learning, make_learning, search
from fedsched.sim.scenario import Scenario
from fedsched.sim.site import Site
from fedsched.sim.workers import Workers

Begin = Callable[[Scenario], Workers[Site]]
Arrays = Mapping[str, np.ndarray]


def begin(at_work: Begin, scenario: Scenario) -> tuple[Learning, Workers[Site]]:
    workers = at_work(scenario)
    return make_learning(scenario, workers), workers


def furthest(a: Arrays, b: Arrays) -> float:
    assert set(a) == set(b)
    return max(float(np.abs(a[name] - b[name]).max(initial=0.0)) for name in a)


def test_after_a_federated_round_all_sites_have_the_mean_of_the_updates(
    tiny: Callable[..., Scenario], at_work: Begin
) -> None:
    scenario = tiny(federation={"secure_aggregation": None})
    learning, _ = begin(at_work, scenario)
    before = learning.parameters()["north"]
    twins = at_work(scenario)
    updates: dict[str, Update] = twins.map("train", {site: (before, {"updates": 1}) for site in scenario.sites})
    report = learning.round(1)
    after = learning.parameters()
    assert report.took_part == tuple(sorted(scenario.sites))
    assert all(furthest(after[site], after["north"]) == 0.0 for site in scenario.sites)
    mean = {name: before[name] + np.mean([u.delta[name] for u in updates.values()], axis=0) for name in before}
    assert furthest(after["north"], mean) < 1e-6
    assert furthest(before, mean) > 1e-4
    assert set(report.metrics) == set(scenario.sites)


def test_masked_updates_have_the_same_mean_and_stay_unseen(tiny: Callable[..., Scenario], at_work: Begin) -> None:
    plain, _ = begin(at_work, tiny(federation={"secure_aggregation": None}))
    masked, _ = begin(at_work, tiny())
    seen, unseen = plain.round(1), masked.round(1)
    assert furthest(plain.parameters()["north"], masked.parameters()["north"]) < 1e-6
    assert unseen.metrics == {}
    assert all(unseen.bytes_up[site] > seen.bytes_up[site] for site in seen.bytes_up)


@pytest.mark.parametrize("secure", [{}, None])
def test_a_site_that_fails_is_left_out_and_named(
    secure: dict[str, Any] | None, tiny: Callable[..., Scenario], at_work: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = tiny(federation={"secure_aggregation": secure})
    learning, workers = begin(at_work, scenario)
    before = learning.parameters()["north"]
    train = Site.train

    def failing(site: Site, *arguments: Any) -> Update:
        if site.name == "south":
            raise ZeroDivisionError("the disk is full")
        return train(site, *arguments)

    monkeypatch.setattr(Site, "train", failing)
    report = learning.round(1)
    assert report.took_part == ("east", "north", "west")
    assert list(report.left_out) == ["south"]
    assert "the disk is full" in report.left_out["south"]
    twins = at_work(scenario)
    others = [twins.call(site, "train", before, {"updates": 1}) for site in report.took_part]
    mean = {name: before[name] + np.mean([u.delta[name] for u in others], axis=0) for name in before}
    assert furthest(learning.parameters()["south"], mean) < 1e-6
    monkeypatch.setattr(Site, "train", train)
    assert learning.round(2).left_out == {}
    del workers


def test_a_site_that_fails_while_it_is_judged_is_left_out_and_named(
    tiny: Callable[..., Scenario], at_work: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning, workers = begin(at_work, tiny())
    whole = learning.judge(0)
    known = {site: workers.call(site, "evaluate", learning.parameters()[site], {}) for site in workers.sites}
    assert whole.by_site == known
    assert whole.left_out == {}
    evaluate = Site.evaluate

    def failing(site: Site, *arguments: Any) -> dict[str, float]:
        if site.name == "south":
            raise ZeroDivisionError("the disk is full")
        return evaluate(site, *arguments)

    monkeypatch.setattr(Site, "evaluate", failing)
    judged = learning.judge(3)
    assert judged.by_site == {site: known[site] for site in ("east", "north", "west")}
    assert list(judged.left_out) == ["south"]
    assert "the disk is full" in judged.left_out["south"]
    # what goes down is the parameters, what comes back four figures
    size = sum(array.nbytes for array in learning.parameters()["north"].values())
    assert all(judged.bytes_down[site] > size > judged.bytes_up[site] > 0 for site in known if site != "south")
    assert judged.bytes_up["south"] == 0


@pytest.mark.parametrize("kind", ["local", "central"])
def test_without_a_federation_judging_sends_nothing_over_it(
    kind: str, tiny: Callable[..., Scenario], at_work: Begin
) -> None:
    judged = begin(at_work, tiny(learning=kind))[0].judge(0)
    assert set(judged.by_site) == {"north", "east", "south", "west"}
    assert (judged.left_out, judged.bytes_up, judged.bytes_down) == ({}, {}, {})


def test_too_few_sites_end_the_run(
    tiny: Callable[..., Scenario], at_work: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning, _ = begin(at_work, tiny())

    def failing(site: Site, *_: Any) -> Update:
        raise ZeroDivisionError(f"{site.name} is down")

    monkeypatch.setattr(Site, "train", failing)
    with pytest.raises(FederationError, match="north is down"):
        learning.round(1)


def test_alone_every_site_learns_what_it_would_learn_without_the_others(
    tiny: Callable[..., Scenario], at_work: Begin
) -> None:
    learning, workers = begin(at_work, tiny(learning="local"))
    initial = workers.call("north", "initial")
    report = learning.round(1)
    found = learning.parameters()
    assert (report.bytes_up, report.bytes_down) == ({}, {})
    assert furthest(found["north"], found["east"]) > 1e-5
    alone = at_work(tiny("north", learning="local"))
    alone.call("north", "learn", 1)
    assert furthest(alone.call("north", "averaged"), found["north"]) == 0.0
    assert furthest(found["north"], initial) > 0.0


def test_one_central_learner_serves_all(tiny: Callable[..., Scenario], at_work: Begin) -> None:
    learning, workers = begin(at_work, tiny(learning="central"))
    initial = workers.call("north", "initial")
    assert furthest(learning.parameters()["east"], initial) == 0.0
    report = learning.round(1)
    found = learning.parameters()
    assert all(furthest(found[site], found["north"]) == 0.0 for site in found)
    assert furthest(found["north"], initial) > 0.0
    assert report.metrics[""]["greedy_ratio"] >= 0.0


@pytest.mark.parametrize("kind", ["federated", "local", "central"])
def test_a_state_goes_on_exactly(kind: str, tiny: Callable[..., Scenario], at_work: Begin) -> None:
    scenario = tiny(learning=kind)
    learning, _ = begin(at_work, scenario)
    learning.round(1)
    state = learning.shared_state(), learning.site_states()
    learning.round(2)
    other, _ = begin(at_work, scenario)
    other.load(*state)
    other.round(2)
    for site, parameters in learning.parameters().items():
        assert furthest(parameters, other.parameters()[site]) == 0.0


def test_of_several_searches_the_best_on_validation_windows_is_used(
    tiny: Callable[..., Scenario], at_work: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"attempts": 3, "generations": 2, "population": 4, "windows": 1}
    scenario = tiny("north", learning="local", agents={"search": settings})
    learning, _ = begin(at_work, scenario)
    starts: list[np.ndarray] = []
    generations: list[int] = []
    scores = iter((0.9, 0.7, 0.8))

    def trials(candidates: Arrays, generation: int) -> Answers[np.ndarray]:
        generations.append(generation)
        return Answers({"north": (candidates["north"] ** 2).sum(1)})

    monkeypatch.setattr(learning, "trials", trials)
    monkeypatch.setattr(learning, "judge", lambda _: Answers({"north": {"score": next(scores)}}))
    monkeypatch.setattr(learning, "start_from", lambda weights: starts.append(weights["north"].copy()))
    search(scenario, learning, lambda *_: None)
    assert generations == list(range(6))
    first, second, third, chosen = starts
    assert np.array_equal(chosen, second)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)
