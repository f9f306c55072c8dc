"""The page about PPO names tests that exist, keys that exist, and all diagnostics."""

import re
from dataclasses import fields
from pathlib import Path

from fedsched.agents.learner import LearnerConfig
from fedsched.agents.ppo import Losses, PpoConfig
from fedsched.sim.scenario.learning import Encoder, Ppo

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
