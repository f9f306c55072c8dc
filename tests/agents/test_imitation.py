"""Imitation: what the teacher says is learnt, in the states that the policy gets into."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import evaluate, idle_actions
from fedsched.agents.config import EncoderConfig, PolicyConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.imitation import Demonstration, ImitationConfig, Imitator, agreement, demonstrate, labels
from fedsched.agents.network import SoftRule
from fedsched.agents.parameters import parameters_to_numpy
from fedsched.agents.policy import Policy
from fedsched.envs.core import Observation, Reads, World


class ShortestFirst:
    """The optimum of the queue world, from what its servers see."""

    name = "shortest-first"
    reads: Reads = "observation"

    def __init__(self) -> None:
        self.bound = 0

    def reset(self, world: World) -> None:
        self.bound = world.batch

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        tokens = observation.kinds["server"]
        size = tokens.entities[..., 0].masked_fill(~tokens.action_mask[:, :, :-1], torch.inf)
        return {"server": size.argmin(2).masked_fill(~tokens.active, size.shape[2])}


class Longest(ShortestFirst):
    name = "longest"

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        tokens = observation.kinds["server"]
        size = tokens.entities[..., 0].masked_fill(~tokens.action_mask[:, :, :-1], -torch.inf)
        return {"server": size.argmax(2).masked_fill(~tokens.active, size.shape[2])}


def fresh(world: Any, kind: Any = "pointwise") -> Policy:
    wrong = SoftRule({"size": 2.0})
    return Policy(world.spec, PolicyConfig(encoder=EncoderConfig(kind)), {"server": wrong}, seed=0)


def lesson(pupil: Imitator, world: Any, number: int) -> Demonstration:
    rows = torch.arange(world.batch) + number * world.batch
    return pupil.collect(world, ShortestFirst(), rows, torch.zeros_like(rows))


def teach(pupil: Imitator, world: Any, numbers: range) -> None:
    for number in numbers:
        pupil.update([lesson(pupil, world, number)])


@pytest.mark.parametrize("kind", ["pointwise", "attention"])
@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_the_teachers_decisions_are_learnt(kind: Any, decay: float, queue: Callable[..., Any]) -> None:
    world = queue(32, jobs=5, agents=2)
    pupil = Imitator(fresh(world, kind), ImitationConfig(updates=4, decay=decay, lr=1e-2, epochs=6, minibatch=128), 0)
    rows = torch.arange(32) + 10**6
    before = agreement(pupil.policy, world, ShortestFirst(), rows, rows)
    teach(pupil, world, range(4))
    after = agreement(pupil.policy, world, ShortestFirst(), rows, rows)
    assert before < 0.4
    assert after > 0.97
    assert pupil.done
    cost = evaluate(pupil.policy, world, rows, rows)["wait"] / world.optimum()
    assert float(cost.mean()) < 1.01


def test_the_teacher_drives_less_and_less_and_labels_every_state(queue: Callable[..., Any]) -> None:
    """While the teacher drives alone the episodes are its own; all decisions carry its labels, whoever drove."""
    world = queue(16, jobs=5, agents=2)
    rows = torch.arange(16)
    policy, generator = fresh(world), torch.Generator().manual_seed(0)

    def play(share: float) -> Demonstration:
        return demonstrate(policy, world, ShortestFirst(), rows, rows, share, generator)

    taught, half, alone = play(1.0), play(0.5), play(0.0)
    optimum = world.optimum()
    torch.testing.assert_close(taught.metrics["wait"], optimum, rtol=1e-5, atol=1e-5)
    assert float(optimum.mean()) < float(half.metrics["wait"].mean()) < float(alone.metrics["wait"].mean())
    for one in (taught, half, alone):
        part = one.labelled["server"]
        pointers, size = part.decisions.pointers, part.decisions.rows[:, 0]
        assert len(part.decisions) == 16 * 2 * 5
        for d in range(len(part.decisions)):
            assert int(part.choice[d]) == int(size[pointers[d] : pointers[d + 1]].argmin())
    pupil = Imitator(policy, ImitationConfig(updates=3, decay=0.5), 0)
    shares = [pupil.update([lesson(pupil, world, k)]).taught for k in range(3)]
    assert shares == [1.0, 0.5, 0.25]


def test_data_sets_are_aggregated_and_forgotten_at_the_end(queue: Callable[..., Any]) -> None:
    small, large = queue(4, jobs=3, agents=1), queue(4, jobs=4, agents=2)
    pupil = Imitator(fresh(small), ImitationConfig(updates=3), 0)
    counts = [pupil.update([lesson(pupil, small, k), lesson(pupil, large, k)]).decisions for k in range(3)]
    assert counts == [4 * 3 + 4 * 8, 2 * (4 * 3 + 4 * 8), 3 * (4 * 3 + 4 * 8)]
    assert pupil.state()["labelled"] == {}


def test_equal_seeds_are_bit_equal_and_a_resumed_imitator_goes_on_to_the_same_numbers(
    queue: Callable[..., Any],
) -> None:
    world = queue(8, jobs=4, agents=2)
    straight, again, resumed = (Imitator(fresh(world), ImitationConfig(minibatch=64), 3) for _ in range(3))
    teach(straight, world, range(4))
    teach(again, world, range(2))
    state = pickle.loads(pickle.dumps((again.state(), again.policy.state_dict())))
    teach(again, world, range(2, 4))
    resumed.load(state[0])
    resumed.policy.load_state_dict(state[1])
    teach(resumed, world, range(2, 4))
    expected = parameters_to_numpy(straight.policy)
    for other in (again, resumed):
        for name, array in parameters_to_numpy(other.policy).items():
            assert np.array_equal(array, expected[name]), name


def test_agreement_counts_open_decisions_alone(queue: Callable[..., Any]) -> None:
    world = queue(16, jobs=5)
    rows = torch.arange(16)
    policy = Policy(world.spec, PolicyConfig(messages=None), {"server": SoftRule({"size": 400.0})})
    with torch.no_grad():
        policy.network("server").score.weight.zero_()
    assert agreement(policy, world, Longest(), rows, rows) == 1.0
    assert agreement(policy, world, ShortestFirst(), rows, rows) == 0.0


def test_a_teacher_that_sees_more_or_says_nonsense_is_refused(queue: Callable[..., Any]) -> None:
    world = queue(4, jobs=3)
    pupil, rows = Imitator(fresh(world), ImitationConfig(), 0), torch.arange(4)
    oracle: Any = SimpleNamespace(name="oracle", reads="state")
    with pytest.raises(AgentError, match="teacher oracle reads the true state"):
        pupil.collect(world, oracle, rows, rows)
    idle = idle_actions(world.spec, 4)
    mute: Any = SimpleNamespace(name="mute", reads="observation", reset=lambda _: None, act=lambda _: idle)
    with pytest.raises(AgentError, match="teacher mute: action 3 of agent 0 in world 0 is not among its legal ones"):
        pupil.collect(world, mute, rows, rows)
    with pytest.raises(AgentError, match="no decisions to imitate"):
        pupil.update([])
    seen = pupil.collect(world, ShortestFirst(), rows, rows)
    nothing = {name: part.select(rows[:0]) for name, part in seen.labelled.items()}
    with pytest.raises(AgentError, match="no decisions to imitate"):
        pupil.update([replace(seen, labelled=nothing)])


@pytest.mark.parametrize("kind", ["pointwise", "attention"])
def test_labels_are_the_rows_of_the_teachers_actions(kind: Any, queue: Callable[..., Any]) -> None:
    world = queue(6, jobs=5, agents=2, slots=8)
    policy = fresh(world, kind)
    observation = world.reset(torch.arange(6), torch.arange(6))
    observation = world.step(Longest().act(observation)).observation
    step = policy(world.spec, observation, None, policy.mailbox(world.spec, 6))
    told = ShortestFirst().act(observation)["server"]
    row = labels(step, "server", told, "any")
    pointers = step.decisions["server"].pointers
    for d, place in enumerate(step.place["server"]):
        assert int(step.action["server"][pointers[d] + row[d]]) == int(told.reshape(-1)[place])


def test_a_policy_with_memory_is_refused(queue: Callable[..., Any]) -> None:
    with pytest.raises(AgentError, match="a policy with memory cannot imitate"):
        Imitator(Policy(queue(1).spec, PolicyConfig(memory=4)), ImitationConfig(), seed=0)
