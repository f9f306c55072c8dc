"""An update without a decision: a period of little load leaves nobody a choice."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedsched.agents.config import PolicyConfig
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import NOTHING_LEARNED, Experience, Optimiser, PpoConfig
from fedsched.envs.core import Observation


def test_an_update_without_decisions_leaves_the_policy_as_it_is(queue: Callable[..., Any]) -> None:
    policy = Policy(queue(1).spec, PolicyConfig())
    before = copy.deepcopy(policy.state_dict())
    optimiser = Optimiser(policy, PpoConfig(), torch.Generator().manual_seed(0))
    nobody = Experience(decisions=(), choice=torch.empty(0), log_prob=torch.empty(0), advantage=torch.empty(0))
    losses = optimiser.update({"cluster": nobody}, moments=5)
    assert losses is NOTHING_LEARNED
    assert losses.decisions == 0
    assert optimiser.updates == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.state_dict().items())


@pytest.mark.parametrize("sharing", ["kind", "all"])
@pytest.mark.parametrize("idle", [("clerk",), ("post", "clerk")])
def test_kinds_that_decide_nothing_leave_no_trace_in_their_critics(
    idle: tuple[str, ...], sharing: Any, clerk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = clerk(4)
    observe = world._observe

    def seen() -> Observation:
        found = observe()
        resting = {name: found.kinds[name] for name in idle}
        for name, tokens in resting.items():
            tokens.action_mask[..., 1] = False
            resting[name] = replace(tokens, active=torch.zeros_like(tokens.active))
        return replace(found, kinds={**found.kinds, **resting})

    monkeypatch.setattr(world, "_observe", seen)
    policy = Policy(world.spec, PolicyConfig(sharing=sharing, critic="independent"))
    learner = Learner(policy, LearnerConfig({"right": 1.0}, "gae", rollouts=1), seed=0)
    before = copy.deepcopy(policy.critic("clerk").state_dict())
    rows = torch.arange(4)
    losses = learner.update([learner.collect(world, rows, rows)])
    assert math.isfinite(losses.value)
    assert math.isfinite(losses.value_mean)
    assert all(bool(tensor.isfinite().all()) for tensor in policy.state_dict().values())
    if sharing == "kind" or "post" in idle:
        assert all(torch.equal(before[name], tensor) for name, tensor in policy.critic("clerk").state_dict().items())
