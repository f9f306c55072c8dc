"""An update without a decision: a period of little load leaves nobody a choice."""

import copy
from collections.abc import Callable
from typing import Any

import torch

from fedsched.agents.config import PolicyConfig
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import NOTHING_LEARNED, Experience, Optimiser, PpoConfig


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
