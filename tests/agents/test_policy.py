import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from fedsched.agents.config import EncoderConfig, MessageConfig, PolicyConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.network import SoftRule
from fedsched.agents.parameters import parameters_from_numpy, parameters_to_numpy
from fedsched.agents.policy import Policy
from fedsched.agents.step import PolicyStep
from fedsched.envs.core import Observation, WorldError

Encoder = Literal["pointwise", "attention", "hierarchical", "gat"]
every = pytest.mark.parametrize("encoder", ["pointwise", "attention", "hierarchical", "gat"])


def start(world: Any) -> Observation:
    rows = torch.arange(world.batch)
    observation: Observation = world.reset(rows, rows)
    return observation


def act(policy: Policy, world: Any, observation: Observation) -> PolicyStep:
    with torch.no_grad():
        step = policy(world.spec, observation, None, policy.mailbox(world.spec, world.batch))
    assert isinstance(step, PolicyStep)
    return step


def dense_log_probs(policy: Policy, world: Any, observation: Observation) -> torch.Tensor:
    """Log-probabilities by action, [B * A, N], -inf where there is no row."""
    step = act(policy, world, observation)
    distribution, action = step.distribution["server"], step.action["server"]
    table = torch.full((world.batch * len(world.spec.kinds[0].agents), world.slots + 1), -torch.inf)
    table[step.place["server"][distribution.segment], action] = distribution.log_probs
    return table


def strong(policy: Policy) -> Policy:
    """The policy with all weights well away from their quiet start, so that every part has an effect."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return policy


@every
def test_the_order_of_entities_does_not_matter(
    encoder: Encoder, queue: Callable[..., Any], shuffle: Callable[..., Observation]
) -> None:
    world = queue(6, jobs=7, agents=2)
    policy = strong(Policy(world.spec, PolicyConfig(encoder=EncoderConfig(encoder), critic="central")))
    observation = start(world)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    straight = dense_log_probs(policy, world, observation)
    turned = dense_log_probs(policy, world, shuffle(observation, order))
    np.testing.assert_allclose(turned[:, :-1], straight[:, order], atol=2e-3)
    values = [act(policy, world, o).value for o in (observation, shuffle(observation, order))]
    assert values[0] is not None
    assert values[1] is not None
    np.testing.assert_allclose(values[0]["server"], values[1]["server"], atol=1e-5)


@every
def test_empty_slots_and_other_worlds_of_the_batch_do_not_matter(encoder: Encoder, queue: Callable[..., Any]) -> None:
    narrow, wide = queue(3, jobs=5, agents=2), queue(9, jobs=5, agents=2, slots=40)
    policy = strong(Policy(narrow.spec, PolicyConfig(encoder=EncoderConfig(encoder))))
    small = dense_log_probs(policy, narrow, start(narrow))
    large = dense_log_probs(policy, wide, start(wide))
    np.testing.assert_allclose(large[:6, :5], small[:, :5], atol=1e-4)


@every
@pytest.mark.parametrize(("agents", "jobs"), [(1, 3), (1, 70), (4, 9)])
def test_the_same_parameters_serve_worlds_of_any_size(
    encoder: Encoder, agents: int, jobs: int, queue: Callable[..., Any]
) -> None:
    home, away = queue(2, jobs=5, agents=3), queue(4, jobs=jobs, agents=agents)
    config = PolicyConfig(encoder=EncoderConfig(encoder), critic="central")
    policy, other = Policy(home.spec, config, seed=0), Policy(away.spec, config, seed=1)
    parameters_from_numpy(other, parameters_to_numpy(policy))
    observation = start(away)
    table = dense_log_probs(policy, away, observation)
    assert torch.equal(table, dense_log_probs(other, away, observation))
    np.testing.assert_allclose(table.exp().sum(1), 1.0, atol=1e-5)


def test_attention_lets_a_row_see_the_others(queue: Callable[..., Any]) -> None:
    """The score difference of two rows depends on a third one with attention, and does not without."""
    world = queue(1, jobs=5)
    observation = start(world)
    tokens = observation.kinds["server"]
    entities = tokens.entities.clone()
    entities[:, :, 4] += 1
    changed = replace(observation, kinds={"server": replace(tokens, entities=entities)})
    moved = {}
    for encoder in ("pointwise", "attention"):
        policy = strong(Policy(world.spec, PolicyConfig(encoder=EncoderConfig(encoder), messages=None)))
        tables = [dense_log_probs(policy, world, o)[0] for o in (observation, changed)]
        moved[encoder] = abs(float((tables[0][0] - tables[0][1]) - (tables[1][0] - tables[1][1])))
    assert moved["pointwise"] < 1e-4
    assert moved["attention"] > 1e-2


def test_attention_sees_live_entities_that_may_not_be_chosen(queue: Callable[..., Any]) -> None:
    world = queue(1, jobs=5)
    observation = start(world)
    tokens = observation.kinds["server"]
    forbidden = tokens.action_mask.clone()
    forbidden[:, :, 4] = False
    policy = strong(Policy(world.spec, PolicyConfig(encoder=EncoderConfig("attention"), messages=None)))
    tables = []
    for bump in (0.0, 1.0):
        entities = tokens.entities.clone()
        entities[:, :, 4] += bump
        changed = replace(tokens, action_mask=forbidden, entities=entities)
        tables.append(dense_log_probs(policy, world, replace(observation, kinds={"server": changed}))[0])
    assert float(tables[0][4]) == -torch.inf
    np.testing.assert_allclose(tables[0][:4].exp().sum(), 1.0, atol=1e-5)
    assert float((tables[0][:4] - tables[1][:4]).abs().max()) > 1e-2


def test_a_policy_starts_at_its_soft_rule(queue: Callable[..., Any]) -> None:
    world = queue(8, jobs=6)
    policy = Policy(world.spec, PolicyConfig(), {"server": SoftRule({"size": -40.0, "hold": -30.0})})
    observation = start(world)
    step = act(policy, world, observation)
    distribution = step.distribution["server"]
    sizes = observation.kinds["server"].entities[:, 0, :, 0]
    picked = step.action["server"][distribution.pointers[:-1] + distribution.mode()]
    assert torch.equal(picked, sizes.argmin(1))
    np.testing.assert_allclose(distribution.log_probs.reshape(8, 6), (-40 * sizes).log_softmax(1), atol=0.3)


def test_a_gate_gives_the_linear_term_weights_of_its_own(queue: Callable[..., Any]) -> None:
    world = queue(1, jobs=4)
    policy = Policy(world.spec, PolicyConfig(messages=None), {"server": SoftRule({"size": -2.0}, gates=("left",))})
    network = policy.network("server")
    with torch.no_grad():
        network.score.weight.zero_()
        network.skip[1, 0] = 1.0
    observation = start(world)
    tokens = observation.kinds["server"]
    slope = -2.0 + 10.0 * float(tokens.own[0, 0, 0])
    expected = (slope * tokens.entities[0, 0, :, 0]).log_softmax(0)
    np.testing.assert_allclose(dense_log_probs(policy, world, observation)[0, :4], expected, atol=1e-5)


def test_the_step_does_not_alias_the_world(queue: Callable[..., Any]) -> None:
    world = queue(2, jobs=4)
    observation = start(world)
    step = act(Policy(world.spec, PolicyConfig(critic="central")), world, observation)
    before = step.decisions["server"].rows.clone()
    for tensor in vars(observation.kinds["server"]).values():
        tensor.zero_()
    observation.time_s.zero_()
    assert torch.equal(step.decisions["server"].rows, before)


@every
def test_a_moment_without_decisions_is_no_error(encoder: Encoder, queue: Callable[..., Any]) -> None:
    world = queue(2, jobs=4, agents=2)
    observation = start(world)
    tokens = observation.kinds["server"]
    asleep = replace(observation, kinds={"server": replace(tokens, active=torch.zeros_like(tokens.active))})
    step = act(
        Policy(world.spec, PolicyConfig(encoder=EncoderConfig(encoder), messages=MessageConfig(2), critic="central")),
        world,
        asleep,
    )
    assert len(step.decisions["server"]) == 0
    assert step.distribution["server"].sample(torch.Generator()).shape == (0,)
    assert not bool(step.mailbox.known.any())


def test_equal_seeds_give_equal_parameters_and_leave_the_global_generator_alone(queue: Callable[..., Any]) -> None:
    spec = queue(1).spec
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = (parameters_to_numpy(Policy(spec, PolicyConfig(), seed=4)) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_normaliser_statistics_do_not_cross(queue: Callable[..., Any]) -> None:
    policy = Policy(queue(1).spec, PolicyConfig(critic="central"))
    names = set(parameters_to_numpy(policy))
    buffers = {name for name, _ in policy.named_buffers()}
    assert {"kinds.server.critic.mean", "kinds.server.critic.deviation"} <= buffers
    assert not names & buffers


def test_foreign_parameters_are_refused_and_change_nothing(queue: Callable[..., Any]) -> None:
    policy = Policy(queue(1).spec, PolicyConfig())
    own = parameters_to_numpy(policy)
    wrong = {name: array + 1 for name, array in own.items()}
    wrong["kinds.server.skip"] = np.zeros((3, 3), dtype=np.float32)
    del wrong["kinds.server.score.weight"]
    wrong["kinds.robot.skip"] = wrong["kinds.server.skip"]
    told = "score.weight is missing; kinds.robot.skip is unknown; kinds.server.skip has shape (3, 3), the policy (1, 3)"
    with pytest.raises(AgentError, match=f"settings of encoder, sharing, messages or critic, .*{re.escape(told)}"):
        parameters_from_numpy(policy, wrong)
    wild = own | {"kinds.server.skip": np.full((1, 3), np.nan, dtype=np.float32)}
    with pytest.raises(AgentError, match=r"not finite: kinds\.server\.skip"):
        parameters_from_numpy(policy, wild)
    assert all(np.array_equal(own[name], array) for name, array in parameters_to_numpy(policy).items())


def test_a_policy_of_another_world_is_named_before_it_acts(
    queue: Callable[..., Any], relay: Callable[..., Any]
) -> None:
    spec = queue(1).spec
    wide = replace(spec, kinds=(replace(spec.kinds[0], own=("left", "clock", "weather")),))
    told = r"queue: kind 'server' has \(3, 2, 1, 0\) .*, the policy has \(2, 2, 1, 0\)"
    for config in (PolicyConfig(), PolicyConfig(sharing="all", messages=None)):
        with pytest.raises(AgentError, match=told):
            Policy(spec, config).mailbox(wide, 1)
    with pytest.raises(AgentError, match=r"relay: kind 'teller' has .*, the policy knows server"):
        Policy(spec, PolicyConfig()).mailbox(relay(1).spec, 1)
    both = relay(1).spec
    alone = replace(both, kinds=both.kinds[:1], neighbours=np.zeros((1, 0), dtype=np.int64))
    with pytest.raises(AgentError, match="relay: has no doer, but the policy's central critic reads all kinds"):
        Policy(both, PolicyConfig(critic="central")).mailbox(alone, 1)
    Policy(both, PolicyConfig(critic="independent")).mailbox(alone, 1)


def test_unknown_features_and_kinds_are_named(queue: Callable[..., Any]) -> None:
    spec = queue(1).spec
    with pytest.raises(AgentError, match="unknown feature 'area'; there are size, noise, hold"):
        Policy(spec, PolicyConfig(), {"server": SoftRule({"area": 1.0})})
    with pytest.raises(AgentError, match="unknown feature 'stage'"):
        Policy(spec, PolicyConfig(), {"server": SoftRule(gates=("stage",))})
    with pytest.raises(WorldError, match="no kind 'robot'"):
        Policy(spec, PolicyConfig(), {"robot": SoftRule()})


def test_a_world_without_agents_is_named(queue: Callable[..., Any]) -> None:
    spec = queue(1).spec
    empty = replace(spec, kinds=(replace(spec.kinds[0], agents=()),))
    with pytest.raises(AgentError, match="queue: a world without agents"):
        Policy(empty, PolicyConfig())
    with pytest.raises(AgentError, match="queue: a world without agents"):
        Policy(spec, PolicyConfig()).mailbox(empty, 1)
