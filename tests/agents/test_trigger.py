import math

import numpy as np
import pytest
import torch

from fedsched.agents.calibration import (
    Sequences,
    calibrate,
    concatenate_sequences,
    played_share,
    sequences,
    upper_quantile,
)
from fedsched.agents.config import Measure, TriggerConfig
from fedsched.agents.distribution import RaggedCategorical
from fedsched.agents.mailbox import most_among_listeners
from fedsched.agents.segments import segment_of
from fedsched.agents.trigger import PATIENCE, Trigger, uncertainty
from fedsched.envs.core.addresses import find_addresses


@pytest.mark.parametrize(
    ("measure", "uneven"), [("entropy", -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)), ("gap", 0.5)]
)
def test_uncertainty_by_hand(measure: Measure, uneven: float) -> None:
    """Of an even choice, of one action, of 3 : 1 and of four even ones."""
    probability = torch.tensor([0.5, 0.5, 1.0, 0.75, 0.25, *[0.25] * 4])
    pointers = torch.tensor([0, 2, 3, 5, 9])
    choice = RaggedCategorical(probability.log(), pointers, segment_of(pointers))
    np.testing.assert_allclose(uncertainty(choice, measure), [1.0, 0.0, uneven, 1.0], atol=1e-6)


def test_the_most_uncertain_listener_counts() -> None:
    # agent 0 hears 1 and 2, agent 1 hears 2, agent 2 hears nobody
    addresses = find_addresses((), np.array([[1, 2], [2, -1], [-1, -1]]))
    values = torch.tensor([[0.3, 0.5, 0.9], [0.6, 0.1, 0.9]])
    most = most_among_listeners(values, addresses)
    np.testing.assert_allclose(most[:, :, 0], [[0.0, 0.3, 0.5], [0.0, 0.6, 0.6]])


def random_walks(agents: int = 12, steps: int = 60, seed: int = 0) -> Sequences:
    """Messages that drift, uncertainties that jump, of agents that decide unlike often."""
    generator = torch.Generator().manual_seed(seed)
    message = torch.randn(agents, steps, 4, generator=generator).cumsum(1) * 0.2
    live = torch.arange(steps) < torch.randint(steps // 2, steps + 1, (agents, 1), generator=generator)
    weight = torch.randint(0, 4, (agents, 1), generator=generator) * live.float()
    return Sequences(message, torch.rand(agents, steps, generator=generator), weight, live)


def slow_share(walks: Sequences, least: float, distance: float, timeout: int) -> float:
    sent = total = 0.0
    for agent in range(walks.live.shape[0]):
        last, silent = None, 0
        for step in range(walks.live.shape[1]):
            if not walks.live[agent, step]:
                continue
            offer, weight = walks.message[agent, step], float(walks.weight[agent, step])
            needed = distance if walks.uncertainty[agent, step] >= least else PATIENCE * distance
            sends = last is None or silent >= timeout or float((offer - last).norm()) >= needed
            last, silent = (offer, 0) if sends else (last, silent + 1)
            sent, total = sent + weight * sends, total + weight
    return sent / total


@pytest.mark.parametrize("timeout", [3, 1000])
def test_the_rule_played_along_sequences_equals_a_loop(timeout: int) -> None:
    walks = random_walks()
    candidates = torch.tensor([[0.0, 0.0], [0.5, 0.4], [0.9, 0.4], [1.1, 0.6], [0.5, 100.0]])
    slow = [slow_share(walks, float(c[0]), float(c[1]), timeout) for c in candidates]
    np.testing.assert_allclose(played_share(walks, candidates, timeout), slow, atol=1e-6)
    assert slow[0] == 1.0
    assert slow[1] > slow[2] > slow[3] >= slow[4]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 1.0])
def test_calibration_meets_the_share_along_the_recorded_sequences(share: float) -> None:
    walks = random_walks(agents=40, steps=100)
    trigger = Trigger(TriggerConfig(share=share, timeout=30))
    claimed = calibrate(trigger, walks)
    least, distance = map(float, trigger.threshold)
    assert claimed == pytest.approx(slow_share(walks, least, distance, 30), abs=1e-6)
    assert share - 0.02 < claimed <= share
    counted = walks.live & (walks.weight > 0)
    asked = walks.weight[counted & (walks.uncertainty >= least)].sum() / walks.weight.sum()
    assert float(asked) == pytest.approx(0.5, abs=0.01)


def test_the_quantile_of_ties() -> None:
    values, weights = torch.tensor([0.0, 0.0, 0.0, 0.4, 0.9]), torch.tensor([1.0, 1.0, 1.0, 2.0, 1.0])
    # from 0.4 on lies half of the weight, from 0.9 on a sixth; from the greatest on lies never nothing
    found = [float(upper_quantile(values, weights, share)) for share in (1.0, 0.6, 0.5, 0.4, 0.1)]
    np.testing.assert_allclose(found, [0.0, 0.4, 0.4, 0.9, 0.9])


def test_a_share_below_that_of_the_timeouts_sends_these_alone() -> None:
    walks = random_walks(agents=1, steps=60)
    walks = Sequences(walks.message, walks.uncertainty, torch.ones(1, 60), torch.ones(1, 60, dtype=torch.bool))
    trigger = Trigger(TriggerConfig(share=0.01, timeout=5))
    # the first, and then every sixth
    assert calibrate(trigger, walks) == pytest.approx(10 / 60)


def test_small_steps_average_over_calls() -> None:
    trigger, other = Trigger(TriggerConfig()), Trigger(TriggerConfig())
    for seed, step in ((1, 1.0), (2, 0.5)):
        calibrate(trigger, random_walks(seed=seed), step)
    expected = []
    for seed in (1, 2):
        calibrate(other, random_walks(seed=seed))
        expected.append(other.threshold.clone())
    np.testing.assert_allclose(trigger.threshold, torch.stack(expected).mean(0), rtol=1e-6)


def test_calibration_without_a_possible_message_changes_nothing() -> None:
    walks = random_walks()
    trigger = Trigger(TriggerConfig())
    assert calibrate(trigger, Sequences(walks.message, walks.uncertainty, walks.weight * 0, walks.live)) == 0.0
    assert trigger.threshold.tolist() == [0.0, 0.0]


def test_decisions_become_sequences_in_the_order_of_their_moments() -> None:
    key, moment = torch.tensor([7, 3, 7, 3, 3]), torch.tensor([5, 2, 1, 9, 4])
    label = torch.arange(5.0)
    found = sequences(key, moment, label[:, None], label, torch.ones(5))
    assert found.uncertainty.tolist() == [[1.0, 4.0, 3.0], [2.0, 0.0, 0.0]]
    assert found.live.tolist() == [[True, True, True], [True, True, False]]
    assert found.message[..., 0].tolist() == found.uncertainty.tolist()
    longer = concatenate_sequences([found, sequences(key * 0, moment, label[:, None], label, torch.ones(5))])
    assert longer.uncertainty.tolist() == [[1.0, 4.0, 3.0, 0, 0], [2.0, 0.0, 0, 0, 0], [2.0, 1.0, 4.0, 0.0, 3.0]]
    assert longer.live.sum().item() == 10


def test_thresholds_are_parameters_that_no_gradient_moves() -> None:
    trigger = Trigger(TriggerConfig())
    assert [name for name, _ in trigger.named_parameters()] == ["threshold"]
    assert not trigger.threshold.requires_grad
