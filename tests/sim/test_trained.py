"""A trained policy in other hands than its run's."""

from pathlib import Path

import pytest
import torch

from fedsched.agents import play
from fedsched.agents.mailbox import Traffic
from fedsched.agents.speech import SendingKind
from fedsched.envs.datacenter import make_world
from fedsched.sim.errors import UserError
from fedsched.sim.trained import load_policy


def test_a_policy_may_send_all_of_its_messages_or_some_at_random(finished: Path) -> None:
    policy, rows = load_policy(finished), torch.arange(4)
    world = make_world("lublin-1", clusters=[256, 128], batch=4, jobs=32)
    assert policy.traffic == Traffic()

    def sent(how: SendingKind | None = None, share: float | None = None) -> Traffic:
        policy.reset(world, how, share, seed=3)
        assert policy.traffic == Traffic()
        play(world, rows, rows, policy.act)
        return policy.traffic

    assert sent() == sent("always")
    none, half, every = (sent("random", share) for share in (0.0, 0.5, 1.0))
    assert none.messages == 0 < half.messages < half.possible
    assert every.messages == every.possible
    assert every.payload_bits == sent().payload_bits + every.possible, "a bit for each that might have kept silent"


def test_what_a_policy_cannot_send_is_told(finished: Path) -> None:
    policy, world = load_policy(finished, "west"), make_world("lublin-1", clusters=[256], batch=1, jobs=4)
    with pytest.raises(UserError, match=r"^policy of west: this policy has no trigger"):
        policy.reset(world, "uncertain")
    with pytest.raises(UserError, match="need the share that is sent, from 0 to 1, got None"):
        policy.reset(world, "random")
