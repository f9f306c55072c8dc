"""The page about PPO names tests that exist, keys that exist, and all diagnostics."""

import re
from dataclasses import fields, replace
from pathlib import Path

import yaml

from benchmarks.spread import COPIES, LENGTH, PPO, STEPS
from fedsched.agents.learner import LearnerConfig
from fedsched.agents.ppo import Losses, PpoConfig
from fedsched.sim.scenario import Scenario
from fedsched.sim.scenario.learning import Encoder, Ppo
from fedsched.sim.training import learner_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ppo.md").read_text()


def test_every_test_on_the_page_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    there = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert len(named) > 40
    assert named <= there, sorted(named - there)


def test_every_diagnostic_is_told() -> None:
    told = set(re.findall(r"`(\w+)`", PAGE.split("## Diagnostics")[1]))
    assert {field.name for field in fields(Losses)} <= told


def test_every_key_of_ppo_is_told() -> None:
    told = set(re.findall(r"`(\w+)", PAGE))
    keys = set(Ppo.model_fields) | {"memory"}
    assert keys <= told, sorted(keys - told)
    in_code = {"kl_stop", "average", "critic_lr"}
    assert in_code <= {field.name for field in (*fields(PpoConfig), *fields(LearnerConfig))}
    assert in_code <= told
    assert "memory" in Encoder.model_fields


def test_the_scenario_on_the_page_learns_as_the_benchmark_does() -> None:
    block = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    told = Scenario.model_validate(yaml.safe_load(block[1]))
    learning = learner_config(told, {"reward": 1.0})
    updates = told.federation.rounds * told.federation.local_updates
    assert updates == round(STEPS / (COPIES * LENGTH))
    assert learning == LearnerConfig(
        {"reward": 1.0}, "gae", rollouts=1, gamma=0.9, ppo=replace(PPO, iterations=updates)
    )
    assert told.sites["field"].copies == COPIES
