"""The kernels against their slow twin, start time by start time."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from fedsched.envs.datacenter.model import VISIBLE_JOBS, Cluster, Jobs, SiteModel, Window
from fedsched.envs.datacenter.reference import (
    HOLD,
    Choose,
    Decision,
    by_rule,
    simulate_committing,
    simulate_event,
    simulate_rule,
)
from fedsched.envs.datacenter.rules import Rule
from fedsched.envs.datacenter.schedule import Schedule, reward_parts
from fedsched.envs.datacenter.trace import load
from fedsched.envs.datacenter.workload import LogWindows
from fedsched.envs.datacenter.world import HOLD_ACTION, JOB_FEATURES, KIND, OWN_FEATURES, DatacenterWorld

NINE = [rule.label for rule in Rule if "published" not in rule.label]
EVENT_RULES = [f"{rule}{easy}" for rule in NINE for easy in ("", "-easy")]
COMMITTING_RULES = [rule.label for rule in Rule]


def reset(world: DatacenterWorld, **options: Any) -> Any:
    rows = torch.arange(world.batch)
    return world.reset(rows, rows, **options)


def assert_equal(world: DatacenterWorld, row: int, plan: Schedule, site: SiteModel, window: Window, note: str) -> None:
    """Every start and cluster exactly, the reward parts to rounding."""
    count = len(plan.jobs)
    np.testing.assert_array_equal(world.arrays.state["start"][row, :count].numpy(), plan.start_s, note)
    np.testing.assert_array_equal(world.arrays.state["cluster"][row, :count].numpy(), plan.cluster, note)
    assert float(world.arrays.state["now"][row]) == plan.clock_s, note
    parts = reward_parts(plan, site, window.start_hour)
    np.testing.assert_allclose(world.arrays.state["total"][row].numpy(), parts, rtol=1e-9, atol=1e-12, err_msg=note)


def check_rules(make_world: Callable[..., DatacenterWorld], site: SiteModel, windows: Sequence[Window]) -> None:
    """All rules on all windows in one batch, row by row against the slow twin."""
    cases = [(window, rule) for window in windows for rule in EVENT_RULES]
    world = make_world(site, [window for window, _ in cases])
    reset(world)
    world.run_rules([rule for _, rule in cases])
    assert bool(world.arrays.state["terminated"].all())
    for row, (window, rule) in enumerate(cases):
        assert_equal(world, row, simulate_rule(window, site, rule), site, window, f"row {row}: {rule}")


# Rules inside the kernels


@pytest.mark.parametrize("deferral", [False, True])
@pytest.mark.parametrize("clusters", [1, 2, 3])
def test_rules_on_random_instances(
    clusters: int,
    deferral: bool,
    make_world: Callable[..., DatacenterWorld],
    make_site: Callable[..., SiteModel],
    random_window: Callable[..., Window],
) -> None:
    check_rules(make_world, make_site(clusters, deferral), [random_window(seed) for seed in range(12)])


@pytest.mark.parametrize("log", ["lublin-1", "hpc2n"])
@pytest.mark.parametrize("clusters", [1, 2, 3])
def test_rules_on_windows_of_the_shipped_logs(
    log: str, clusters: int, make_world: Callable[..., DatacenterWorld]
) -> None:
    trace = load(log)
    machines = (Cluster(trace.processors), Cluster(trace.processors // 2, 1.7), Cluster(trace.processors // 3, 0.6))
    site = SiteModel(machines[:clusters], np.array([300.0, 120.0, 500.0]), np.array([0.1, 0.3]))
    windows = LogWindows(trace, 150 * clusters)
    check_rules(make_world, site, [windows.window(windows.instance("validation", k)) for k in range(2)])


@pytest.mark.parametrize("backfill", [False, True])
def test_the_committing_engine_on_random_and_logged_windows(
    backfill: bool,
    make_world: Callable[..., DatacenterWorld],
    make_site: Callable[..., SiteModel],
    random_window: Callable[..., Window],
) -> None:
    # The published engine has one cluster of the log's speed.
    site = SiteModel((Cluster(6),), make_site().carbon_g_per_kwh, make_site().price_per_kwh)
    lublin = LogWindows(load("lublin-1"), 150)
    whole = SiteModel((Cluster(256),), site.carbon_g_per_kwh, site.price_per_kwh)
    logged = [lublin.window(lublin.instance("validation", k)) for k in range(2)]
    for model, windows in ((site, [random_window(seed) for seed in range(20)]), (whole, logged)):
        cases = [(window, rule) for window in windows for rule in COMMITTING_RULES]
        world = make_world(model, [window for window, _ in cases], engine="committing", backfill=backfill)
        reset(world)
        world.run_rules([rule for _, rule in cases])
        for row, (window, rule) in enumerate(cases):
            choose = by_rule(window.jobs, rule, window.origin_s)
            plan = simulate_committing(window.jobs, model.widest, choose, backfill)
            assert_equal(world, row, plan, model, window, f"row {row}: {rule}")


def test_a_stop_in_the_middle_and_going_on(
    make_world: Callable[..., DatacenterWorld],
    make_site: Callable[..., SiteModel],
    random_window: Callable[..., Window],
) -> None:
    site, windows = make_site(2), [random_window(seed) for seed in range(16)]
    until = torch.tensor([3.0 + 5 * k for k in range(16)], dtype=torch.float64)
    world = make_world(site, windows)
    reset(world, until_s=until / 2)
    rules = [EVENT_RULES[k % len(EVENT_RULES)] for k in range(16)]
    world.run_rules(rules, until)
    for row, window in enumerate(windows):
        plan = simulate_rule(window, site, rules[row], until_s=float(until[row]))
        assert_equal(world, row, plan, site, window, rules[row])
    world.run_rules(rules)
    for row, window in enumerate(windows):
        whole = simulate_rule(window, site, rules[row])
        np.testing.assert_array_equal(world.arrays.state["start"][row, : len(whole.jobs)].numpy(), whole.start_s)


# Choices through slots


def shown_jobs(world: DatacenterWorld, row: int) -> list[int]:
    """The job in every slot: of a long queue the head and the tail."""
    queue = world.arrays.state["queue"][row, : int(world.arrays.state["queued"][row])].tolist()
    half = VISIBLE_JOBS // 2
    return queue if len(queue) <= VISIBLE_JOBS else queue[:half] + queue[-half:]


def at_random(seed: int) -> Choose:
    """Any legal action, a function of the decision alone."""

    def choose(decision: Decision) -> int:
        options = (*decision.legal, HOLD) if decision.may_hold else decision.legal
        key = f"{seed} {decision.now_s} {decision.cluster} {decision.stage} {decision.legal}"
        return options[zlib.crc32(key.encode()) % len(options)]

    return choose


def play(world: DatacenterWorld, choosers: Sequence[Choose]) -> tuple[np.ndarray, int]:
    """Every row by its chooser to its end; the totals of the rewards and the longest queue that was seen."""
    observation = reset(world)
    gained, longest = np.zeros(tuple(world.arrays.state["total"].shape)), 0
    for _ in range(100_000):
        tokens = observation.kinds[KIND]
        if not bool(tokens.alive.any()):
            return gained, longest
        actions = torch.full(tokens.active.shape, HOLD_ACTION)
        for row, c in tokens.active.nonzero().tolist():
            slots, mask = shown_jobs(world, row), tokens.action_mask[row, c]
            longest = max(longest, int(world.arrays.state["queued"][row]))
            legal = tuple(job for slot, job in enumerate(slots) if mask[slot])
            stage = int(world.arrays.state["stage"][row, c])
            now, may_hold = float(observation.time_s[row]), bool(mask[HOLD_ACTION])
            pick = choosers[row](Decision(now, c, stage, tuple(slots), legal, may_hold))
            actions[row, c] = HOLD_ACTION if pick == HOLD else slots.index(pick)
        moved = world.step({KIND: actions})
        gained += moved.reward[KIND].numpy()
        observation = moved.observation
    raise AssertionError("an episode does not end")


@pytest.mark.parametrize(("clusters", "deferral"), [(1, False), (1, True), (2, True), (3, False), (3, True)])
def test_random_choices_through_slots(
    clusters: int,
    deferral: bool,
    make_world: Callable[..., DatacenterWorld],
    make_site: Callable[..., SiteModel],
    random_window: Callable[..., Window],
) -> None:
    # Hours pass between jobs where holding defers, so that the wake-ups are met too.
    site, windows = make_site(clusters, deferral), [random_window(seed, span_s=60) for seed in range(8)]
    if deferral:
        windows = [stretched(window, 997.0) for window in windows]
    world = make_world(site, windows)
    gained, _ = play(world, [at_random(seed) for seed in range(8)])
    for row, window in enumerate(windows):
        plan = simulate_event(window.jobs, site, at_random(row))
        assert_equal(world, row, plan, site, window, f"row {row}")
        np.testing.assert_allclose(gained[row], reward_parts(plan, site, window.start_hour), rtol=1e-4, atol=1e-5)


def stretched(window: Window, factor: float) -> Window:
    jobs = window.jobs
    longer = Jobs(
        jobs.submit_s * factor, jobs.run_s * factor, jobs.estimate_s * factor, jobs.processors, jobs.id, jobs.user
    )
    return Window(longer, window.start_hour, window.log, window.origin_s)


@pytest.mark.parametrize("backfill", [False, True])
def test_random_choices_of_the_committing_engine(
    backfill: bool, make_world: Callable[..., DatacenterWorld], random_window: Callable[..., Window]
) -> None:
    site, windows = SiteModel((Cluster(6),)), [random_window(seed) for seed in range(8)]
    world = make_world(site, windows, engine="committing", backfill=backfill)
    play(world, [at_random(seed) for seed in range(8)])
    for row, window in enumerate(windows):
        plan = simulate_committing(window.jobs, 6, at_random(row), backfill)
        assert_equal(world, row, plan, site, window, f"row {row}")


@pytest.mark.parametrize("clusters", [1, 2])
def test_of_a_long_queue_the_head_and_the_tail_are_shown(
    clusters: int,
    make_world: Callable[..., DatacenterWorld],
    make_site: Callable[..., SiteModel],
    random_window: Callable[..., Window],
) -> None:
    site, windows = make_site(clusters), [random_window(seed, count=190, span_s=40) for seed in range(3)]
    world = make_world(site, windows)
    _, longest = play(world, [at_random(seed) for seed in range(3)])
    assert longest > VISIBLE_JOBS + 30
    for row, window in enumerate(windows):
        plan = simulate_event(window.jobs, site, at_random(row))
        assert_equal(world, row, plan, site, window, f"row {row}")


def test_the_tokens_of_a_slot_are_those_of_its_job(
    make_world: Callable[..., DatacenterWorld],
    make_site: Callable[..., SiteModel],
    random_window: Callable[..., Window],
) -> None:
    window = random_window(3, count=190, span_s=1)
    site = make_site(2)
    world = make_world(site, [window])
    tokens = reset(world).kinds[KIND]
    slots = shown_jobs(world, 0)
    assert tokens.entity_mask[0].sum(1).tolist() == [VISIBLE_JOBS] * 2
    assert slots[63] + 1 != slots[64]
    need, estimate = window.jobs.processors[slots], window.jobs.estimate_s[slots]
    for c, cluster in enumerate(site.clusters):
        seen = {name: tokens.entities[0, c, :, f].numpy() for f, name in enumerate(JOB_FEATURES)}
        np.testing.assert_allclose(seen["width_share"], need / cluster.processors, rtol=1e-6)
        np.testing.assert_allclose(seen["log_estimate"], np.log1p(estimate / cluster.speed) / 16, rtol=1e-6)
        np.testing.assert_allclose(seen["log_wait"], np.log1p(float(world.arrays.state["now"][0])) / 16, atol=1e-6)
        assert seen["fits"].tolist() == (need <= int(world.arrays.state["free"][0, c])).astype(float).tolist()
        own = dict(zip(OWN_FEATURES, tokens.own[0, c].tolist(), strict=True))
        assert own["free_share"] == pytest.approx(int(world.arrays.state["free"][0, c]) / cluster.processors)
        assert own["speed"] == cluster.speed
        assert own["log_queue"] == pytest.approx(np.log1p(int(world.arrays.state["queued"][0])) / 16)


# Rules read off the observation


def by_feature(world: DatacenterWorld, name: str) -> Any:
    """The legal job with the smallest feature, the first of equals; no hold."""
    place = JOB_FEATURES.index(name)

    def act(observation: Any) -> torch.Tensor:
        tokens = observation.kinds[KIND]
        key = torch.where(tokens.action_mask[..., :VISIBLE_JOBS], tokens.entities[..., place], torch.inf)
        return torch.where(tokens.active, key.argmin(2), HOLD_ACTION)

    observation = reset(world)
    for _ in range(100_000):
        if not bool(observation.kinds[KIND].alive.any()):
            break
        observation = world.step({KIND: act(observation)}).observation
    return world.arrays.state["start"].clone()


@pytest.mark.parametrize(("feature", "rule"), [("log_estimate", "sjf-easy"), ("log_area", "saf-easy")])
@pytest.mark.parametrize("clusters", [1, 3])
def test_a_rule_read_off_the_observation_is_the_rule_in_the_kernel(
    feature: str,
    rule: str,
    clusters: int,
    make_world: Callable[..., DatacenterWorld],
    make_site: Callable[..., SiteModel],
    random_window: Callable[..., Window],
) -> None:
    site, windows = make_site(clusters), [random_window(seed) for seed in range(20)]
    slow = make_world(site, windows)
    fast = make_world(site, windows)
    reset(fast)
    fast.run_rules([rule] * len(windows))
    assert torch.equal(by_feature(slow, feature), fast.arrays.state["start"])


@pytest.mark.parametrize("deferral", [False, True])
def test_linear_scores_in_the_kernel_equal_those_through_slots(
    deferral: bool,
    make_world: Callable[..., DatacenterWorld],
    make_site: Callable[..., SiteModel],
    random_window: Callable[..., Window],
) -> None:
    site, windows = make_site(3, deferral), [stretched(random_window(seed), 97.0) for seed in range(12)]
    features = len(JOB_FEATURES)
    rng = np.random.default_rng(2)
    weights = torch.zeros((len(windows), 2, features + 1))
    for row in range(len(windows)):
        # one feature in each stage: a sum of several may round differently in the two places
        weights[row, 0, int(rng.integers(features))] = float(rng.normal())
        weights[row, :, features] = torch.tensor(rng.normal(scale=0.2, size=2), dtype=torch.float32)
    fast, slow = make_world(site, windows), make_world(site, windows)
    reset(fast)
    # a score may prefer to hold for ever
    until = torch.full((len(windows),), 6.0e4, dtype=torch.float64)
    fast.run_linear(weights, until)
    observation = reset(slow)
    while bool(((tokens := observation.kinds[KIND]).alive.any(1) & (observation.time_s < until)).any()):
        stage = tokens.own[:, :, OWN_FEATURES.index("stage")]
        mixed = weights[:, None, 0] + stage[..., None] * weights[:, None, 1]
        score = torch.einsum("bcnf,bcf->bcn", tokens.entities, mixed[..., :features])
        score = torch.cat([score, mixed[..., features:]], 2)
        best = torch.where(tokens.action_mask, score, -torch.inf).argmax(2)
        observation = slow.step({KIND: torch.where(tokens.active, best, HOLD_ACTION)}, until).observation
    np.testing.assert_array_equal(fast.arrays.state["start"].numpy(), slow.arrays.state["start"].numpy())
    assert torch.equal(fast.arrays.state["total"], slow.arrays.state["total"])
