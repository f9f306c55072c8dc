"""Foreign environments whose agents share one network, or own theirs."""

from typing import Any

import pytest
import torch

from fedsched.sim.domains import domain_of
from fedsched.sim.errors import WorldSetupError
from fedsched.sim.scenario import Scenario
from fedsched.sim.training import Trainer

pytest.importorskip("mpe2")


def scenario(sharing: str, continuous: bool) -> Scenario:
    """A speaker and a listener: kinds that see and do unlike things."""
    world = {
        "domain": "pettingzoo",
        "entry_point": "mpe2.simple_speaker_listener_v4:parallel_env",
        "arguments": {"continuous_actions": continuous},
    }
    agents: dict[str, Any] = {"sharing": sharing, "encoder": {"width": 8}, "ppo": {"advantage": "gae", "epochs": 1}}
    sites = {"here": {"world": world, "copies": 2}}
    return Scenario.model_validate(
        {"version": 1, "name": "talk", "learning": "local", "sites": sites, "agents": agents}
    )


@pytest.mark.parametrize(
    ("sharing", "continuous"), [("kind", False), ("agent", False), ("all", False), ("kind", True), ("agent", True)]
)
def test_speaker_and_listener_learn(sharing: str, continuous: bool) -> None:
    told = scenario(sharing, continuous)
    trainer = Trainer(told, [domain_of(told).site(told, "here")])
    before = trainer.parameters
    assert trainer.update().decisions == 2 * 2 * 25
    moved = trainer.parameters
    assert any(bool((torch.from_numpy(moved[name] - value)).any()) for name, value in before.items())


def test_unlike_vectors_cannot_share_a_head_and_the_key_is_named() -> None:
    told = scenario("all", continuous=True)
    with pytest.raises(WorldSetupError) as refused:
        domain_of(told).check(told)
    [finding] = refused.value.found
    assert finding.place == ("agents", "sharing")
    assert "(speaker a vector of 3, listener a vector of 5): share by kind or agent" in str(refused.value)
