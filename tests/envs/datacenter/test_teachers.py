"""Rules that read the observation decide as those that read the state."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from fedsched.envs.datacenter.controllers import RuleController
from fedsched.envs.datacenter.generate import GeneratedWindows, LublinFeitelson
from fedsched.envs.datacenter.model import Cluster, DatacenterError, SiteModel
from fedsched.envs.datacenter.teachers import TEACHERS, SeenRule
from fedsched.envs.datacenter.world import KIND, DatacenterWorld

SITE = SiteModel((Cluster(96), Cluster(64, speed=0.7)))
WINDOWS = GeneratedWindows(LublinFeitelson(96), 150, processors=141, load=1.1, seed=3)
INSTANCES = torch.tensor([0, 3, 6])


@pytest.mark.parametrize("engine", ["event", "committing"])
@pytest.mark.parametrize("name", TEACHERS)
def test_a_seen_rule_takes_the_decisions_of_the_rule_that_reads_the_state(name: str, engine: Any) -> None:
    site = SITE if engine == "event" else SiteModel((Cluster(96),))
    world = DatacenterWorld(site, WINDOWS, len(INSTANCES), engine)
    seen, rule = SeenRule(name), RuleController(name)
    seen.reset(world)
    rule.reset(world)
    observation = world.reset(INSTANCES, INSTANCES)
    asked = 0
    while bool((tokens := observation.kinds[KIND]).alive.any()):
        told, right = seen.act(observation)[KIND], rule.act(observation)[KIND]
        assert torch.equal(told, right)
        asked += int((tokens.active & (tokens.action_mask.sum(2) > 1)).sum())
        observation = world.step({KIND: right}).observation
    assert asked > 50


def test_what_no_agent_sees_cannot_be_taught() -> None:
    assert SeenRule("saf").reads == "observation"
    assert RuleController("saf").reads == "state"
    with pytest.raises(DatacenterError, match=r"no teacher 'saff' \(did you mean 'saf'\?\); there are fcfs, fcfs-easy"):
        SeenRule("saff")
    with pytest.raises(DatacenterError, match="saf schedules data centres, not streets"):
        SeenRule("saf").reset(cast("Any", SimpleNamespace(spec=SimpleNamespace(name="streets"))))
