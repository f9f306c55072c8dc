from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import evaluate
from fedsched.agents.config import MessageConfig, PolicyConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.mailbox import Mailbox, Traffic
from fedsched.agents.messages import Messenger, fresh_speakers
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import PpoConfig


def learnt_share(world: Any, rounds: int) -> tuple[float, Traffic]:
    """Share of right greedy answers over fresh episodes after some updates, and what the last collection sent."""
    policy = Policy(world.spec, PolicyConfig(messages=MessageConfig(rounds) if rounds else None, critic="central"))
    ppo = PpoConfig(lr=1e-2, iterations=20)
    learner = Learner(policy, LearnerConfig({"right": 1.0}, "gae", rollouts=1, gamma=0.0, ppo=ppo), seed=0)
    rows = torch.arange(world.batch)
    for iteration in range(20):
        rollouts = learner.collect(world, rows + iteration * world.batch, torch.zeros_like(rows))
        learner.update([rollouts])
    right = evaluate(policy, world, rows + 10**6, torch.zeros_like(rows))["right"]
    return float(right.mean()), rollouts.traffic


def test_a_message_is_necessary_and_learnt(relay: Callable[..., Any]) -> None:
    world = relay(64, rounds=6)
    told, traffic = learnt_share(world, rounds=1)
    untold, silence = learnt_share(world, rounds=0)
    assert told > 0.95
    # guessing: 384 fair coins, five standard deviations
    assert abs(untold - 0.5) < 5 * 0.5 / 384**0.5
    # the teller speaks to the doer once a step, 16 numbers of 4 bytes; the doer has no listener
    assert traffic == Traffic(64 * 6, 64 * 6, 64 * 6 * 512)
    assert silence == Traffic(0, 0, 0)


def test_an_agent_that_does_not_decide_now_is_heard_through_the_mailbox(relay: Callable[..., Any]) -> None:
    assert learnt_share(relay(64, rounds=6, alternate=True), rounds=1)[0] > 0.95


def test_gradients_flow_from_the_receiver_into_the_sender(relay: Callable[..., Any]) -> None:
    world = relay(4)
    policy = Policy(world.spec, PolicyConfig(messages=MessageConfig(2)))
    with torch.no_grad():
        policy.network("doer").score.weight.fill_(1.0)
    rows = torch.arange(4)
    step = policy(world.spec, world.reset(rows, rows), None, policy.mailbox(world.spec, 4))
    torch.autograd.backward(step.distribution["doer"].log_probs[::2].sum())
    summary = policy.network("teller").summary
    assert summary is not None
    assert summary.weight.grad is not None
    assert float(summary.weight.grad.abs().sum()) > 0
    assert step.traffic == Traffic(8, 8, 8 * 512)


def test_fresh_speakers_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randperm(40 * 5, generator=generator)[:90]
    moment, agent = pairs // 5, pairs % 5
    neighbours = torch.randint(-1, 5, (90, 3), generator=generator)
    where = {(int(m), int(a)): d for d, (m, a) in enumerate(zip(moment, agent, strict=True))}
    slow = [[where.get((int(moment[d]), int(n)), -1) if n >= 0 else -1 for n in neighbours[d]] for d in range(90)]
    assert fresh_speakers(moment, agent, neighbours).tolist() == slow


def test_attention_over_neighbours_equals_a_loop_with_the_null_token() -> None:
    generator = torch.Generator().manual_seed(1)
    messenger = Messenger(MessageConfig(rounds=1, latent=6, heads=2))
    with torch.no_grad():
        for parameter in messenger.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    # agents 1 and 2 have spoken before, 1 speaks again now, 3 never did
    before = torch.randn(2, 1, 6, generator=generator)
    mailbox = Mailbox.empty(1, 4, 6).post(
        torch.tensor([0, 0]), torch.tensor([1, 2]), before, torch.full((2,), 10.0).double()
    )
    summary = torch.randn(2, 6, generator=generator)
    neighbours = torch.tensor([[1, 2, -1], [0, 3, -1]])
    moment, agent = torch.tensor([0, 0]), torch.tensor([0, 1])
    heard = mailbox.heard(moment, neighbours, torch.zeros_like(neighbours), torch.tensor([40.0, 40.0]).double())
    with torch.no_grad():
        told = messenger(summary[:, None], moment, agent, heard)
        context, message = told.context, told.message[:, 0]
        said = torch.tanh(messenger.speak(torch.cat([summary, torch.zeros(2, 6)], 1)))
        np.testing.assert_allclose(message, said, atol=1e-6)
        stale = torch.cat([mailbox.message[0, 2, 0], torch.log1p(torch.tensor([30.0])) / 16])
        fresh = [torch.cat([said[i], torch.zeros(1)]) for i in range(2)]
        audible = [[fresh[1], stale], [fresh[0]]]
        for receiver in range(2):
            query = messenger.query(summary[receiver])
            pairs = [torch.cat(list(messenger.null))] + [messenger.listen(words) for words in audible[receiver]]
            parts = []
            for head in (slice(0, 3), slice(3, 6)):
                keys, values = (torch.stack([p[side : side + 6][head] for p in pairs]) for side in (0, 6))
                weight = (keys @ query[head] / 3**0.5).softmax(0)
                parts.append(weight @ values)
            np.testing.assert_allclose(context[receiver], messenger.merge(torch.cat(parts)), atol=1e-5)
            words = torch.zeros(3, 8)
            for column, one in enumerate(audible[receiver]):
                words[column] = torch.cat([one, torch.ones(1)])
            np.testing.assert_allclose(told.words[receiver], words, atol=1e-6)


def test_nobody_to_hear_is_the_null_token_and_finite(queue: Callable[..., Any]) -> None:
    world = queue(3, jobs=4, agents=1)
    policy = Policy(world.spec, PolicyConfig(messages=MessageConfig(1)))
    rows = torch.arange(3)
    step = policy(world.spec, world.reset(rows, rows), None, policy.mailbox(world.spec, 3))
    assert bool(step.distribution["server"].log_probs.isfinite().all())
    assert step.traffic == Traffic(0, 0, 0)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"heads": 3}, {"heads": 0}])
def test_messages_that_cannot_be_are_refused(wrong: dict[str, int], relay: Callable[..., Any]) -> None:
    with pytest.raises(AgentError, match="at least one round and heads that share the numbers equally"):
        Policy(relay(1).spec, PolicyConfig(messages=MessageConfig(**wrong)))
