"""Messages of their own for each neighbour, about what is handed on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import collect, evaluate
from fedsched.agents.config import EncoderConfig, MessageConfig, PolicyConfig, TriggerConfig
from fedsched.agents.decisions import AgentError, Speech, concatenate
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.mailbox import Traffic
from fedsched.agents.messages import Understood
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import PpoConfig

STAGES = MessageConfig(latent=8, kl=1e-3, quantised=True, trigger=TriggerConfig(0.5), dropout=0.4)


def moved(world: Any, **config: Any) -> Policy:
    """A policy away from its start, where nothing that is heard matters."""
    policy = Policy(world.spec, PolicyConfig(**config))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "threshold" not in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return policy


def learnt_share(world: Any, **config: Any) -> float:
    """Share of right greedy choices over fresh episodes after some updates; 0.5 is chance."""
    policy = Policy(world.spec, PolicyConfig(messages=MessageConfig(), critic="independent", **config))
    ppo = PpoConfig(lr=1e-2, iterations=25)
    learner = Learner(policy, LearnerConfig({"right": 1.0}, "gae", rollouts=1, gamma=0.0, ppo=ppo), seed=0)
    rows = torch.arange(world.batch)
    for update in range(25):
        learner.update([learner.collect(world, rows + update * world.batch, torch.zeros_like(rows))])
    return float(evaluate(policy, world, rows + 10**6, torch.zeros_like(rows))["right"].mean())


@pytest.mark.parametrize(
    "config",
    [{}, {"encoder": EncoderConfig("attention")}, {"encoder": EncoderConfig(scoring="dot")}, {"sharing": "agent"}],
)
def test_what_is_handed_on_is_told_to_whom_it_concerns(config: dict[str, Any], handover: Callable[..., Any]) -> None:
    assert learnt_share(handover(64), **config) > 0.9


def test_the_same_for_everybody_tells_nobody_anything(handover: Callable[..., Any]) -> None:
    """512 choices between rows that look alike: chance, within five standard deviations."""
    assert abs(learnt_share(handover(64, flow=False)) - 0.5) < 5 * 0.5 / 512**0.5


def test_a_message_is_about_what_goes_to_its_address(handover: Callable[..., Any]) -> None:
    world = handover(2)
    policy = moved(world, messages=MessageConfig(latent=8))
    rows = torch.arange(2)
    observation = world.reset(rows, rows)

    def said() -> torch.Tensor:
        return policy(world.spec, observation, None, policy.mailbox(world.spec, 2)).mailbox.message

    before = said()
    assert before.shape == (2, 4, 3, 8)
    # sender 1 hears receiver 1 in column 0: its address 1 is his
    observation.kinds["post"].entities[:, 1, 1, 0] += 1.0
    changed = (said() - before).abs().amax(3) > 1e-4
    assert changed[:, 1, 1].all()
    assert not changed[:, 1, 2].any()
    assert not changed[:, [0, 2, 3]].any()


def test_a_message_is_also_about_what_comes_from_its_address(handover: Callable[..., Any]) -> None:
    world = handover(2)
    policy = moved(world, messages=MessageConfig(latent=8))
    summary = policy.network("post").summary
    assert summary is not None
    with torch.no_grad():
        summary.weight.zero_()  # nothing is said on the whole
    rows = torch.arange(2)
    observation = world.reset(rows, rows)

    def said() -> torch.Tensor:
        return policy(world.spec, observation, None, policy.mailbox(world.spec, 2)).mailbox.message

    before = said()
    # receiver 0 hears sender 1 in column 0, and its lot 1 comes from there
    observation.kinds["post"].entities[:, 2, 1, 0] += 1.0
    changed = (said() - before).abs().amax(3) > 1e-4
    assert changed[:, 2, 1].all()
    assert changed.sum() == 2


def test_a_row_holds_what_is_said_by_where_its_entity_comes_from_and_goes_to(handover: Callable[..., Any]) -> None:
    """Of senders rows are about lots that go to a neighbour, of receivers about lots that come from one."""
    world = handover(1)
    policy = moved(world, messages=MessageConfig(latent=8))
    rows = torch.arange(1)
    seen = world.reset(rows, rows)
    decisions = policy.gather(world.spec, seen, policy.mailbox(world.spec, 1))["post"].decisions
    generator = torch.Generator().manual_seed(5)
    words = torch.randn(4, 2, 10, generator=generator)

    def held(words: torch.Tensor) -> torch.Tensor:
        return policy.network("post").with_words(decisions, Understood(torch.zeros(4, 8), words)).rows

    moved_rows = []
    for agent, column in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)):
        other = words.clone()
        other[agent, column] += 1.0
        moved_rows.append((held(other) - held(words)).abs().amax(1).gt(1e-4).nonzero().flatten().tolist())
    # rows: lot 0 of either sender (the other is no choice), both lots of either receiver; who is heard first: r0, r1,
    # s1, s0
    assert moved_rows == [[0], [], [], [1], [3], [2], [4], [5]]


def test_words_reach_the_rows_of_the_entities_that_they_are_about(handover: Callable[..., Any]) -> None:
    """Scores of a receiver's rows change with the worth of the lot itself, and both rows with nothing else."""
    world = handover(1)
    policy = moved(world, messages=MessageConfig(latent=8))
    with torch.no_grad():
        assert policy.messenger is not None
        for parameter in policy.messenger.merge.parameters():
            parameter.zero_()  # nothing is understood on the whole
    rows = torch.arange(1)
    observation = world.reset(rows, rows)

    def differences() -> list[float]:
        step = policy(world.spec, observation, None, policy.mailbox(world.spec, 1))
        log_probs = step.distribution["post"].log_probs.detach()  # rows of s0, s1, and two of either receiver
        return [float(log_probs[2] - log_probs[3]), float(log_probs[4] - log_probs[5])]

    before = differences()
    observation.kinds["post"].entities[:, 1, 1, 0] += 1.0  # of the lot from sender 1 to receiver 1
    after = differences()
    assert after[0] == pytest.approx(before[0], abs=1e-5)
    assert abs(after[1] - before[1]) > 1e-3


@pytest.mark.parametrize("config", [STAGES, replace(STAGES, rounds=2), replace(STAGES, kl=None, quantised=False)])
def test_the_second_pass_equals_the_first(config: MessageConfig, handover: Callable[..., Any]) -> None:
    world = handover(6)
    policy = moved(world, messages=config)
    rows, no = torch.arange(6), torch.zeros(6, dtype=torch.bool)
    taken = collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows).taken["post"]
    assert taken.decisions.speech is not None
    assert taken.decisions.speech.sent.shape == (6 * 4 * 4, 3)
    # minibatches are judged in any order
    order = torch.randperm(len(taken.decisions), generator=torch.Generator().manual_seed(1))
    again = policy.judge({"post": taken.decisions.select(order)}).distribution["post"].log_prob(taken.choice[order])
    np.testing.assert_allclose(again.detach(), taken.log_prob[order], atol=1e-5)


def test_each_address_is_sent_to_on_its_own(handover: Callable[..., Any]) -> None:
    """4 messages in each direction; a bit for each, and one for who is unsure."""
    world = handover(1)
    rows = torch.arange(1)
    policy = moved(world, messages=STAGES)
    trigger = policy.trigger
    assert trigger is not None
    first = policy(world.spec, world.reset(rows, rows), None, policy.mailbox(world.spec, 1))
    assert first.traffic == Traffic(8, 8, 8 * 8 * 8 + 8 + 8)
    with torch.no_grad():
        trigger.threshold.copy_(torch.tensor([0.0, 1e-3]))
    observation = world.reset(rows, rows)
    still = policy(world.spec, observation, None, first.mailbox)
    assert still.traffic.messages == 0
    observation.kinds["post"].entities[:, 1, 1, 0] += 1.0
    news = policy(world.spec, observation, None, first.mailbox)
    assert news.traffic == Traffic(1, 8, 64 + 16)
    assert (news.mailbox.silent[0] == 0).nonzero().tolist() == [[1, 1]]


def test_agents_with_more_neighbours_learn_with_those_that_have_fewer() -> None:
    few, many = Speech(torch.ones(2, 2, dtype=torch.bool)), Speech(torch.ones(3, 4, dtype=torch.bool))
    both = Speech.concatenate([few, many])
    assert both is not None
    assert both.sent.tolist() == [[True, True, False, False]] * 2 + [[True] * 4] * 3


def test_decisions_of_two_worlds_are_judged_together_as_apart(handover: Callable[..., Any]) -> None:
    world = handover(3)
    policy = moved(world, messages=MessageConfig(latent=8))
    rows = torch.arange(3)
    parts = []
    for seed in (0, 7):
        gathered = policy.gather(world.spec, world.reset(rows, rows + seed), policy.mailbox(world.spec, 3))
        parts.append(gathered["post"].decisions)
    apart = torch.cat([policy.judge({"post": part}).distribution["post"].log_probs for part in parts])
    joined = policy.judge({"post": concatenate(parts, (0, 3))}).distribution["post"].log_probs
    np.testing.assert_allclose(joined.detach(), apart.detach(), atol=1e-6)


@pytest.mark.parametrize("width", [0, 1])
def test_who_has_no_neighbours_tells_nobody(width: int, handover: Callable[..., Any]) -> None:
    """As a city with a single signal."""
    world = handover(2)
    world.spec = replace(world.spec, neighbours=np.full((4, width), -1))
    policy = moved(world, messages=STAGES)
    rows = torch.arange(2)
    step = policy(world.spec, world.reset(rows, rows), None, policy.mailbox(world.spec, 2))
    assert step.traffic == Traffic()
    assert step.distribution["post"].log_probs.isfinite().all()


def test_where_nobody_has_to_decide_nothing_is_told(handover: Callable[..., Any]) -> None:
    world = handover(2)
    policy = moved(world, messages=STAGES)
    rows = torch.arange(2)
    seen = world.reset(rows, rows)
    nobody = replace(seen.kinds["post"], active=torch.zeros(2, 4, dtype=torch.bool))
    step = policy(world.spec, replace(seen, kinds={"post": nobody}), None, policy.mailbox(world.spec, 2))
    assert step.traffic == Traffic()
    assert step.distribution["post"].decisions == 0


@pytest.mark.parametrize("sharing", ["kind", "agent", "all"])
def test_who_sees_no_entities_talks_with_those_who_do(sharing: Any, clerk: Callable[..., Any]) -> None:
    world = clerk(3)
    policy = moved(world, messages=STAGES, sharing=sharing)
    rows, no = torch.arange(3), torch.zeros(3, dtype=torch.bool)
    taken = collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows).taken
    again = policy.judge({name: part.decisions for name, part in taken.items()}).distribution
    for name, part in taken.items():
        np.testing.assert_allclose(again[name].log_prob(part.choice).detach(), part.log_prob, atol=1e-5)
    with_all = policy(world.spec, world.reset(rows, rows), None, policy.mailbox(world.spec, 3))
    assert with_all.mailbox.message.shape == (3, 5, 4, 8)
    assert with_all.traffic.messages == 3 * 12


def test_kinds_with_unlike_numbers_of_neighbours_are_judged_together(clerk: Callable[..., Any], handover: Any) -> None:
    """A world may lack kinds; those it has may have more neighbours than those it lacks."""
    with_clerk, without = clerk(2), handover(2)
    without.spec = replace(
        without.spec, neighbours=np.pad(without.spec.neighbours, ((0, 0), (0, 2)), constant_values=-1)
    )
    policy = moved(with_clerk, messages=MessageConfig(latent=8))
    rows = torch.arange(2)
    first, second = (
        {name: part.decisions for name, part in found.items()}
        for found in (
            policy.gather(world.spec, world.reset(rows, rows), policy.mailbox(world.spec, 2))
            for world in (with_clerk, without)
        )
    )
    together = {"clerk": first["clerk"], "post": concatenate([first["post"], second["post"]], (0, 2))}
    found, apart = policy.judge(together).distribution, policy.judge(first).distribution
    posts = torch.cat([apart["post"].log_probs, policy.judge(second).distribution["post"].log_probs])
    np.testing.assert_allclose(found["post"].log_probs.detach(), posts.detach(), atol=1e-6)
    np.testing.assert_allclose(found["clerk"].log_probs.detach(), apart["clerk"].log_probs.detach(), atol=1e-6)


def test_a_world_of_the_other_sort_is_refused(handover: Callable[..., Any]) -> None:
    for flows, message in ((True, "but nothing flows"), (False, "but entities flow")):
        policy = Policy(handover(1, flow=flows).spec, PolicyConfig())
        other = handover(1, flow=not flows)
        rows = torch.arange(1)
        mailbox = Policy(other.spec, PolicyConfig()).mailbox(other.spec, 1)
        with pytest.raises(AgentError, match=f"handover: the policy says .* {message} from agent to agent"):
            policy(other.spec, other.reset(rows, rows), None, mailbox)
