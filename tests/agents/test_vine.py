"""Branches and what is learned from them: costs are those of a world played again, and the policy finds the optimum."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.agents.branches import Tried, branch_out, merge_branches
from fedsched.agents.collect import GreedyActor, evaluate, idle_actions
from fedsched.agents.config import EncoderConfig, MessageConfig, PolicyConfig
from fedsched.agents.decisions import AgentError
from fedsched.agents.network import SoftRule
from fedsched.agents.parameters import parameters_to_numpy
from fedsched.agents.policy import Policy
from fedsched.agents.vine import Vine, VineConfig
from fedsched.envs.core import Branching, Observation, WorldError
from fedsched.envs.intersections.problem import grid_problem
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

FOREVER = 1e9


def wrong(world: Any, messages: MessageConfig | None = None) -> Policy:
    """Takes the longest first."""
    config = PolicyConfig(encoder=EncoderConfig(), messages=messages)
    return Policy(world.spec, config, {"server": SoftRule({"size": 2.0})}, seed=0)


def teach(vine: Vine, world: Any, copies: Any, numbers: range) -> None:
    for number in numbers:
        rows = torch.arange(world.batch) + number * world.batch
        vine.update([vine.collect(world, copies, rows, torch.zeros_like(rows))])


def test_costs_are_those_of_the_world_played_again(queue: Callable[..., Any]) -> None:
    """The slow twin: every row of every tried decision, from the start, with that one action changed."""
    world, copies = queue(3, jobs=4, agents=2), queue(24, jobs=4, agents=2)
    policy = wrong(world)
    rows = torch.arange(3)
    generator = torch.Generator().manual_seed(0)
    tried = branch_out(policy, world, copies, rows, rows, 1, FOREVER, generator).branches["server"]
    assert bool(tried.tried.all())  # agents that say nothing to each other need no company
    checked = 0
    for d in range(len(tried.decisions)):
        first, last = (int(tried.decisions.pointers[d + k]) for k in (0, 1))
        sizes = tried.decisions.rows[first:last, 0]
        agent, left = int(tried.decisions.agent[d]), round(float(tried.decisions.own[d, 0]) * 10)
        for row in range(3):
            again = [_again(queue, policy, row, 4 - left, agent, float(size)) for size in sizes]
            if None not in again:
                cost = np.array(again) - np.mean(again)
                np.testing.assert_allclose(tried.cost[first:last].numpy(), cost, atol=1e-5)
                checked += 1
    assert checked == len(tried.decisions) >= 3 * 3 * 2


def _again(make: Callable[..., Any], policy: Policy, row: int, step: int, agent: int, size: float) -> float | None:
    """The waiting time of an episode in which an agent takes a job of that size at a step; None where it cannot."""
    world = make(1, jobs=4, agents=2)
    rows = torch.tensor([row])
    observation = world.reset(rows, rows)
    mailbox, idle = policy.mailbox(world.spec, 1), idle_actions(world.spec, 1)
    for number in range(4):
        made = policy(world.spec, observation, None, mailbox)
        actions = made.actions({"server": made.distribution["server"].mode()}, idle)
        if number == step:
            found = ((world.size[0, agent] - size).abs() < 1e-7) & world.waiting[0, agent]
            if not bool(found.any()):
                return None
            actions["server"][0, agent] = int(found.nonzero()[0, 0])
        observation = world.step(actions).observation
    return float(world.wait[0])


@pytest.mark.parametrize("messages", [None, MessageConfig()])
def test_the_optimum_is_learned_from_the_wrong_start(queue: Callable[..., Any], messages: Any) -> None:
    world, copies = queue(8, jobs=5, agents=2), queue(40, jobs=5, agents=2)
    policy, averaged = wrong(world, messages), wrong(world, messages)
    config = VineConfig(every=1, horizon_s=FOREVER, iterations=12, lr=2e-2, minibatch=64, average=0.5)
    vine = Vine(policy, averaged, config, seed=0)
    judged = queue(64, jobs=5, agents=2)
    rows = torch.arange(64) + 10**6

    def excess() -> float:
        return float((evaluate(averaged, judged, rows, rows)["wait"] / judged.optimum()).mean())

    assert excess() > 1.5
    teach(vine, world, copies, range(12))
    assert vine.done
    assert excess() < 1.01


def test_a_resumed_learner_goes_on_to_the_same_numbers(queue: Callable[..., Any]) -> None:
    world, copies = queue(4, jobs=4, agents=2), queue(12, jobs=4, agents=2)
    config = VineConfig(every=2, horizon_s=FOREVER, iterations=5, keep=2, minibatch=16)
    straight, broken, resumed = (Vine(wrong(world), wrong(world), config, seed=3) for _ in range(3))
    teach(straight, world, copies, range(4))
    teach(broken, world, copies, range(2))
    state = pickle.loads(pickle.dumps((broken.state(), broken.policy.state_dict(), broken.averaged.state_dict())))
    resumed.load(state[0])
    resumed.policy.load_state_dict(state[1])
    resumed.averaged.load_state_dict(state[2])
    teach(resumed, world, copies, range(2, 4))
    for mine, other in ((straight.policy, resumed.policy), (straight.averaged, resumed.averaged)):
        expected = parameters_to_numpy(mine)
        for name, array in parameters_to_numpy(other).items():
            assert np.array_equal(array, expected[name]), name


def test_agents_that_talk_keep_their_company(queue: Callable[..., Any]) -> None:
    """One decision is tried at a time; those of the same moment stay with it, and cost nothing."""
    world, copies = queue(2, jobs=3, agents=2), queue(3, jobs=3, agents=2)
    rows, generator = torch.arange(2), torch.Generator().manual_seed(0)
    alone = branch_out(wrong(world), world, copies, rows, rows, 1, FOREVER, generator).branches["server"]
    assert bool(alone.tried.all())
    together = branch_out(wrong(world, MessageConfig()), world, copies, rows, rows, 1, FOREVER, generator)
    part = together.branches["server"]
    assert not bool(part.tried.all())
    assert set(part.decisions.moment.unique(return_counts=True)[1].tolist()) == {2}
    untried = (~part.tried).index_select(0, part.decisions.segment())
    assert not bool(part.cost[untried].any())


def test_agents_of_all_kinds_keep_their_company(relay: Callable[..., Any]) -> None:
    """There is room for one decision in each moment; that of the other kind stays with it."""
    world, rows = relay(1, rounds=6), torch.zeros(1, dtype=torch.int64)
    policy = Policy(world.spec, PolicyConfig(encoder=EncoderConfig(), messages=MessageConfig()), {}, seed=0)
    generator = torch.Generator().manual_seed(0)
    found = branch_out(policy, world, relay(2, rounds=6), rows, rows, 1, FOREVER, generator).branches
    teller, doer = (found[name] for name in ("teller", "doer"))
    assert torch.equal(teller.tried, ~doer.tried)
    assert 0 < int(teller.tried.sum()) < 6
    assert teller.decisions.moment.tolist() == doer.decisions.moment.tolist() == list(range(6))


def test_moments_of_several_parts_do_not_mix(queue: Callable[..., Any]) -> None:
    world, copies = queue(2, jobs=3), queue(9, jobs=3)
    rows, generator = torch.arange(2), torch.Generator().manual_seed(0)
    one = branch_out(wrong(world), world, copies, rows, rows, 1, FOREVER, generator)
    merged, moments = merge_branches([one, Tried({}, 5, {}), one])
    first = len(one.branches["server"].decisions)
    assert moments == 2 * one.moments + 5
    moved = merged["server"].decisions.moment[first:] - merged["server"].decisions.moment[:first]
    assert bool((moved == one.moments + 5).all())


def test_what_cannot_be_tried_is_refused(queue: Callable[..., Any]) -> None:
    world = queue(2)
    policy = Policy(world.spec, PolicyConfig(messages=None, memory=4), {})
    with pytest.raises(AgentError, match="memory"):
        Vine(policy, policy, VineConfig(), 0)
    rows, generator = torch.arange(2), torch.Generator()
    with pytest.raises(AgentError, match="a decision has 5 actions, but only 4 branches"):
        branch_out(wrong(world), world, queue(4), rows, rows, 1, FOREVER, generator)


def test_costs_in_a_city_are_those_at_the_horizon() -> None:
    """The slow twin: the second moment of one of two rows, alone, once for each action."""
    every, horizon_s, problem = 60, 30.0, grid_problem(2)
    world, alone = (IntersectionsWorld(problem, batch, "sumo_rl") for batch in (2, 1))
    policy = Policy(
        world.spec, PolicyConfig(encoder=EncoderConfig(), messages=None), {KIND: SoftRule({"log_near": 9.0})}
    )
    instances, seeds, generator = torch.tensor([0, 1]), torch.tensor([3, 4]), torch.Generator().manual_seed(0)
    copies = IntersectionsWorld(problem, 24, "sumo_rl")
    tried = branch_out(policy, world, copies, instances, seeds, every, horizon_s, generator).branches[KIND]
    first = int(torch.randint(every, (1,), generator=generator.manual_seed(0)))
    act, seen = GreedyActor(policy, alone.spec, 1), alone.reset(instances[1:], seeds[1:])
    for _ in range(first + every):
        seen = alone.step(act(seen)).observation
    begun, usual, mask = alone.snapshot(), act(seen)[KIND], seen.kinds[KIND].action_mask[0].clone()
    end = seen.time_s + horizon_s
    checked = (tried.decisions.moment == 3).nonzero().flatten().tolist()
    assert checked
    for d in checked:
        agent, costs = int(tried.decisions.agent[d]), []
        for phase in mask[agent].nonzero().flatten().tolist():
            alone.restore(begun)
            chosen = usual.clone()
            chosen[0, agent] = phase
            seen = alone.step({KIND: chosen}, end).observation
            while float(seen.time_s) < float(end):
                seen = alone.step(act(seen), end).observation
            costs.append(float(alone.lost()))
        own = slice(*tried.decisions.pointers[d : d + 2].tolist())
        np.testing.assert_allclose(tried.cost[own].numpy(), np.array(costs) - np.mean(costs), atol=1e-3)
        assert np.ptp(costs) > 0.1


def test_a_branch_of_a_city_goes_on_as_its_source_would() -> None:
    """To the bit, in another batch and another row; and what the copies lose is RESCO's delay of all trips."""
    problem = grid_problem()
    world, copies = IntersectionsWorld(problem, 2, "sumo_rl"), IntersectionsWorld(problem, 5, "sumo_rl")
    world.reset(torch.tensor([3, 5]), torch.tensor([1, 2]))
    chooses = torch.Generator().manual_seed(0)

    def actions(seen: Observation) -> torch.Tensor:
        mask = seen.kinds["signal"].action_mask.float().flatten(0, 1)
        return torch.multinomial(mask, 1, generator=chooses).reshape(seen.kinds["signal"].active.shape)

    seen = world.observe()
    for _ in range(40):
        seen = world.step({"signal": actions(seen)}).observation
    rows = torch.tensor([1, 0, 1, 1, 0])
    there = copies.branch(world, rows)
    for mine, other in ((there.time_s, seen.time_s), (there.kinds["signal"].own, seen.kinds["signal"].own)):
        assert torch.equal(mine, other[rows])
    for _ in range(40):
        chosen = actions(seen)
        seen = world.step({"signal": chosen}).observation
        copies.step({"signal": chosen[rows]})
    for name, values in world.metrics().items():
        np.testing.assert_array_equal(copies.metrics()[name].numpy(), values[rows].numpy(), err_msg=name)
    figures = world.metrics()
    due = figures["completed"] + figures["running"] + figures["never_inserted"]
    np.testing.assert_allclose(copies.lost(), (figures["resco_delay_s"] * due)[rows])
    assert isinstance(copies, Branching)
    for other in (IntersectionsWorld(problem, 2, "resco"), IntersectionsWorld(problem, 2, "sumo_rl", priorities=1)):
        with pytest.raises(WorldError, match="give both worlds one problem, timing"):
            copies.branch(other, rows)
