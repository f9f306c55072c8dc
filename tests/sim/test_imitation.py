"""Imitation in a run: the first local updates of a site come from a teacher, the others from the reward."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.imitation import ImitationConfig, Imitator, Lesson, agreement
from fedsched.agents.ppo import Losses
from fedsched.sim.domains import domain_of
from fedsched.sim.domains.datacenter.site import DatacenterSite
from fedsched.sim.encoding import decode, encode
from fedsched.sim.progress import PlainProgress
from fedsched.sim.run import run
from fedsched.sim.scenario import Scenario, load_scenario
from fedsched.sim.scenario.sites import TEACHERS
from fedsched.sim.site import diagnostics
from fedsched.sim.trained import TrainedPolicy
from fedsched.sim.training import Trainer, learner_config, make_policy

CROWDED = {"north": {"world": {"window": {"jobs": 150}}}}
IMITATING = {"start": "none", "imitation": {"teacher": "saf-easy", "updates": 2}}


def make(scenario: Scenario) -> tuple[Trainer, DatacenterSite]:
    worlds = DatacenterSite(scenario, "north")
    return Trainer(scenario, [worlds]), worlds


def test_the_first_updates_imitate_and_the_others_do_not(tiny: Callable[..., Scenario]) -> None:
    trainer, worlds = make(tiny("north", sites=CROWDED, agents=IMITATING, federation={"rounds": 4}))
    episodes, teacher = worlds.draw("validation", 4), worlds.teacher("saf-easy")

    def agreed() -> float:
        return agreement(trainer.policy, worlds.world(4), teacher, episodes.instances, episodes.seeds)

    before = agreed()
    done = [trainer.update(), trainer.update()]
    assert agreed() > max(0.8, before + 0.2)
    averaged = trainer.averaged
    assert all(np.array_equal(array, averaged[name]) for name, array in trainer.parameters.items())
    done.append(trainer.update())
    assert [type(one) for one in done] == [Lesson, Lesson, Losses]
    told = diagnostics(done)
    assert told["taught"] == 0.5
    assert told["approx_kl"] > 0.0
    assert trainer.updates == 3


def test_ppo_plans_the_updates_that_imitation_leaves(tiny: Callable[..., Scenario]) -> None:
    free = tiny("north", federation={"rounds": 4})
    taught = tiny("north", agents=IMITATING, federation={"rounds": 4})
    assert learner_config(free, {"qos": 1.0}).ppo.iterations == 4
    assert learner_config(taught, {"qos": 1.0}).ppo.iterations == 2


@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_resumed_trainer_goes_on_to_the_same_numbers(before: int, tiny: Callable[..., Scenario]) -> None:
    scenario = tiny("north", sites=CROWDED, agents=IMITATING, federation={"rounds": 4})
    straight, _ = make(scenario)
    for _ in range(before):
        straight.update()
    state = decode(encode(straight.state()))
    resumed, _ = make(scenario)
    resumed.load(state)
    for trainer in (straight, resumed):
        trainer.update()
    assert all(np.array_equal(array, resumed.parameters[name]) for name, array in straight.parameters.items())


@pytest.mark.parametrize(("domain", "shipped"), [("datacenter", "demo"), ("intersections", "cities")])
def test_every_teacher_that_a_scenario_may_name_is_there(domain: str, shipped: str) -> None:
    scenario = load_scenario(shipped)
    worlds = domain_of(scenario).site(scenario, next(iter(scenario.sites)))
    teachers = [worlds.teacher(name) for name in TEACHERS[domain]]
    assert [teacher.name for teacher in teachers] == list(TEACHERS[domain])
    assert {teacher.reads for teacher in teachers} == {"observation"}


def test_a_policy_teaches_another(tiny: Callable[..., Scenario]) -> None:
    """The pupil starts without a rule and ends up deciding as its teacher, a policy that follows one."""
    scenario = tiny("north", sites=CROWDED, agents={"start": "wfp3"})
    worlds = DatacenterSite(scenario, "north")
    teacher = TrainedPolicy("teacher", make_policy(scenario, worlds.spec))
    pupil = Imitator(
        make_policy(tiny("north", seed=1, agents={"start": "none"}), worlds.spec), ImitationConfig(epochs=6), 0
    )
    world, episodes = worlds.world(4), worlds.draw("validation", 4)

    def agreed() -> float:
        return agreement(pupil.policy, world, teacher, episodes.instances, episodes.seeds)

    before = agreed()
    for k in range(3):
        drawn = worlds.draw("train", 4, k)
        pupil.update([pupil.collect(world, teacher, drawn.instances, drawn.seeds)])
    assert agreed() > max(0.8, before + 0.2)


@pytest.mark.parametrize("learning", ["federated", "central"])
def test_a_run_imitates_first(learning: str, tiny: Callable[..., Scenario], tmp_path: Path) -> None:
    agents: dict[str, Any] = {"start": "none", "imitation": {"teacher": "saf-easy", "updates": 1}}
    scenario = tiny("north", "east", learning=learning, agents=agents)
    threads = torch.get_num_threads()
    folder = run(scenario, tmp_path / "run", None, PlainProgress(io.StringIO()))
    torch.set_num_threads(threads)
    import pyarrow.parquet as pq

    names = pq.read_table(folder / "metrics")["name"].to_pylist()
    assert "train/agreement" in names
    assert "train/approx_kl" in names
