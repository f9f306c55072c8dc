"""Cities with a slower level of plans in a run: both levels learn, act, and are played back."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fedsched.agents.collect import GreedyActor, play
from fedsched.agents.population import linear_weights
from fedsched.envs.intersections.planned import PlannedWorld
from fedsched.envs.intersections.planned_view import PLANNER
from fedsched.envs.intersections.viewer import decode_frame
from fedsched.envs.intersections.world import KIND
from fedsched.sim.domains.intersections.domain import DOMAIN
from fedsched.sim.domains.intersections.site import CitySite
from fedsched.sim.folder import read_run
from fedsched.sim.progress import PlainProgress
from fedsched.sim.run import run
from fedsched.sim.scenario import Scenario
from fedsched.sim.trained import load_policy
from fedsched.sim.training import Trainer, make_policy

ROAD: dict[str, Any] = {
    "domain": "intersections",
    "city": "generated",
    "generator": {"shape": "arterial", "sizes": {"crossings": 2, "lanes": 2}},
    "traffic": {"vehicles_per_h": 1500.0, "duration": "180 s"},
    "demands": 5,
}


def two_levels(*more: dict[str, Any], **changes: Any) -> Scenario:
    worlds = more or ({"hierarchy": {"period": "1 min"}},)
    data: dict[str, Any] = {
        "version": 1,
        "name": "two-levels",
        "sites": {f"road{n}": {"world": ROAD | extra, "copies": 4} for n, extra in enumerate(worlds)},
        "agents": {
            "encoder": {"width": 8},
            "ppo": {"rollouts": 4, "epochs": 1},
            "search": {"generations": 1, "population": 4, "windows": 1},
        },
        "federation": {"rounds": 1, "local_updates": 1},
        "evaluation": {"windows": 1, "validation": 2, "against": ["greedy"], "replay": "30 s"},
    }
    return Scenario.model_validate(data | changes)


def test_both_levels_learn_and_the_table_shows_what_they_do(tmp_path: Path) -> None:
    folder = run(two_levels(), tmp_path / "run", None, PlainProgress(io.StringIO()))
    policy = load_policy(folder, "road0").policy
    fresh = make_policy(two_levels(), CitySite(two_levels(), "road0").spec)
    for kind in (KIND, PLANNER):
        assert not np.allclose(linear_weights(policy, kind), linear_weights(fresh, kind)), kind
    told = read_run(folder)
    [operated] = [e for e in told.events if e["kind"] == "operated" and e["actor"] == "policy"]
    figures = operated["sites"]["road0"]
    assert figures["trips"] == figures["completed"] + figures["running"] + figures["never_inserted"] > 0
    frames = [row for row in told.frames().to_pylist() if row["kind"] == "frame"]
    assert [row["time"] for row in frames] == [30.0 * k for k in range(7)]
    assert len(decode_frame(frames[-1]["data"]).position) == figures["running"]


def test_a_site_with_planners_has_their_world_and_spec() -> None:
    scenario = two_levels()
    site = CitySite(scenario, "road0")
    world = site.world(2)
    assert isinstance(world, PlannedWorld)
    assert world.period_s == 60
    for one in (site.spec, DOMAIN.policy_spec(scenario)):
        for known, other in zip(world.spec.kinds, one.kinds, strict=True):
            for name in ("name", "own", "entity", "action"):
                assert getattr(known, name) == getattr(other, name)
    trainer = Trainer(scenario, [site])
    assert trainer.linear().shape == linear_weights(trainer.policy, KIND, PLANNER).shape
    actor = GreedyActor(trainer.policy, world.spec, 2)
    driven = play(world, torch.tensor([0, 1]), torch.tensor([0, 0]), actor)
    assert bool((driven["completed"] > 0).all())


def test_a_start_that_does_not_plan_drives_as_the_signals_alone() -> None:
    delay = []
    for more in ({}, {"hierarchy": {"period": "1 min"}}):
        scenario = two_levels(more)
        site = CitySite(scenario, "road0")
        costs = site.trial(make_policy(scenario, site.spec), _start(scenario, site)[None].repeat(2, 0), 0)
        delay.append(float(costs[0]))
    assert delay[0] == delay[1]


def _start(scenario: Scenario, site: CitySite) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return Trainer(scenario, [site]).linear()


@pytest.mark.parametrize(
    ("worlds", "agents", "message"),
    [
        (({"hierarchy": {}}, {}), {}, "give all cities a 'hierarchy', or none"),
        (({"hierarchy": {}},), {"imitation": {"teacher": "greedy", "updates": 1}}, "teachers do not plan"),
        (({"hierarchy": {}, "district": {"number": 1, "of": 2}},), {}, "districts have no planners yet"),
        (({"hierarchy": {"period": "0 s"}},), {}, "greater than or equal to 1"),
    ],
)
def test_what_two_levels_cannot_be_is_refused(worlds: Any, agents: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        two_levels(*worlds, agents=agents)
