"""An update without a decision: a period of little load leaves nobody a choice."""

import copy

import torch

from fedsched.agents.ppo import NOTHING_LEARNED, Experience, Optimiser, PpoConfig


def test_an_update_without_decisions_leaves_the_policy_as_it_is() -> None:
    policy = torch.nn.Linear(3, 1)
    before = copy.deepcopy(policy.state_dict())
    optimiser = Optimiser(policy, PpoConfig(), torch.Generator().manual_seed(0))
    nobody = Experience(decisions=(), choice=torch.empty(0), log_prob=torch.empty(0), advantage=torch.empty(0))
    losses = optimiser.update({"cluster": nobody}, moments=5)
    assert losses is NOTHING_LEARNED
    assert losses.decisions == 0
    assert optimiser.updates == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.state_dict().items())
