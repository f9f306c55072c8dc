"""Who sends, what is heard then, what it costs, and that training recomputes it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from fedsched.agents.calibration import calibrate, recorded_sequences
from fedsched.agents.collect import collect
from fedsched.agents.config import MessageConfig, PolicyConfig, TriggerConfig
from fedsched.agents.decisions import AgentError, Heard, Speech
from fedsched.agents.distribution import RaggedCategorical
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.mailbox import Mailbox, Traffic
from fedsched.agents.messages import GAUSSIAN_LIMIT, Messenger, gaussian_kl, quantise
from fedsched.agents.parameters import parameters_from_numpy, parameters_to_numpy
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import PpoConfig
from fedsched.agents.trigger import uncertainty

STAGES = MessageConfig(rounds=2, latent=8, kl=1e-3, quantised=True, trigger=TriggerConfig(0.5), dropout=0.4)


def audible(world: Any, config: MessageConfig) -> Policy:
    """A policy whose choices depend on what is heard."""
    policy = Policy(world.spec, PolicyConfig(messages=config, critic="central"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "threshold" not in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return policy


@pytest.mark.parametrize(
    "config",
    [
        STAGES,
        replace(STAGES, kl=None),
        replace(STAGES, kl=None, quantised=False),
        replace(STAGES, dropout=0.0, trigger=None),
    ],
)
def test_the_second_pass_equals_the_first(config: MessageConfig, queue: Callable[..., Any]) -> None:
    world = queue(8, jobs=5, agents=3)
    policy = audible(world, config)
    rows, greedy = torch.arange(8), torch.arange(8) % 4 == 0
    taken = collect(policy, world, rows, rows, torch.Generator().manual_seed(0), greedy, rows).taken["server"]
    speech = taken.decisions.speech
    assert speech is not None
    again = policy.judge({"server": taken.decisions}).distribution["server"].log_prob(taken.choice)
    np.testing.assert_allclose(again.detach(), taken.log_prob, atol=1e-5)
    # it is what was stored that makes them equal
    for other in (None, Speech(~speech.sent, speech.noise), Speech(speech.sent, None)):
        if other is not None and other.noise is speech.noise is None and bool(speech.sent.all()):
            continue
        changed = taken.decisions.with_speech(other)
        differs = policy.judge({"server": changed}).distribution["server"].log_prob(taken.choice) - taken.log_prob
        expected = other is None or not torch.equal(other.sent, speech.sent) or speech.noise is not None
        assert bool((differs.abs() > 1e-4).any()) == expected
    still = greedy[taken.decisions.moment % 8]
    assert bool(speech.sent[still].all())
    if config.dropout:
        assert 0.4 < float(speech.sent[~still].float().mean()) < 0.8
    if speech.noise is not None:
        assert not bool(speech.noise[still].any())


def test_training_without_stages_draws_nothing(queue: Callable[..., Any]) -> None:
    world = queue(4, agents=2)
    policy = Policy(world.spec, PolicyConfig())
    rows, no = torch.arange(4), torch.zeros(4, dtype=torch.bool)
    taken = collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows).taken["server"]
    assert taken.decisions.speech is None


def exchanged(speech: Speech | None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts of three agents that hear each other, and the gradient of the first's with respect to all summaries."""
    generator = torch.Generator().manual_seed(seed)
    messenger = Messenger(MessageConfig(latent=6, heads=2))
    with torch.no_grad():
        for parameter in messenger.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    summary = torch.randn(3, 6, generator=generator, requires_grad=True)
    neighbours = torch.tensor([[1, 2], [0, 2], [0, 1]])
    old = torch.randn(3, 2, 6, generator=generator)
    known = torch.tensor([[True, True], [True, False], [True, True]])
    heard = Heard(neighbours, old, torch.full((3, 2), 0.2), known, torch.zeros_like(neighbours))
    told = messenger(summary[:, None], torch.zeros(3, dtype=torch.int64), torch.arange(3), heard, speech)
    (gradient,) = torch.autograd.grad(told.context[0].sum(), summary)
    return told.context.detach(), gradient


def test_a_silent_agent_is_heard_with_what_it_said_before() -> None:
    everybody, gradient = exchanged(None)
    assert bool((gradient.abs().sum(1) > 0).all())
    same, _ = exchanged(Speech(torch.ones(3, 1, dtype=torch.bool)))
    assert torch.equal(everybody, same)
    without_1, gradient = exchanged(Speech(torch.tensor([[True], [False], [True]])))
    # agent 1 itself hears the others as before; the others hear its old message, and nothing flows back to it
    np.testing.assert_allclose(without_1[1], everybody[1], atol=1e-6)
    assert bool((without_1[[0, 2]] - everybody[[0, 2]]).abs().sum(1).gt(1e-3).all())
    assert not bool(gradient[1].any())
    assert bool(gradient[2].any())


def test_if_nobody_sends_only_the_mailbox_is_heard(queue: Callable[..., Any]) -> None:
    world = queue(3, jobs=4, agents=3)
    policy = audible(world, STAGES)
    rows = torch.arange(3)
    observation = world.reset(rows, rows)
    mailbox = policy.mailbox(world.spec, 3).post(
        rows, rows, torch.rand(3, 1, 8, generator=torch.Generator().manual_seed(2)), torch.zeros(3).double()
    )
    silent = policy(world.spec, observation, None, mailbox, policy.use("random", share=0.0))
    gathered = {name: part.decisions for name, part in policy.gather(world.spec, observation, mailbox).items()}
    quiet = policy.quiet(gathered).distribution["server"].log_probs
    assert torch.equal(silent.distribution["server"].log_probs, quiet)
    assert torch.equal(silent.mailbox.message, mailbox.message)
    assert silent.mailbox.silent.tolist() == [[[1], [1], [1]]] * 3
    loud = policy(world.spec, observation, None, mailbox, policy.use("always"))
    assert not torch.allclose(loud.distribution["server"].log_probs, quiet)
    assert not bool(loud.mailbox.silent.any())


def test_bits_by_hand(queue: Callable[..., Any]) -> None:
    """Three agents in four worlds hear each other in two rounds: 4 * 3 * 2 * 2 = 48 possible messages of 8 numbers."""
    world = queue(4, jobs=4, agents=3)
    rows = torch.arange(4)

    def traffic(config: MessageConfig, how: Any, share: float | None = None) -> Traffic:
        policy = Policy(world.spec, PolicyConfig(messages=config))
        mailbox = policy.mailbox(world.spec, 4)
        return policy(world.spec, world.reset(rows, rows), None, mailbox, policy.use(how, share)).traffic

    assert traffic(replace(STAGES, quantised=False), "always") == Traffic(48, 48, 48 * 8 * 32)
    assert traffic(STAGES, "always") == Traffic(48, 48, 48 * 8 * 8)
    # a bit for each possible message
    assert traffic(STAGES, "random", 0.0) == Traffic(0, 48, 48)
    # everybody speaks at first: a bit for each, and one from each of 12 decisions to the two that it hears
    first = traffic(STAGES, "uncertain")
    assert first == Traffic(48, 48, 48 * 64 + 48 + 24)
    assert first.payload_bytes == 48 * 8 + 9
    assert (first + Traffic(0, 48, 3)).payload_bytes == 48 * 8 + 10
    assert (first + Traffic(0, 48, 3)).share == 0.5


def test_messages_in_training_are_counted_as_floats(queue: Callable[..., Any]) -> None:
    world = queue(4, jobs=1, agents=3)
    policy = Policy(world.spec, PolicyConfig(messages=replace(STAGES, dropout=0.0)))
    rows, no = torch.arange(4), torch.zeros(4, dtype=torch.bool)
    rollouts = collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows)
    assert rollouts.traffic == Traffic(48, 48, 48 * 8 * 32)


def test_each_round_has_noise_of_its_own() -> None:
    """The last message holds the noise of the last round itself, and of the first what it changed in others."""
    generator = torch.Generator().manual_seed(0)
    messenger = Messenger(MessageConfig(rounds=2, latent=6, quantised=True))
    summary, none = torch.randn(2, 1, 6, generator=generator), torch.zeros(2, 1, dtype=torch.int64)
    heard = Heard(1 - torch.arange(2)[:, None], torch.zeros(2, 1, 6), none.float(), none.bool(), none)

    def said(*noise: float) -> torch.Tensor:
        table = torch.tensor(noise)[None, :, None].expand(2, 2, 6)
        speech = Speech(torch.ones(2, 1, dtype=torch.bool), table)
        return messenger(summary, torch.zeros(2, dtype=torch.int64), torch.arange(2), heard, speech).message.detach()

    np.testing.assert_allclose(said(0.0, 0.5) - said(0.0, 0.0), torch.full((2, 1, 6), 0.5 / 127), atol=1e-6)
    first = (said(0.5, 0.0) - said(0.0, 0.0)).abs()
    assert bool(first.any())
    assert float(first.max()) < 0.5 / 127


def test_rounding_to_int8_errs_by_half_a_step_at_most() -> None:
    numbers = torch.linspace(-1, 1, 10_001)
    sent = quantise(numbers, 1 / 127)
    assert float((sent - numbers).abs().max()) <= 0.5 / 127 + 1e-7
    assert len(sent.unique()) == 255
    assert float(quantise(torch.tensor([7.0]), 1 / 127)) == pytest.approx(1.0)


def test_quantised_messages_in_use_are_whole_steps(queue: Callable[..., Any]) -> None:
    world = queue(3, agents=2)
    policy = audible(world, STAGES)
    rows = torch.arange(3)
    said = policy(world.spec, world.reset(rows, rows), None, policy.mailbox(world.spec, 3)).mailbox.message
    steps = said / (GAUSSIAN_LIMIT / 127)
    np.testing.assert_allclose(steps, steps.round(), atol=1e-4)
    assert bool(said.any())


def test_the_nats_of_a_message_equal_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 50, 6, generator=generator)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros(6), torch.ones(6))
    expected = torch.distributions.kl_divergence(normal, prior).sum(1)
    np.testing.assert_allclose(gaussian_kl(mean, log_variance), expected, rtol=1e-5)


def test_only_messages_heard_at_once_cost_nats(relay: Callable[..., Any]) -> None:
    for alternate, count in ((False, 4), (True, 0)):
        world = relay(4, alternate=alternate)
        policy = Policy(world.spec, PolicyConfig(messages=MessageConfig(kl=1e-2)))
        rows = torch.arange(4)
        step = policy(world.spec, world.reset(rows, rows), None, policy.mailbox(world.spec, 4))
        nats = policy.judge(step.decisions).message_kl
        assert nats is not None
        assert nats.shape == (count,)


def test_a_charge_for_information_makes_messages_tell_less(relay: Callable[..., Any]) -> None:
    world, found = relay(4), {}
    for weight in (1e-6, 1.0):
        policy = Policy(world.spec, PolicyConfig(messages=MessageConfig(kl=weight), critic="central"))
        learner = Learner(policy, LearnerConfig({"right": 1.0}, "gae", rollouts=1, gamma=0.0, ppo=FAST), seed=0)
        rows = torch.arange(4)
        found[weight] = [learner.update([learner.collect(world, rows, rows)]).message_kl for _ in range(8)]
    assert found[1.0][-1] < found[1.0][0] - 2
    assert found[1.0][-1] < found[1e-6][-1] - 2


FAST = PpoConfig(lr=1e-2, iterations=20)


def test_who_decides_now_tells_how_uncertain_it_is_before_others_send(queue: Callable[..., Any]) -> None:
    """News of distance 1 is sent where 0.75 is needed, and not where twice that is, because nobody is uncertain."""
    world = queue(3, jobs=4, agents=3)
    policy = audible(world, replace(STAGES, rounds=1))
    rows = torch.arange(3)
    seen = world.reset(rows, rows)
    said = policy(world.spec, seen, None, policy.mailbox(world.spec, 3)).mailbox
    mailbox = replace(said, message=said.message + 8**-0.5, unsure=torch.ones(3, 3))
    assert policy.trigger is not None
    for least, messages in ((0.999, 0), (0.0, 18)):
        policy.trigger.threshold.data = torch.tensor([least, 0.75])
        assert policy(world.spec, seen, None, mailbox).traffic.messages == messages


def test_what_is_recorded_counts_once_for_each_listener(queue: Callable[..., Any]) -> None:
    """Agent 0 is heard by both others, agent 1 by one, agent 2 by nobody."""
    world = queue(4, jobs=3, agents=3)
    world.spec = replace(world.spec, neighbours=np.array([[1], [0], [0]]))
    policy = audible(world, STAGES)
    rows, greedy = torch.arange(4), torch.arange(4) == 3
    recorded = recorded_sequences(policy, collect(policy, world, rows, rows, torch.Generator(), greedy, rows))
    assert recorded is not None
    assert recorded.live.sum(1).tolist() == [3] * 6  # of three rows, the greedy one left out
    assert recorded.weight.tolist() == [[2.0] * 3, [1.0] * 3] * 3


def test_what_is_recorded_is_how_uncertain_the_listener_was_when_it_last_decided(relay: Callable[..., Any]) -> None:
    """The doer, who hears the teller, decides one second after it: it counts from the teller's next decision on."""
    world = relay(4, rounds=5, alternate=True)
    policy = audible(world, STAGES)
    rows, no = torch.arange(4), torch.zeros(4, dtype=torch.bool)
    rollouts = collect(policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows)
    recorded = recorded_sequences(policy, rollouts)
    assert recorded is not None
    doer = policy.quiet({name: part.decisions for name, part in rollouts.taken.items()}).distribution["doer"]
    unsure = uncertainty(doer, "entropy").detach().reshape(5, 4).T
    assert 0.01 < float(unsure.min()) < float(unsure.max()) < 0.99
    np.testing.assert_allclose(recorded.uncertainty, torch.cat([torch.ones(4, 1), unsure[:, :4]], 1), atol=1e-6)


def test_the_calibrated_trigger_comes_nearer_to_always_than_chance_at_equal_rate(relay: Callable[..., Any]) -> None:
    """The side changes every other time: who tells changes is understood better than who tells at random."""
    world = relay(32, rounds=40)
    policy = audible(world, replace(STAGES, rounds=1, trigger=TriggerConfig(0.65, timeout=50)))
    rows, no = torch.arange(32), torch.zeros(32, dtype=torch.bool)
    recorded = recorded_sequences(policy, collect(policy, world, rows, rows, torch.Generator(), no, rows))
    assert policy.trigger is not None
    assert recorded is not None
    assert 0.5 < calibrate(policy.trigger, recorded) <= 0.65
    told: dict[str, list[torch.Tensor]] = {}
    traffic: dict[str, Traffic] = {}
    ways: tuple[Literal["always", "uncertain", "random"], ...] = ("always", "uncertain", "random")
    for how in ways:
        share = traffic["uncertain"].share if traffic.get("uncertain") else None
        sending = policy.use(how, share)
        observation, mailbox = world.reset(rows + 10**6, rows), policy.mailbox(world.spec, 32)
        told[how], traffic[how] = [], Traffic()
        for _ in range(40):
            step = policy(world.spec, observation, None, mailbox, sending)
            mailbox, traffic[how] = step.mailbox, traffic[how] + step.traffic
            choice = step.distribution["doer"]
            assert isinstance(choice, RaggedCategorical)
            told[how].append(choice.log_probs.detach())
            observation = world.step({"teller": rows[:, None] * 0, "doer": rows[:, None] * 0}).observation
    error = {how: float((torch.cat(said) - torch.cat(told["always"])).abs().mean()) for how, said in told.items()}
    assert 0.4 < traffic["uncertain"].share < 0.7
    assert traffic["random"].share == pytest.approx(traffic["uncertain"].share, abs=0.05)
    assert 0 < error["uncertain"] < 0.5 * error["random"]


def test_silence_ends_after_the_timeout(queue: Callable[..., Any]) -> None:
    world = queue(2, jobs=9, agents=2)
    policy = audible(world, replace(STAGES, trigger=TriggerConfig(timeout=3)))
    assert policy.trigger is not None
    with torch.no_grad():
        policy.trigger.threshold.fill_(1e9)
    rows, mailbox, sent = torch.arange(2), policy.mailbox(world.spec, 2), []
    observation = world.reset(rows, rows)
    for _ in range(9):
        step = policy(world.spec, observation, None, mailbox)
        mailbox = step.mailbox
        sent.append(step.traffic.share)
        observation = world.step(step.actions({"server": step.distribution["server"].mode()}, idle(world))).observation
    assert sent == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def idle(world: Any) -> dict[str, torch.Tensor]:
    return {"server": torch.full((world.batch, 2), world.slots)}


def test_thresholds_travel_with_the_parameters(relay: Callable[..., Any]) -> None:
    world = relay(4)
    first, second = (Policy(world.spec, PolicyConfig(messages=STAGES)) for _ in range(2))
    assert first.trigger is not None
    assert second.trigger is not None
    with torch.no_grad():
        first.trigger.threshold.copy_(torch.tensor([0.25, 1.5]))
    parameters_from_numpy(second, parameters_to_numpy(first))
    assert second.trigger.threshold.tolist() == [0.25, 1.5]


def test_use_is_as_configured_and_unknown_ways_say_what_is_missing(relay: Callable[..., Any]) -> None:
    spec = relay(1).spec
    plain, triggered = (Policy(spec, PolicyConfig(messages=m)) for m in (MessageConfig(), STAGES))
    assert not plain.use().masked
    assert triggered.use().masked
    with pytest.raises(AgentError, match=r"no trigger: set messages\.trigger"):
        plain.use("uncertain")
    for share in (None, 1.5):
        with pytest.raises(AgentError, match="from 0 to 1"):
            plain.use("random", share)


def test_posting_keeps_what_was_not_sent_and_counts_silence() -> None:
    one, both = torch.tensor([0, 0]), torch.tensor([0, 1])
    clock = torch.tensor([5.0, 5.0]).double()
    first = Mailbox.empty(1, 2, 3, addresses=2).post(one, both, torch.ones(2, 2, 3), clock)
    sent = torch.tensor([[True, False], [False, False]])
    second = first.post(one, both, torch.full((2, 2, 3), 2.0), clock + 7, sent)
    assert second.message[0, :, :, 0].tolist() == [[2.0, 1.0], [1.0, 1.0]]
    assert second.sent_s.tolist() == [[[12.0, 5.0], [5.0, 5.0]]]
    assert second.silent.tolist() == [[[0, 1], [1, 1]]]
