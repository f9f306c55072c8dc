"""Learning from branches in a run: the first updates of a city try actions in copies, those after them are PPO's."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.ppo import Losses
from fedsched.agents.vine import VineLosses
from fedsched.sim.domains import domain_of
from fedsched.sim.encoding import decode, encode
from fedsched.sim.progress import PlainProgress
from fedsched.sim.run import run
from fedsched.sim.scenario import Scenario
from fedsched.sim.training import Trainer, learner_config

CITY: dict[str, Any] = {
    "world": {
        "domain": "intersections",
        "city": "generated",
        "generator": {"shape": "grid", "sizes": {"rows": 2, "columns": 2}},
        "traffic": {"duration": "4min"},
        "demands": 5,
    },
    "copies": 4,
    "weights": {"queue": 1.0},
}


def scenario(**changes: Any) -> Scenario:
    data: dict[str, Any] = {
        "version": 1,
        "name": "vine",
        "learning": "federated",
        "sites": {"a": CITY, "b": CITY},
        "agents": {
            "encoder": {"width": 8},
            "ppo": {"rollouts": 4, "epochs": 1},
            "vine": {"updates": 1, "every": 3, "branches": 16, "horizon": "60 s"},
        },
        "federation": {"rounds": 1, "local_updates": 2},
        "evaluation": {"windows": 1, "validation": 2, "against": ["greedy"]},
    }
    return Scenario.model_validate(data | changes)


def trainer(of: Scenario) -> Trainer:
    return Trainer(of, [domain_of(of).site(of, "a")])


def test_branches_come_first_and_a_resumed_trainer_goes_on_to_the_same_numbers() -> None:
    made = scenario()
    assert learner_config(made, {"queue": 1.0}).ppo.iterations == 1
    straight = trainer(made)
    assert isinstance(straight.update(), VineLosses)
    resumed = trainer(made)
    resumed.load(decode(encode(straight.state())))
    for one in (straight, resumed):
        assert isinstance(one.update(), Losses)
    assert all(np.array_equal(array, resumed.parameters[name]) for name, array in straight.parameters.items())


def test_a_federated_run_tells_what_branches_cost(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    folder = run(scenario(), tmp_path / "run", None, PlainProgress(io.StringIO()))
    torch.set_num_threads(threads)
    import pyarrow.parquet as pq

    names = pq.read_table(folder / "metrics")["name"].to_pylist()
    assert {"train/cost", "train/deviation", "train/approx_kl"} <= set(names)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vine": {"updates": 3}}, "federation plans 2 local updates"),
        ({"vine": {"updates": 1}, "encoder": {"memory": 8}}, "policies with memory try no branches"),
    ],
)
def test_what_cannot_be_is_said_before(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        scenario(agents=changes)
