import pickle
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch

from fedsched.agents.collect import collect, evaluate
from fedsched.agents.config import EncoderConfig, PolicyConfig
from fedsched.agents.constraint import Constraint, Multiplier, greedy_ratio, step_costs
from fedsched.agents.decisions import AgentError
from fedsched.agents.experience import Discount, gae_experience
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.network import SoftRule
from fedsched.agents.noise import NoiseConfig
from fedsched.agents.parameters import parameters_to_numpy
from fedsched.agents.policy import Policy
from fedsched.agents.ppo import PpoConfig
from fedsched.agents.rollout import Reference, Rollouts


def learner(
    world: Any,
    advantage: Literal["gae", "group"] = "group",
    encoder: Literal["pointwise", "attention"] = "pointwise",
    seed: int = 0,
    constraint: Constraint | None = None,
) -> Learner:
    config = PolicyConfig(encoder=EncoderConfig(encoder), critic="central" if advantage == "gae" else "none")
    wrong = SoftRule({"size": 2.0})  # longest job first, so that there is something to unlearn
    policy = Policy(world.spec, config, {"server": wrong}, seed=seed)
    ppo = PpoConfig(lr=1e-2, iterations=25)
    return Learner(policy, LearnerConfig({"wait": 1.0}, advantage, constraint=constraint, ppo=ppo), seed)


def learn(pupil: Learner, world: Any, iterations: range) -> None:
    count = world.batch // pupil.config.rows_per_instance
    for iteration in iterations:
        instances = torch.arange(count) + iteration * count
        pupil.update([pupil.collect(world, instances, torch.zeros_like(instances))])


def excess(pupil: Learner, world: Any) -> float:
    """Greedy waiting of the averaged policy over the optimum's, on instances never trained on."""
    rows = torch.arange(world.batch) + 10**6
    return float((evaluate(pupil.averaged, world, rows, rows)["wait"] / world.optimum()).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("advantage", ["gae", "group"])
def test_the_shortest_job_first_optimum_is_learnt(
    advantage: Literal["gae", "group"], seed: int, queue: Callable[..., Any]
) -> None:
    world = queue(64, jobs=5, agents=2)
    pupil = learner(world, advantage, seed=seed)
    before = excess(pupil, world)
    learn(pupil, world, range(25))
    assert before > 1.3
    assert excess(pupil, world) < 1.005


def test_attention_learns_it_as_well(queue: Callable[..., Any]) -> None:
    world = queue(64, jobs=5, agents=1)
    pupil = learner(world, encoder="attention")
    learn(pupil, world, range(25))
    assert excess(pupil, world) < 1.005


@pytest.mark.parametrize("advantage", ["gae", "group"])
def test_equal_seeds_are_bit_equal_and_a_resumed_learner_goes_on_to_the_same_numbers(
    advantage: Literal["gae", "group"], queue: Callable[..., Any]
) -> None:
    world = queue(16, jobs=4, agents=2)
    straight, again, resumed = (learner(world, advantage) for _ in range(3))
    learn(straight, world, range(4))
    learn(again, world, range(2))
    state = pickle.loads(pickle.dumps(again.state()))
    learn(again, world, range(2, 4))
    resumed.load(state)
    learn(resumed, world, range(2, 4))
    expected = {**parameters_to_numpy(straight.policy), "averaged": np.zeros(0)}
    for other in (again, resumed):
        for name, array in parameters_to_numpy(other.policy).items():
            assert np.array_equal(array, expected[name]), name
        for name, array in parameters_to_numpy(other.averaged).items():
            assert np.array_equal(array, parameters_to_numpy(straight.averaged)[name]), name


def test_several_worlds_of_unlike_size_teach_one_policy(queue: Callable[..., Any]) -> None:
    small, large = queue(32, jobs=4, agents=1), queue(32, jobs=6, agents=3)
    pupil = learner(small)
    for iteration in range(15):
        instances = torch.arange(4) + 4 * iteration
        rollouts = [pupil.collect(world, instances, torch.zeros_like(instances)) for world in (small, large)]
        losses = pupil.update(rollouts)
    assert losses.decisions == 32 * 3 + 32 * 3 * 5 + 32 + 32 * 3
    assert excess(pupil, small) < 1.02
    assert excess(pupil, large) < 1.02


def cut_rollouts(queue: Callable[..., Any], limit: int) -> Rollouts:
    world = queue(8, jobs=5, agents=1, limit=limit)
    pupil = learner(world, "gae")
    critic = pupil.policy.critic("server")
    with torch.no_grad():
        critic.value.weight.zero_()
        critic.value.bias.fill_(-7.0)
    rows, no = torch.arange(8), torch.zeros(8, dtype=torch.bool)
    return collect(pupil.policy, world, rows, rows, torch.Generator().manual_seed(0), no, rows)


def test_truncation_bootstraps_and_termination_does_not(queue: Callable[..., Any]) -> None:
    """With a critic that always says -7, the last return of a cut episode holds it, that of an ended one does not."""
    for limit, last_value in ((3, -7.0), (0, 0.0)):
        rollouts = cut_rollouts(queue, limit)
        assert bool(rollouts.truncated.all()) == (limit == 3)
        costs = step_costs(rollouts, {"wait": 1.0}, None, 0.0)["server"]
        part = gae_experience(rollouts, {"server": costs}, Discount(1.0, None, 0.9))["server"]
        assert part.returns is not None
        last = rollouts.step("server") == rollouts.times.shape[0] - 2
        expected = rollouts.rewards["server"][-1, :, 0, 0] + last_value
        np.testing.assert_allclose(part.returns[last], expected, atol=1e-5)
        np.testing.assert_allclose(part.advantage[last], expected + 7, atol=1e-5)


def test_stored_rewards_sum_to_the_worlds_own_figure_and_groups_differ_in_noise_alone(
    queue: Callable[..., Any],
) -> None:
    world = queue(16, jobs=5, agents=2)
    pupil = learner(world)
    rollouts = pupil.collect(world, torch.tensor([3, 9]), torch.tensor([1, 2]))
    np.testing.assert_allclose(-rollouts.rewards["server"][..., 0].sum((0, 2)), rollouts.metrics["wait"], rtol=1e-5)
    assert rollouts.group.tolist() == [0] * 8 + [1] * 8
    first = rollouts.taken["server"].decisions
    # all rows of a group start from one problem, and then go their own ways
    rows = first.rows[: 16 * 2 * 5].reshape(16, -1)
    assert torch.equal(rows[:8], rows[:1].expand(8, -1))
    assert len(set(rollouts.metrics["wait"][:8].tolist())) > 1


def test_costs_are_divided_by_the_level_of_their_group_and_the_bound_by_the_rules_total(
    queue: Callable[..., Any],
) -> None:
    world = queue(8, jobs=5)
    pupil = learner(world)
    reference = Reference(torch.tensor([4.0]).double(), torch.tensor([2.0]).double())
    rollouts = pupil.collect(world, torch.tensor([0]), torch.tensor([0]), reference)
    rewards = rollouts.rewards["server"].double()
    level = -rewards[..., 0].sum(0).mean() + 2.0
    expected = -rewards[..., 0] / level - 3.0 * rewards[..., 0] / 4.0
    costs = step_costs(rollouts, {"wait": 1.0}, Constraint("wait"), 3.0)["server"]
    np.testing.assert_allclose(costs, expected, rtol=1e-6)


def test_a_rule_that_never_waits_bounds_nothing(queue: Callable[..., Any]) -> None:
    world = queue(18, jobs=5)
    pupil = learner(world, constraint=Constraint("wait"))
    reference = Reference(torch.zeros(2).double(), torch.ones(2).double())
    rollouts = pupil.collect(world, torch.tensor([0, 1]), torch.zeros(2).long(), reference)
    assert greedy_ratio(rollouts, Constraint("wait")) is None
    bounded = step_costs(rollouts, {"wait": 1.0}, Constraint("wait"), 3.0)["server"]
    assert torch.equal(bounded, step_costs(rollouts, {"wait": 1.0}, None, 0.0)["server"])
    assert pupil.update([rollouts]).multiplier == Constraint().start


def test_the_multiplier_grows_while_the_greedy_policy_breaks_the_bound_and_falls_to_zero_after() -> None:
    multiplier = Multiplier(Constraint(start=0.5, integral=0.1, proportional=4.0, smoothing=0.5))
    assert multiplier.value == 0.5
    multiplier.observe(1.2)
    assert multiplier.value == pytest.approx(0.5 + 0.02 + 4 * 0.2)
    multiplier.observe(1.0)
    assert multiplier.value == pytest.approx(0.52 + 4 * 0.1)
    for _ in range(60):
        multiplier.observe(0.5)
    assert multiplier.value == 0.0


def test_a_constraint_adds_a_greedy_row_that_drives_it_and_teaches_nothing(queue: Callable[..., Any]) -> None:
    world = queue(18, jobs=5)
    pupil = learner(world, constraint=Constraint("wait"))
    assert pupil.config.rows_per_instance == 9
    reference = Reference(torch.tensor([3.0, 5.0]).double(), torch.ones(2).double())
    rollouts = pupil.collect(world, torch.tensor([0, 1]), torch.zeros(2).long(), reference)
    assert rollouts.greedy.nonzero().flatten().tolist() == [0, 9]
    greedy = rollouts.metrics["wait"][[0, 9]].sum() / 8.0
    assert greedy_ratio(rollouts, Constraint("wait")) == pytest.approx(float(greedy), rel=1e-5)
    losses = pupil.update([rollouts])
    assert losses.decisions == 16 * 4 + 16
    assert losses.greedy_ratio == pytest.approx(float(greedy), rel=1e-5)


def test_misuse_is_named(queue: Callable[..., Any]) -> None:
    world = queue(9, jobs=4)
    plain = Policy(world.spec, PolicyConfig())
    with pytest.raises(AgentError, match="needs a critic"):
        Learner(plain, LearnerConfig({"wait": 1.0}, "gae"), 0)
    graph = Policy(world.spec, PolicyConfig(EncoderConfig("graph")))
    with pytest.raises(AgentError, match="the graph encoder has no copies to perturb"):
        Learner(graph, LearnerConfig({"wait": 1.0}, noise=NoiseConfig()), seed=0)
    with pytest.raises(AgentError, match="rollouts must be at least 2"):
        Learner(plain, LearnerConfig({"wait": 1.0}, "group", rollouts=1), 0)
    zeros = torch.zeros(1).long()
    with pytest.raises(AgentError, match="1 instances of 8 rows each need a world of batch 8"):
        learner(world).collect(world, zeros, zeros)
    with pytest.raises(AgentError, match="for every instance"):
        learner(world, constraint=Constraint("wait")).collect(world, zeros, zeros)
    with pytest.raises(AgentError, match="no decisions to learn from"):
        learner(world).update([])
    other = Learner(plain, LearnerConfig({"energy": 1.0}, rollouts=9), 0)
    rollouts = other.collect(world, zeros, zeros)
    with pytest.raises(AgentError, match="no reward part 'energy'; it has wait, busy"):
        other.update([rollouts])


def test_a_state_of_another_policy_is_refused(queue: Callable[..., Any]) -> None:
    world = queue(8, jobs=4)
    silent = Learner(Policy(world.spec, PolicyConfig(messages=None)), LearnerConfig({"wait": 1.0}), seed=0)
    talking = Learner(Policy(world.spec, PolicyConfig()), LearnerConfig({"wait": 1.0}), seed=0)
    with pytest.raises(AgentError, match=r"of another policy, .*messenger\.null is missing"):
        talking.load(silent.state())
