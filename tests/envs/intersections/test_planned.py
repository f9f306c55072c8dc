"""A slower level of plans beside the signals keeps the contract of worlds and its own laws."""

import importlib.util
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from fedsched.envs.core import IllegalActionError, WorldError
from fedsched.envs.core.check import check_world
from fedsched.envs.intersections.chains import find_chains
from fedsched.envs.intersections.generate import Arterial, Traffic, generated_problem
from fedsched.envs.intersections.planned import PlannedWorld
from fedsched.envs.intersections.planned_view import CHOICE_FEATURES, OWN_FEATURES, PLANNER, SIGNAL_FEATURES
from fedsched.envs.intersections.plans import PLANS, Planner
from fedsched.envs.intersections.problem import Problem, grid_problem
from fedsched.envs.intersections.splits import fair_shares, used_phases, whole_seconds
from fedsched.envs.intersections.sumo.world import SumoWorld
from fedsched.envs.intersections.timing import named_timing
from fedsched.envs.intersections.world import KIND, REWARD_PARTS, IntersectionsWorld

KEEP = len(PLANS)


@cache
def problem() -> Problem:
    return grid_problem(3)


def make(batch: int, timing: str = "sumo_rl", period_s: int = 20) -> PlannedWorld:
    return PlannedWorld(IntersectionsWorld(problem(), batch, timing), period_s)


def reset(world: PlannedWorld) -> Any:
    rows = torch.arange(world.batch)
    return world.reset(rows % 3, rows)


def act(world: PlannedWorld, observation: Any, plan: int, turn: int) -> dict[str, torch.Tensor]:
    """A plan where planners must decide; phases by turns where signals must."""
    count = torch.tensor([len(signal.phases) for signal in world.world.problem.signals])
    chosen = (torch.arange(len(count)) + turn) % count
    signals, planners = observation.kinds[KIND].active, observation.kinds[PLANNER].active
    idle = world.spec.kind(KIND).idle
    return {KIND: torch.where(signals, chosen, idle), PLANNER: torch.where(planners, plan, KEEP)}


def seconds(world: PlannedWorld, last: int, plan: int) -> Iterator[Any]:
    """Transitions of one second each, phases changing every 10 s."""
    observation = reset(world)
    for now in range(1, last + 1):
        until = torch.full((world.batch,), float(now), dtype=torch.float64)
        moved = world.step(act(world, observation, plan, (now - 1) // 10), until)
        observation = moved.observation
        yield moved


@pytest.mark.parametrize("timing", ["sumo_rl", "free"])
def test_the_contract_is_kept(timing: str) -> None:
    check_world(lambda batch: make(batch, timing), steps=12)


def test_what_is_planned_and_owed_is_what_a_slow_count_says() -> None:
    world, plan = make(1, "resco", 75), PLANS.index("even-along")
    account: list[list[tuple[int, int]]] = [[] for _ in problem().signals]
    changes = 0
    for now, moved in enumerate(seconds(world, 160, plan), 1):
        shown, cycle, offset = (world.state[name][0].tolist() for name in ("shown", "cycle", "offset"))
        tokens = moved.observation.kinds[KIND].actions[0, :, :, -2:]
        for a, own in enumerate(account):
            if now - 1 in (0, 75, 150):
                own.clear()  # another plan
            windows = [n for n, length in enumerate(shown[a]) for _ in range(length)]
            own.append((windows[(now - 1 - offset[a]) % cycle[a]], int(world.world.control["target"][0, a])))
            if (now - offset[a]) % cycle[a] == 0:
                own.clear()
                changes += 1
            owed = [sum((p == n) - (g == n) for p, g in own) / cycle[a] for n in range(len(shown[a]))]
            np.testing.assert_allclose(tokens[a, :-1, 1], owed, atol=1e-6)
            planned = windows[(now - offset[a]) % cycle[a]]
            assert tokens[a, :, 0].tolist() == [float(n == planned) for n in range(len(shown[a]) + 1)]
            assert abs(float(tokens[a, :, 1].sum())) < 1e-6
    assert changes > 20


def test_without_a_plan_nothing_is_planned_or_owed() -> None:
    world = make(1)
    for moved in seconds(world, 60, PLANS.index("none")):
        assert not bool(moved.observation.kinds[KIND].actions[..., -2:].any())


def test_the_streets_do_not_feel_the_plan() -> None:
    world, bare = make(1, "resco"), IntersectionsWorld(problem(), 1, "resco")
    observation, plain = reset(world), bare.reset(torch.tensor([0]), torch.tensor([0]))
    for step in range(20):
        actions = act(world, observation, 5, step)
        observation = world.step(actions).observation
        plain = bare.step({KIND: actions[KIND]}).observation
        assert torch.equal(observation.kinds[KIND].entities, plain.kinds[KIND].entities)
        assert torch.equal(observation.kinds[KIND].actions[..., :-2], plain.kinds[KIND].actions)


def test_stops_in_between_change_nothing() -> None:
    cut, whole = make(2, "resco", 60), make(2, "resco", 60)
    *_, last = seconds(cut, 120, 4)
    observation, earned = reset(whole), torch.zeros(2, 3, len(REWARD_PARTS))
    while float(observation.time_s[0]) < 120:
        moved = whole.step(act(whole, observation, 4, int(observation.time_s[0]) // 10))
        observation, earned = moved.observation, earned + moved.reward[PLANNER]
    for name, column in whole.state.items():
        torch.testing.assert_close(column, cut.state[name], rtol=0, atol=0)
    for name in ("own", "actions", "action_mask", "active"):
        same = [getattr(one.kinds[KIND], name) for one in (observation, last.observation)]
        assert torch.equal(*same), name
    totals = whole.world.counts["total"].reshape(2, 3, 3, -1).sum(2)
    torch.testing.assert_close(earned.double(), totals, rtol=1e-4, atol=1e-2)


def test_planners_see_what_has_passed_and_what_stands() -> None:
    world = make(1, "resco", 100)
    *_, moved = seconds(world, 100, 1)
    total = world.world.counts["total"][0, :, REWARD_PARTS.index("throughput")]
    passed = world._passed()[0].sum(1)
    assert passed.tolist() == total.tolist()
    assert int(passed.sum()) > 50
    standing = (4 * moved.observation.kinds[KIND].entities[0, ..., 0].double()).expm1().round().sum(1)
    planners = moved.observation.kinds[PLANNER]
    assert bool(planners.active.all())
    flow = planners.entities[0, ..., SIGNAL_FEATURES.index("flow")].flatten()
    torch.testing.assert_close(flow.double(), 2 * (passed + standing) / 100, rtol=1e-5, atol=0)
    current = planners.actions[0, :, :, CHOICE_FEATURES.index("current")]
    assert current.nonzero().tolist() == [[0, 1], [1, 1], [2, 1]]


def test_plans_fill_their_cycles_and_serve_everybody() -> None:
    own, generator = problem(), torch.Generator().manual_seed(0)
    planner = Planner(own, find_chains(own), named_timing("resco"))
    shape = (4, len(own.signals), own.movements)
    flow = 0.4 * torch.rand(shape, generator=generator, dtype=torch.float64) ** 2
    plans, load = planner.plans(flow, 20 * torch.rand(shape, generator=generator, dtype=torch.float64))
    assert torch.equal(plans.shown.sum(-1), plans.cycle)
    assert bool((plans.cycle[:, :, 0] == 0).all())
    assert bool(((plans.cycle[:, :, 1:] >= 18) & (plans.cycle[:, :, 1:] <= 120)).all())
    used = plans.shown > 0
    assert bool((plans.shown[used] >= 9).all())
    served = torch.einsum("bakn,ane->bake", used[:, :, 1:].double(), (planner.serves > 0).double())
    there = torch.as_tensor(own.served).amax(1) > 0
    assert bool((served[:, :, :, :] > 0)[:, there.nonzero()[:, 0], :, there.nonzero()[:, 1]].all())
    assert bool((load > 0).all())
    common = plans.cycle[:, :, PLANS.index("flow-along")].reshape(4, 3, 3)
    assert bool((common == common[:, :, :1]).all())


@pytest.mark.parametrize(("wave", "order"), [("along", 1), ("against", -1)])
def test_greens_of_a_wave_begin_when_those_come_who_started_with_the_last(wave: str, order: int) -> None:
    uneven = generated_problem(Arterial(crossings=4, unevenness=0.4), Traffic(seconds=60), seed=3)
    begins = set()
    for own in (uneven, problem()):
        chains = find_chains(own)
        planner = Planner(own, chains, named_timing("resco"))
        shape = (1, len(own.signals), own.movements)
        flow = 0.02 + 0.2 * torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        plans, k = planner.plans(flow, flow)[0], PLANS.index(f"main-{wave}")
        times = {(way.source, way.target): way.time_s for way in own.between}
        for chain in chains:
            starts, direction = {}, chain.along if order > 0 else chain.against
            for a, e in zip(chain.signals, direction.movement, strict=True):
                shown = plans.shown[0, a, k].tolist()
                served = [shown[n] * float(planner.serves[a, n, e]) for n in range(len(shown))]
                begin = sum(shown[: served.index(max(served))])
                begins.add(begin)
                starts[a] = int(plans.offset[0, a, k]) + begin
            cycle = int(plans.cycle[0, chain.signals[0], k])
            for one, other in pairwise(chain.signals[::order]):
                gap = (starts[other] - starts[one] - times[one, other]) % cycle
                assert min(gap, cycle - gap) <= 1.0, (one, other)  # whole seconds
    assert len(begins) > 3


def test_chains_are_the_roads_that_lead_straight_on() -> None:
    assert [way.signals for way in find_chains(problem())] == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    apart = find_chains(problem(), [0, 0, 1, 0, 0, 1, 0, 0, 1])
    assert [way.signals for way in apart] == [(0, 1), (2, 5, 8), (3, 4), (6, 7)]
    for way in apart:
        for direction, chain in ((way.along, way.signals), (way.against, way.signals[::-1])):
            movements = direction.movement if direction is way.along else direction.movement[::-1]
            for n, (a, e) in enumerate(zip(chain, movements, strict=True)):
                if 0 < n < len(chain) - 1:
                    assert problem().flow.source[a, e] == chain[n - 1]
                    assert problem().flow.target[a, e] == chain[n + 1]


def test_shares_are_websters_where_phases_do_not_overlap() -> None:
    serves = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.float64)
    share = fair_shares(torch.tensor([0.3, 0.05, 0.2, 0.1, 0.0], dtype=torch.float64), serves)
    torch.testing.assert_close(share, torch.tensor([0.5, 2 / 6, 1 / 6], dtype=torch.float64), atol=1e-4, rtol=0)
    used = used_phases(share, serves)
    assert whole_seconds(share, used, torch.tensor(72), 4, 5).tolist() == [34, 24, 14]
    assert whole_seconds(share, used, torch.tensor(31), 4, 5).tolist() == [12, 10, 9]


def test_shares_of_overlapping_phases_are_nearly_the_best() -> None:
    own, generator = problem(), np.random.default_rng(0)
    planner = Planner(own, find_chains(own), named_timing("resco"))
    load = torch.as_tensor(generator.uniform(0.02, 0.5, (20, len(own.signals), own.movements)))
    share = fair_shares(load, planner.serves)
    green = (share[..., None] * planner.serves).sum(-2)
    for b in range(20):
        serves, wanted = planner.serves[0].numpy(), load[b, 0].numpy()
        # most t with sum_n s_ne x_n >= t y_e and sum x = 1
        over = np.concatenate([-serves.T, wanted[:, None]], 1)
        best = linprog([0.0] * len(serves) + [-1.0], over, np.zeros(len(wanted)), [[1.0] * len(serves) + [0.0]], [1.0])
        assert float((green[b, 0] / load[b, 0]).min()) > 0.9 * -best.fun


def test_a_branch_goes_on_as_its_source() -> None:
    world, copies = make(2, "resco", 40), make(4, "resco", 40)
    *_, moved = seconds(world, 55, 6)
    observation, rows = moved.observation, torch.tensor([1, 0, 1, 1])
    there = copies.branch(world, rows)
    for step in range(6):
        observation = world.step(act(world, observation, 3, step)).observation
        there = copies.step(act(copies, there, 3, step)).observation
        for name in (KIND, PLANNER):
            for one in ("own", "entities", "actions", "action_mask"):
                assert torch.equal(getattr(there.kinds[name], one), getattr(observation.kinds[name], one)[rows])
    assert torch.equal(copies.lost(), world.lost()[rows])
    with pytest.raises(WorldError, match="plans every 30 s"):
        make(4, "resco", 30).branch(world, rows)


@pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="the extra `sumo` is not installed")
def test_plans_run_beside_sumo() -> None:
    own = generated_problem(Arterial(crossings=2), Traffic(vehicles_per_h=2400.0, seconds=120), seed=3)
    with SumoWorld(own, 1, "resco") as streets:
        world = PlannedWorld(streets, 40)
        observation = first = world.reset(torch.tensor([0]), torch.tensor([5]))
        kept = {name: {f: v.clone() for f, v in vars(tokens).items()} for name, tokens in first.kinds.items()}
        for step in range(6):
            observation = world.step(act(world, observation, PLANS.index("flow-along"), step)).observation
        planners = observation.kinds[PLANNER]
        assert float(planners.own[0, 0, OWN_FEATURES.index("flow")]) > 0
        assert bool((world.state["cycle"] > 0).all())
        restored = world.restore(world.snapshot())
        for name, fields in kept.items():
            for field, value in fields.items():
                assert torch.equal(getattr(restored.kinds[name], field), value), (name, field)


def test_what_cannot_be_planned_is_named() -> None:
    with pytest.raises(WorldError, match="the timing 'program' leaves them to programs"):
        make(1, "program")
    with pytest.raises(WorldError, match="plans every 0 s"):
        make(1, "resco", 0)
    world = make(1)
    observation = reset(world)
    actions = act(world, observation, 1, 0)
    with pytest.raises(IllegalActionError, match="planners act, too"):
        world.step({KIND: actions[KIND]})
    with pytest.raises(IllegalActionError, match=r"world 0, chain .*: plan 13 is illegal; legal: \[0, 1, 2"):
        world.step({**actions, PLANNER: torch.full((1, 3), KEEP)})
