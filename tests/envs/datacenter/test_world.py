"""The data-centre world keeps the contract of worlds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.envs.core import Delivery, IllegalActionError
from fedsched.envs.core.check import check_world
from fedsched.envs.datacenter.exchange import DatacenterExchange, Market
from fedsched.envs.datacenter.generate import GeneratedWindows, LublinFeitelson
from fedsched.envs.datacenter.model import Cluster, DatacenterError, Jobs, SiteModel, Window
from fedsched.envs.datacenter.world import HOLD_ACTION, KIND, DatacenterWorld

SITES = {
    "one cluster": ((Cluster(24),), "event", False),
    "three unlike clusters": ((Cluster(24, 1.5), Cluster(16), Cluster(24, 0.5)), "event", False),
    "deferral": ((Cluster(24), Cluster(12)), "event", True),
    "committing": ((Cluster(24),), "committing", False),
}
FOREVER = float("inf")


def make(batch: int, site: str = "three unlike clusters", **options: Any) -> DatacenterWorld:
    clusters, engine, deferral = SITES[site]
    model = SiteModel(clusters, np.array([300.0, 90.0]), np.array([0.1, 0.4, 0.2]), deferral, 500.0, 1.0)
    return DatacenterWorld(model, Busy(), batch, engine, **options)


class Busy:
    """Generated windows with the gaps cut down, so that jobs queue."""

    def __init__(self) -> None:
        self._calm = GeneratedWindows(LublinFeitelson(24), 40, seed=1)

    def window(self, instance: int) -> Window:
        window = self._calm.window(self._calm.instance("train", instance))
        window.jobs.submit_s[:] /= 100.0
        return window


def make_for_processes(batch: int) -> DatacenterWorld:
    return make(batch)


def reset(world: DatacenterWorld, first: int = 0, **options: Any) -> Any:
    rows = torch.arange(first, first + world.batch)
    return world.reset(rows, rows, **options)


def first_legal(observation: Any) -> dict[str, torch.Tensor]:
    tokens = observation.kinds[KIND]
    return {KIND: torch.where(tokens.active, tokens.action_mask.int().argmax(2), HOLD_ACTION)}


def finish(world: DatacenterWorld, observation: Any) -> list[torch.Tensor]:
    """Rewards of all steps to the end."""
    rewards = []
    while bool(observation.kinds[KIND].alive.any()):
        moved = world.step(first_legal(observation))
        rewards.append(moved.reward[KIND].clone())
        observation = moved.observation
    return rewards


@pytest.mark.parametrize("site", SITES)
def test_it_keeps_the_contract(site: str) -> None:
    check_world(lambda batch: make(batch, site), instances=(0, 1, 2), steps=60)


def test_episodes_that_are_over_at_their_reset_keep_the_contract(
    make_site: Callable[..., SiteModel],
    make_jobs: Callable[..., Jobs],
    random_window: Callable[..., Window],
    listed: Any,
) -> None:
    lone = Window(make_jobs((0.0, 30.0, 30.0, 2)))
    workload = listed([lone, random_window(1), lone])
    world = DatacenterWorld(make_site(), workload, 3)
    assert reset(world).kinds[KIND].alive.tolist() == [[False], [True], [False]]
    check_world(lambda batch: DatacenterWorld(make_site(), workload, batch), instances=(0, 1, 2), steps=60)
    check_world(lambda batch: DatacenterWorld(make_site(), workload, batch), instances=(0, 2), steps=60)


def test_other_processes_play_the_same() -> None:
    entry = f"{Path(__file__)}:make_for_processes"
    check_world(make_for_processes, instances=(1, 4), steps=25, entry_point=entry)


def test_a_long_instance_beside_short_ones_changes_nothing() -> None:
    """Arrays grow while rows are in the middle of an episode."""
    alone = make(2)
    known = finish(alone, reset(alone))
    starts = alone.arrays.state["start"].clone()
    world = make(3)
    observation = reset(world)
    for _ in range(5):
        observation = world.step(first_legal(observation)).observation
    world.arrays.grow(500)
    observation = world.observe()
    later = finish(world, observation)
    np.testing.assert_array_equal(world.arrays.state["start"][:2, :40].numpy(), starts.numpy())
    assert len(known) <= len(later) + 5


def test_a_row_reset_alone_starts_afresh_and_the_others_go_on() -> None:
    world, other = make(3), make(3)
    observation, twin = reset(world), reset(other)
    for _ in range(6):
        observation = world.step(first_legal(observation)).observation
        twin = other.step(first_legal(twin)).observation
    where = torch.tensor([False, True, False])
    observation = world.reset(torch.tensor([7, 7, 7]), torch.tensor([0, 0, 0]), where)
    fresh = make(1)
    start = reset(fresh, 7)
    assert torch.equal(observation.kinds[KIND].entities[1], start.kinds[KIND].entities[0])
    assert torch.equal(observation.kinds[KIND].entities[[0, 2]], twin.kinds[KIND].entities[[0, 2]])
    assert torch.equal(observation.time_s[[0, 2]], twin.time_s[[0, 2]])
    # the reset counts nobody's reward twice
    moved, known = world.step(first_legal(observation)), fresh.step(first_legal(start))
    assert torch.equal(moved.reward[KIND][1], known.reward[KIND][0])


def test_until_stops_the_clock_and_nothing_else() -> None:
    whole = make(2)
    finish(whole, reset(whole))
    world = make(2)
    observation = reset(world, until_s=torch.zeros(2, dtype=torch.float64))
    assert observation.time_s.tolist() == [0.0, 0.0]
    assert not bool(observation.kinds[KIND].active.any())
    for stop in (500.0, 500.0, 4000.0, 9000.5, 1e5):
        until = torch.tensor([stop, stop / 2], dtype=torch.float64)
        while bool((observation.time_s < until).any()):
            moved = world.step(first_legal(observation), until)
            observation = moved.observation
            assert bool((observation.time_s <= until).all())
        assert observation.time_s.tolist() == until.tolist()
    finish(world, observation)
    assert torch.equal(world.arrays.state["start"], whole.arrays.state["start"])


def test_a_drained_site_idles_to_the_stop_and_pays_for_it() -> None:
    world = make(1)
    finish(world, reset(world))
    end = float(world.arrays.state["now"][0])
    again = make(1)
    observation = reset(again)
    until = torch.tensor([end + 7200.0], dtype=torch.float64)
    while float(observation.time_s[0]) < end + 7200.0:
        observation = again.step(first_legal(observation), until).observation
    idle_w = sum(cluster.pue * cluster.idle_w * cluster.processors for cluster in world.site.clusters)
    more = float(again.metrics()["energy_kwh"][0] - world.metrics()["energy_kwh"][0])
    assert more == pytest.approx(idle_w * 2 / 1000.0)
    assert not bool(again.arrays.state["terminated"][0])


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("stop", [False, True], ids=["first decision", "time 0"])
def test_rewards_of_an_episode_add_up_to_its_metrics(site: str, stop: bool) -> None:
    """Also what accrues before the first decision, over a snapshot and while other rows are reset."""
    world = make(3, site)
    until = torch.zeros(3, dtype=torch.float64) if stop else None
    reset(world, until_s=until)
    rows = torch.arange(3)
    world.reset(rows + 5, rows, torch.tensor([False, False, True]), until)
    early = world.arrays.state["total"].clone()
    # who may defer decides at time 0 already
    assert bool(early.any()) != (stop or site == "deferral")
    fresh = make(3, site)
    reset(fresh, 9)
    rewards = finish(fresh, fresh.restore(world.snapshot()))
    gained = torch.stack(rewards).double().sum((0, 2))
    metrics = fresh.metrics()
    for part, name in ((3, "energy_kwh"), (4, "carbon_kg"), (5, "cost")):
        np.testing.assert_allclose(-gained[:, part], metrics[name], rtol=1e-6)
    jobs, clusters = metrics["jobs"], len(SITES[site][0])
    np.testing.assert_allclose(-gained[:, 2] * 3600.0 / clusters, metrics["wait_s"] * jobs, rtol=1e-5)


def test_steps_after_a_rule_in_the_kernel_count_their_own_time_only() -> None:
    world = make(2)
    until = torch.full((2,), 500.0, dtype=torch.float64)
    reset(world)
    world.run_rules(["fcfs-easy", ""], until)
    assert world.arrays.state["now"][0] == 500.0
    before = world.arrays.state["total"].clone()
    before[1] = 0.0  # no rule ran there
    moved = world.step(first_legal(world.observe()))
    np.testing.assert_allclose(
        moved.reward[KIND].numpy(), (world.arrays.state["total"] - before).numpy(), rtol=1e-6, atol=1e-9
    )


def test_a_limit_truncates_and_leaves_the_last_observation() -> None:
    limit = 2000.0
    world, whole = make(2, limit_s=limit), make(2)
    observation = reset(world)
    while not bool((moved := world.step(first_legal(observation))).truncated.all()):
        observation = moved.observation
    assert moved.observation.time_s.tolist() == [limit, limit]
    assert not bool(moved.terminated[KIND].any())
    assert not bool(moved.observation.kinds[KIND].alive.any())
    assert bool(moved.observation.kinds[KIND].own.any())
    finish(whole, reset(whole))
    started = ~world.arrays.state["start"].isnan()
    assert torch.equal(world.arrays.state["start"][started], whole.arrays.state["start"][started])
    assert bool((whole.arrays.state["start"][~started] >= limit).all())
    assert_at_rest(world)


def assert_at_rest(world: DatacenterWorld) -> None:
    """All rows have ended: holding leaves them as they are, and every other action is refused."""
    clusters = len(world.site.clusters)
    still = world.step({KIND: torch.full((world.batch, clusters), HOLD_ACTION)})
    assert still.elapsed_s.tolist() == [0.0] * world.batch
    assert not bool(still.reward[KIND].any())
    for row in range(world.batch):
        for wrong in (0, 1, HOLD_ACTION + 1, -1):
            actions = torch.full((world.batch, clusters), HOLD_ACTION)
            actions[row, -1] = wrong
            with pytest.raises(IllegalActionError, match=f"world {row}: "):
                world.step({KIND: actions})


@pytest.mark.parametrize("rule", ["", "fcfs"])
@pytest.mark.parametrize("site", SITES)
def test_who_acts_after_the_end_is_refused(site: str, rule: str) -> None:
    """Also where a rule in the kernel left off in front of a decision."""
    world = make(2, site)
    observation = reset(world)
    if rule:
        world.run_rules([rule] * 2)
    else:
        finish(world, observation)
    assert_at_rest(world)


def test_a_snapshot_in_the_middle_after_deliveries_goes_on_exactly() -> None:
    exchange = DatacenterExchange(Market())
    world = make(2, "deferral")
    until = torch.full((2,), 400.0, dtype=torch.float64)
    observation = reset(world, until_s=until)
    while bool((observation.time_s < until).any()):
        observation = world.step(first_legal(observation), until).observation
    give = Delivery("give", "processor-hours", 10**6, (0, 3600), "peer")
    cargo = exchange.give(world, 0, [give])["peer"]
    assert len(cargo.jobs)
    exchange.take(world, 1, "peer", cargo)
    kept = world.snapshot()
    first = finish(world, world.observe())
    figures = {name: values.clone() for name, values in world.metrics().items()}
    fresh = make(2, "deferral")
    reset(fresh, 5)
    second = finish(fresh, fresh.restore(kept))
    assert len(first) == len(second)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(world.arrays.state["total"], fresh.arrays.state["total"])
    np.testing.assert_array_equal(world.arrays.state["start"].numpy(), fresh.arrays.state["start"].numpy())
    assert {name: values.tolist() for name, values in fresh.metrics().items()} == {
        name: values.tolist() for name, values in figures.items()
    }
    assert fresh.arrays.peers == ["peer"]


def test_an_illegal_action_is_named_and_the_world_lives_on() -> None:
    world = make(2)
    observation = reset(world)
    actions = first_legal(observation)
    row, c = observation.kinds[KIND].active.nonzero()[0].tolist()
    for wrong in (HOLD_ACTION, HOLD_ACTION - 1, HOLD_ACTION + 1, -1):
        bad = actions[KIND].clone()
        bad[row, c] = wrong
        if wrong == HOLD_ACTION and bool(observation.kinds[KIND].action_mask[row, c, HOLD_ACTION]):
            continue
        with pytest.raises(IllegalActionError, match=f"world {row}: "):
            world.step({KIND: bad})


def test_an_inactive_cluster_can_only_hold() -> None:
    world = make(1)
    observation = reset(world)
    while bool(observation.kinds[KIND].active.all()):
        observation = world.step(first_legal(observation)).observation
    actions = first_legal(observation)
    resting = (~observation.kinds[KIND].active[0]).nonzero()[0]
    actions[KIND][0, resting] = 0
    with pytest.raises(IllegalActionError, match="world 0"):
        world.step(actions)


def test_what_cannot_run_is_refused(
    make_site: Callable[..., SiteModel], random_window: Callable[..., Window], listed: Any
) -> None:
    with pytest.raises(DatacenterError, match="instance 0: a job needs 6 processors, the widest cluster has 4"):
        reset(DatacenterWorld(SiteModel((Cluster(4), Cluster(3))), listed([random_window(0)]), 1))
    with pytest.raises(DatacenterError, match="at least one copy, got batch=0"):
        DatacenterWorld(make_site(), listed([]), 0)
    for site in (make_site(2), make_site(1, deferral=True)):
        with pytest.raises(DatacenterError, match="one cluster and no deferral"):
            DatacenterWorld(site, listed([]), 1, "committing")
    world = make(1)
    reset(world)
    with pytest.raises(DatacenterError, match="unknown rule"):
        world.run_rules(["sjff"])
    with pytest.raises(DatacenterError, match="linear scores"):
        make(1, "committing").run_linear(torch.zeros(1, 2, 13))


def test_the_spec_names_what_the_tokens_hold() -> None:
    world = make(2)
    kind, tokens = world.spec.kinds[0], reset(world).kinds[KIND]
    assert kind.agents == ("cluster_0", "cluster_1", "cluster_2")
    assert tokens.own.shape == (2, 3, len(kind.own))
    assert tokens.entities.shape == (2, 3, kind.entities, len(kind.entity))
    assert tokens.action_mask.shape == (2, 3, kind.actions)
    assert world.spec.neighbours.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert make(1, "one cluster").spec.neighbours.shape == (1, 0)
    assert tuple(world.metrics()) == world.spec.metrics
