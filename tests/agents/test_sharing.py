"""Whose parameters an agent uses."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.collect import evaluate
from fedsched.agents.config import CriticKind, EncoderConfig, MessageConfig, PolicyConfig, Sharing
from fedsched.agents.decisions import AgentError
from fedsched.agents.learner import Learner, LearnerConfig
from fedsched.agents.network import SoftRule
from fedsched.agents.parameters import parameters_from_numpy, parameters_to_numpy
from fedsched.agents.policy import Policy
from fedsched.agents.population import linear_weights, set_linear_weights
from fedsched.agents.ppo import PpoConfig
from fedsched.agents.sharing import Union
from fedsched.agents.step import PolicyStep
from fedsched.envs.core import KindSpec, Observation, Snapshot, Tokens, Transition, WorldSpec

OWN = PolicyConfig(messages=None, sharing="agent", critic="central")


def act(policy: Policy, world: Any) -> PolicyStep:
    rows = torch.arange(world.batch)
    step: PolicyStep = policy(world.spec, world.reset(rows, rows), None, policy.mailbox(world.spec, world.batch))
    return step


@pytest.mark.parametrize(
    "encoder",
    [
        EncoderConfig("pointwise", layers=1),
        EncoderConfig("pointwise", scoring="dot"),
        EncoderConfig("attention", layers=1),
        EncoderConfig("hierarchical", scoring="dot", layers=1),
        EncoderConfig("gat"),
    ],
    ids=lambda config: f"{config.kind} {config.scoring}",
)
def test_every_agent_decides_as_a_policy_of_its_parameters_alone(
    encoder: EncoderConfig, queue: Callable[..., Any]
) -> None:
    world, config = queue(4, jobs=5, agents=3), replace(OWN, encoder=encoder)
    stacked = Policy(world.spec, config, {"server": SoftRule({"size": -3.0}, gates=("left",))}, seed=1)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in stacked.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    mine = act(stacked, world)
    whose = mine.decisions["server"].agent
    for agent in range(3):
        alone = Policy(world.spec, replace(config, sharing="kind"), {"server": SoftRule(gates=("left",))})
        parameters_from_numpy(alone, {name: p[agent] for name, p in parameters_to_numpy(stacked).items()})
        ours = act(alone, world)
        rows = whose[mine.distribution["server"].segment] == agent
        np.testing.assert_allclose(
            mine.distribution["server"].log_probs[rows].detach(),
            ours.distribution["server"].log_probs[rows].detach(),
            atol=1e-5,
        )
        assert mine.value is not None
        assert ours.value is not None
        values = mine.value["server"][whose == agent], ours.value["server"][whose == agent]
        np.testing.assert_allclose(values[0].detach(), values[1].detach(), atol=1e-5)


def test_an_agents_choice_moves_its_own_copy_alone_but_for_those_it_listened_to(queue: Callable[..., Any]) -> None:
    world = queue(4, jobs=5, agents=3)
    policy = Policy(world.spec, replace(OWN, messages=MessageConfig(2)))
    with torch.no_grad():
        policy.network("server").score.weight.fill_(1.0)
    step = act(policy, world)
    rows = step.decisions["server"].agent[step.distribution["server"].segment] == 1
    torch.autograd.backward(step.distribution["server"].log_probs[rows].square().sum())
    moved = {
        name: [bool(copy.any()) for copy in parameter.grad]
        for name, parameter in policy.named_parameters()
        if parameter.grad is not None
    }
    assert moved["kinds.server.score.weight"] == [False, True, False]
    assert moved["messenger.merge.weight"] == [True, True, True]
    assert policy.messenger is not None
    assert moved["messenger.null"] == [True, True, True]


def test_agents_start_apart_but_from_the_same_rule(queue: Callable[..., Any]) -> None:
    spec = queue(1, agents=3).spec
    network = Policy(spec, OWN, {"server": SoftRule({"size": -3.0})}).network("server")
    assert torch.equal(network.skip[0], network.skip[2])
    assert not torch.equal(network.encoder.mix.weight[0], network.encoder.mix.weight[2])


def learnt(world: Any, config: PolicyConfig) -> float:
    """Mean wait of the last of 15 updates' rollouts, relative to the optimum."""
    ppo = PpoConfig(lr=1e-2, iterations=15)
    learner = Learner(Policy(world.spec, config), LearnerConfig({"wait": 1.0}, "gae", rollouts=1, ppo=ppo), seed=0)
    rows = torch.arange(world.batch)
    cost = []
    for iteration in range(15):
        rollouts = learner.collect(world, rows + iteration * world.batch, torch.zeros_like(rows))
        cost.append(float((rollouts.metrics["wait"] / world.optimum()).mean()))
        learner.update([rollouts])
    assert cost[0] > 1.3
    return cost[-1]


def test_agents_with_parameters_of_their_own_learn(queue: Callable[..., Any]) -> None:
    assert learnt(queue(32, jobs=5, agents=2), replace(OWN, messages=MessageConfig(1))) < 1.1


def test_a_policy_of_other_agents_names_them(queue: Callable[..., Any]) -> None:
    policy = Policy(queue(1, agents=2).spec, OWN)
    with pytest.raises(
        AgentError, match=r"queue: .* belongs to the agents it was built for; server2 differ: build one"
    ):
        policy.mailbox(queue(1, agents=3).spec, 1)


def test_a_searched_start_is_every_agents(queue: Callable[..., Any]) -> None:
    policy = Policy(queue(1, agents=3).spec, OWN, {"server": SoftRule({"size": -3.0})})
    np.testing.assert_allclose(linear_weights(policy, "server"), [-3, 0, 0])
    set_linear_weights(policy, "server", np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(policy.choosing("server").skip.detach()[:, 0] * 10, [[1, 2, 3]] * 3, rtol=1e-6)


def crew() -> tuple[WorldSpec, Observation]:
    """Two kinds that have some features in common, one of them without entities, two worlds."""
    cook = KindSpec(
        "cook", ("a", "b"), own=("heat", "time"), entity=("size", "salt"), entities=3, action=("rest",), actions=3
    )
    clerk = KindSpec("clerk", ("c",), own=("time", "queue"), action=("size",), actions=2)
    spec = WorldSpec("kitchen", (cook, clerk), np.array([[1, 2], [0, 2], [0, 1]]), ("cost",), ())
    generator = torch.Generator().manual_seed(0)

    def tokens(kind: KindSpec) -> Tokens:
        shape = (2, len(kind.agents))
        entities = torch.rand(*shape, kind.entities, len(kind.entity), generator=generator)
        return Tokens(
            own=torch.rand(*shape, len(kind.own), generator=generator),
            entities=entities,
            entity_mask=torch.ones(entities.shape[:3], dtype=torch.bool),
            actions=torch.rand(*shape, kind.actions, len(kind.action), generator=generator),
            action_mask=torch.ones(*shape, kind.actions, dtype=torch.bool),
            active=torch.ones(shape, dtype=torch.bool),
            alive=torch.ones(shape, dtype=torch.bool),
        )

    return spec, Observation(torch.zeros(2, dtype=torch.float64), {kind.name: tokens(kind) for kind in spec.kinds})


def test_features_are_united_by_name_and_zero_where_a_kind_lacks_them() -> None:
    spec, observation = crew()
    union = Union(spec)
    united, seen = union.spec(spec), union.observe(observation)
    assert [kind.own for kind in united.kinds] == [("heat", "time", "queue", "is cook", "is clerk")] * 2
    assert united.kinds[1].entity == ("size", "salt")
    assert united.kinds[0].action == ("rest", "size")
    cook, clerk = observation.kinds["cook"], observation.kinds["clerk"]
    one, zero = torch.ones(2, 1), torch.zeros(2, 1)
    expected = torch.cat([zero, clerk.own[:, 0], zero, one], 1)
    assert torch.equal(seen.kinds["clerk"].own[:, 0], expected)
    assert torch.equal(seen.kinds["cook"].own[:, 1, :2], cook.own[:, 1])
    assert torch.equal(seen.kinds["cook"].own[:, 1, 2:], torch.tensor([[0.0, 1.0, 0.0]] * 2))
    assert torch.equal(seen.kinds["cook"].actions[..., 0], cook.actions[..., 0])
    assert torch.equal(seen.kinds["clerk"].actions[..., 1], clerk.actions[..., 0])
    assert not bool(seen.kinds["clerk"].actions[..., 0].any())


@pytest.mark.parametrize("critic", ["independent", "central"])
def test_one_network_serves_kinds_of_unlike_features(critic: CriticKind) -> None:
    spec, observation = crew()
    policy = Policy(spec, PolicyConfig(sharing="all", critic=critic))
    assert list(policy.kinds) == ["all"]
    assert policy.network("cook") is policy.network("clerk")
    step = policy(spec, observation, None, policy.mailbox(spec, 2))
    choice = {name: part.mode() for name, part in step.distribution.items()}
    idle = {"cook": torch.zeros(2, 2, dtype=torch.int64), "clerk": torch.zeros(2, 1, dtype=torch.int64)}
    assert {name: actions.shape for name, actions in step.actions(choice, idle).items()} == {
        "cook": (2, 2),
        "clerk": (2, 1),
    }
    values = policy.values_of_all(observation)
    assert values is not None
    np.testing.assert_allclose(values["cook"].detach().reshape(-1), step.value["cook"].detach(), atol=1e-6)


def test_one_network_learns_to_tell_and_to_listen(relay: Callable[..., Any]) -> None:
    world = relay(64, rounds=6)
    policy = Policy(world.spec, PolicyConfig(sharing="all", critic="central"))
    ppo = PpoConfig(lr=1e-2, iterations=20)
    learner = Learner(policy, LearnerConfig({"right": 1.0}, "gae", rollouts=1, gamma=0.0, ppo=ppo), seed=0)
    rows = torch.arange(world.batch)
    for iteration in range(20):
        learner.update([learner.collect(world, rows + iteration * world.batch, torch.zeros_like(rows))])
    assert float(evaluate(policy, world, rows + 10**6, torch.zeros_like(rows))["right"].mean()) > 0.95


def test_kinds_that_cannot_share_are_told_why(relay: Callable[..., Any]) -> None:
    spec = relay(1).spec
    config = PolicyConfig(sharing="all")
    bounds = np.zeros(2, dtype=np.float32), np.ones(2, dtype=np.float32)
    arm = replace(spec.kinds[1], bounds=bounds, actions=0)
    with pytest.raises(AgentError, match=r"relay: .* \(teller a choice, doer a vector of 2\): share by kind or agent"):
        Policy(replace(spec, kinds=(spec.kinds[0], arm)), config)
    with pytest.raises(AgentError, match="relay: with sharing all every kind starts from the same soft rule"):
        Policy(spec, config, {"doer": SoftRule({"side": 1.0})})


def test_a_critic_is_shown_the_returns_of_all_kinds_that_share_it(relay: Callable[..., Any]) -> None:
    returns = {"teller": torch.tensor([0.0, 2.0]), "doer": torch.tensor([4.0, 6.0])}
    policy = Policy(relay(1).spec, PolicyConfig(sharing="all", critic="central"))
    policy.observe_returns(returns)
    assert float(policy.critic("doer").mean) == 3.0
    apart = Policy(relay(1).spec, PolicyConfig(critic="central"))
    apart.observe_returns(returns)
    assert [float(apart.critic(name).mean) for name in returns] == [1.0, 5.0]


@pytest.mark.parametrize("critic", ["independent", "central"])
def test_an_independent_critic_sees_nothing_of_the_others(critic: CriticKind, queue: Callable[..., Any]) -> None:
    world = queue(2, jobs=4, agents=2)
    policy = Policy(world.spec, PolicyConfig(messages=None, critic=critic))
    rows = torch.arange(2)
    observation = world.reset(rows, rows)
    before = policy.values_of_all(observation)
    observation.kinds["server"].own[:, 1] += 1.0
    after = policy.values_of_all(observation)
    observation.kinds["server"].entities[:, 0] *= 2.0
    later = policy.values_of_all(observation)
    assert before is not None
    assert after is not None
    assert later is not None
    moved = (after["server"] - before["server"]).detach().abs().amax(0)
    assert (float(moved[0]) > 1e-4) == (critic == "central")
    assert float(moved[1]) > 1e-4
    assert float((later["server"] - after["server"]).detach()[:, 0].abs().min()) > 1e-5


def test_independent_learners_order_their_queues(queue: Callable[..., Any]) -> None:
    assert learnt(queue(32, jobs=5, agents=2), replace(OWN, sharing="kind", critic="independent")) < 1.1


class DoorWorld:
    """Two agents that see the same stand before the same two doors; both are paid when they take different ones."""

    def __init__(self, batch: int, rounds: int = 4) -> None:
        self.batch, self.device, self.rounds = batch, "cpu", rounds
        kind = KindSpec("guest", ("ann", "bob"), own=("here",), entity=("side",), entities=2, actions=2)
        self.spec = WorldSpec("doors", (kind,), np.full((2, 1), -1), ("apart",), ("apart",))
        self.steps, self.apart = 0, torch.zeros(batch, dtype=torch.float64)

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        del instances, seeds, where, until_s
        self.steps = 0
        self.apart.zero_()
        return self.observe()

    def observe(self) -> Observation:
        here = torch.full((self.batch, 2), self.steps < self.rounds)
        both = torch.ones(self.batch, 2, 2, dtype=torch.bool)
        sides = torch.tensor([-1.0, 1.0]).expand(self.batch, 2, 2)[..., None].clone()
        own, none = torch.ones(self.batch, 2, 1), torch.zeros(self.batch, 2, 2, 0)
        tokens = Tokens(own, sides, both, none, both.clone(), here, here.clone())
        return Observation(torch.full((self.batch,), float(self.steps), dtype=torch.float64), {"guest": tokens})

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        del until_s
        apart = (actions["guest"][:, 0] != actions["guest"][:, 1]).to(torch.float32)
        self.apart += apart / self.rounds
        self.steps += 1
        over = torch.full((self.batch, 2), self.steps == self.rounds)
        reward = apart[:, None, None].expand(-1, 2, 1).clone()
        one, cut = torch.ones(self.batch, dtype=torch.float64), torch.zeros(self.batch, dtype=torch.bool)
        return Transition(self.observe(), {"guest": reward}, one, {"guest": over}, cut)

    def metrics(self) -> dict[str, torch.Tensor]:
        return {"apart": self.apart.clone()}

    def snapshot(self) -> Snapshot:
        raise NotImplementedError

    def restore(self, snapshot: Snapshot) -> Observation:
        raise NotImplementedError


@pytest.mark.parametrize(("sharing", "apart"), [("kind", 0.0), ("agent", 1.0)])
def test_agents_that_see_the_same_part_only_with_parameters_of_their_own(sharing: Sharing, apart: float) -> None:
    world = DoorWorld(32)
    policy = Policy(world.spec, replace(OWN, sharing=sharing))
    ppo = PpoConfig(lr=1e-2, iterations=10)
    learner = Learner(policy, LearnerConfig({"apart": 1.0}, "gae", rollouts=1, gamma=0.0, ppo=ppo), seed=0)
    rows = torch.arange(world.batch)
    for _ in range(10):
        learner.update([learner.collect(world, rows, rows)])
    assert float(evaluate(policy, world, rows, rows)["apart"].mean()) == pytest.approx(apart)
