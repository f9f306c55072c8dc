"""Laws of the exchange: what a giver hands over, that nothing is lost, and from when waits count."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedsched.envs.core import Delivery, stream
from fedsched.envs.datacenter.exchange import RESOURCE, DatacenterExchange, Market, Records, records
from fedsched.envs.datacenter.generate import data_mb
from fedsched.envs.datacenter.model import Cluster, DatacenterError, Jobs, SiteModel, Window
from fedsched.envs.datacenter.world import DatacenterWorld

EPOCH = 3600
ROWS = 2
SPEEDS = {"north": 1.0, "south": 2.0, "east": 0.5}
EXCHANGE = DatacenterExchange(Market())


def make_window(seed: int, log: str, jobs: int = 60) -> Window:
    """Four hours of jobs for a machine of 8 processors, three times as many as it can do in that time."""
    rng = np.random.default_rng(seed)
    submit = np.sort(rng.uniform(0, 4 * EPOCH, jobs)).round(1)
    run = rng.uniform(60, 3000, jobs).round(1)
    estimate = (run * rng.uniform(1, 2, jobs)).round(1)
    need = rng.integers(1, 9, jobs)
    return Window(Jobs(submit, run, estimate, need, np.arange(jobs) + 1, np.full(jobs, -1)), 5, log)


def make_world(log: str, seed: int, speed: float = 1.0, median_mb: float = 200.0) -> DatacenterWorld:
    site = SiteModel(
        (Cluster(8, speed),), np.full(24, 300.0), np.full(24, 0.1), data_median_mb=median_mb, data_sigma=1.0
    )

    class Rows:
        def window(self, instance: int) -> Window:
            return make_window(100 * seed + instance, log)

    world = DatacenterWorld(site, Rows(), ROWS)
    rows = torch.arange(ROWS)
    world.reset(rows, rows, until_s=torch.zeros(ROWS, dtype=torch.float64))
    return world


@pytest.fixture
def busy() -> DatacenterWorld:
    """Two hours in, with a long queue."""
    world = make_world("busy", 1)
    advance(world, 2.0 * EPOCH)
    assert int(world.arrays.state["queued"].min()) > 10
    return world


def advance(world: DatacenterWorld, until_s: float) -> None:
    world.run_rules(["fcfs-easy"] * ROWS, torch.full((ROWS,), until_s, dtype=torch.float64))


def queue(world: DatacenterWorld, row: int) -> list[int]:
    return world.arrays.state["queue"][row, : int(world.arrays.state["queued"][row])].tolist()


def column(world: DatacenterWorld, name: str, jobs: list[int], row: int = 0) -> np.ndarray:
    return world.arrays.jobs[name][row, jobs].numpy()


def give(
    peer: str, quantity: int, latency_s: float = 0.0, bandwidth_bps: float = float("inf"), **limits: int
) -> Delivery:
    window = (2 * EPOCH, 3 * EPOCH)
    return Delivery("give", RESOURCE, quantity, window, peer, tuple(sorted(limits.items())), bandwidth_bps, latency_s)


# What the giver hands over


@pytest.mark.parametrize("quantity", [0, 1, 2, 3, 5, 8, 13, 1000])
def test_whole_jobs_in_queue_order_never_above_the_quantity(busy: DatacenterWorld, quantity: int) -> None:
    before = queue(busy, 0)
    ids = column(busy, "id", before).tolist()
    area = column(busy, "estimate", before) * column(busy, "processors", before)
    cargo = EXCHANGE.give(busy, 0, [give("peer", quantity)]).get("peer")
    given = [] if cargo is None else cargo.jobs.id.tolist()
    assert given == [number for number in ids if number in given]
    assert len(set(given)) == len(given)
    assert sum(area[ids.index(number)] for number in given) <= quantity * 3600.0
    assert bool(given) == (quantity > 0)
    assert [busy.arrays.jobs["id"][0, job] for job in queue(busy, 0)] == [n for n in ids if n not in given]
    if cargo is not None:
        place = [before[ids.index(number)] for number in given]
        assert cargo.jobs.run_s.tolist() == column(busy, "run", place).tolist()
        assert cargo.jobs.estimate_s.tolist() == column(busy, "estimate", place).tolist()
        assert cargo.jobs.processors.tolist() == column(busy, "processors", place).tolist()
        assert cargo.first_submit_s.tolist() == column(busy, "submit", place).tolist()


@pytest.mark.parametrize(
    ("limits", "inside"),
    [
        ({"width": 4}, lambda width, _: width <= 4),
        ({"width": 6, "width_above": 2}, lambda width, _: 2 < width <= 6),
        ({"estimate_s": 1800}, lambda _, estimate: estimate <= 1800),
    ],
)
def test_every_job_is_inside_the_limits(
    busy: DatacenterWorld, limits: dict[str, int], inside: Callable[[int, float], bool]
) -> None:
    cargo = EXCHANGE.give(busy, 0, [give("peer", 10_000, **limits)])["peer"]
    assert all(inside(*job) for job in zip(cargo.jobs.processors, cargo.jobs.estimate_s, strict=True))
    everything = EXCHANGE.give(busy, 1, [give("peer", 10_000)])["peer"]
    assert not all(inside(*job) for job in zip(everything.jobs.processors, everything.jobs.estimate_s, strict=True))


def test_limits_that_nothing_meets_move_nothing(busy: DatacenterWorld) -> None:
    kept = busy.snapshot()
    assert EXCHANGE.give(busy, 0, [give("peer", 10_000, width=0)]) == {}
    assert EXCHANGE.give(busy, 0, []) == {}
    take = Delivery("take", RESOURCE, 10_000, (2 * EPOCH, 3 * EPOCH), "peer")
    assert EXCHANGE.give(busy, 0, [take]) == {}
    for name, values in busy.snapshot().arrays.items():
        np.testing.assert_array_equal(values, kept.arrays[name], name)


def test_a_reserved_head_stays(busy: DatacenterWorld) -> None:
    heads = [int(busy.arrays.state["head"][row, 0]) for row in range(ROWS)]
    assert min(heads) >= 0
    for row, head in enumerate(heads):
        EXCHANGE.give(busy, row, [give("peer", 10_000)])
        assert head in queue(busy, row)


def test_a_handed_over_job_is_not_handed_on(busy: DatacenterWorld) -> None:
    cargo = EXCHANGE.give(busy, 0, [give("taker", 10_000)])["taker"]
    taker = make_world("taker", 3)
    advance(taker, 2.0 * EPOCH)
    EXCHANGE.take(taker, 0, "busy", cargo)
    advance(taker, 2.5 * EPOCH)
    waiting = queue(taker, 0)
    foreign = {job for job in waiting if int(taker.arrays.jobs["home"][0, job]) >= 0}
    assert foreign
    onward = EXCHANGE.give(taker, 0, [give("third", 10_000)])["third"]
    assert foreign <= set(queue(taker, 0))
    assert set(onward.first_submit_s.tolist()).isdisjoint(cargo.first_submit_s.tolist())


# The way across the link


def test_jobs_cross_the_link_one_after_another(busy: DatacenterWorld) -> None:
    cargo = EXCHANGE.give(busy, 0, [give("peer", 10_000, latency_s=3.0, bandwidth_bps=1e9)])["peer"]
    known = data_mb("busy", cargo.jobs.id, 200.0, 1.0)
    assert len(known) > 5
    np.testing.assert_array_equal(cargo.data_mb, known)
    np.testing.assert_allclose(cargo.jobs.submit_s, 2.0 * EPOCH + 3.0 + np.cumsum(known) * 8e6 / 1e9, rtol=1e-12)


def test_two_deliveries_to_one_peer_share_the_link(busy: DatacenterWorld) -> None:
    narrow, wide = give("peer", 5, 3.0, 1e9, width=4), give("peer", 5, 3.0, 1e9, width_above=4)
    cargo = EXCHANGE.give(busy, 0, [wide, narrow])["peer"]
    assert {width > 4 for width in cargo.jobs.processors.tolist()} == {False, True}
    order = np.argsort(cargo.jobs.submit_s)
    sent = np.cumsum(cargo.data_mb[order]) * 8e6 / 1e9
    np.testing.assert_allclose(cargo.jobs.submit_s[order], 2.0 * EPOCH + 3.0 + sent, rtol=1e-12)


def test_links_to_two_peers_do_not_share(busy: DatacenterWorld) -> None:
    cargos = EXCHANGE.give(busy, 0, [give("one", 6, 1.0, 1e9), give("two", 6, 2.0, 1e8)])
    for peer, latency, bandwidth in (("one", 1.0, 1e9), ("two", 2.0, 1e8)):
        first = cargos[peer].data_mb[0] * 8e6 / bandwidth
        assert cargos[peer].jobs.submit_s[0] == pytest.approx(2.0 * EPOCH + latency + first, rel=1e-12)


def test_the_volume_of_a_job_is_keyed_by_its_log_and_number_alone() -> None:
    """Not by who asks, the seed of the run, or what else is in the cargo."""
    small, large = make_world("same", 1), make_world("same", 1)
    advance(small, 2.0 * EPOCH)
    advance(large, 2.5 * EPOCH)
    first = EXCHANGE.give(small, 0, [give("peer", 6)])["peer"]
    second = EXCHANGE.give(large, 0, [give("other", 10_000)])["other"]
    shared = set(first.jobs.id.tolist()) & set(second.jobs.id.tolist())
    assert shared
    volumes = [dict(zip(c.jobs.id.tolist(), c.data_mb.tolist(), strict=True)) for c in (first, second)]
    assert all(volumes[0][number] == volumes[1][number] for number in shared)
    assert data_mb("another", np.array([7]), 200.0, 1.0) != data_mb("same", np.array([7]), 200.0, 1.0)


def test_a_cargo_that_cannot_run_or_lies_in_the_past_is_refused(busy: DatacenterWorld) -> None:
    cargo = EXCHANGE.give(busy, 0, [give("peer", 10_000)])["peer"]
    late = make_world("late", 3)
    advance(late, 3.0 * EPOCH)
    with pytest.raises(DatacenterError, match="from home does not fit or lies in the past"):
        EXCHANGE.take(late, 0, "home", cargo)
    narrow = DatacenterWorld(SiteModel((Cluster(2),)), late.workload, 1)
    with pytest.raises(DatacenterError, match="does not fit"):
        EXCHANGE.take(narrow, 0, "home", cargo)


# Nothing is lost


def first_submissions(seed: int, log: str, row: int) -> dict[int, float]:
    jobs = make_window(100 * seed + row, log).jobs
    return dict(zip(jobs.id.tolist(), jobs.submit_s.tolist(), strict=True))


def ledger(worlds: dict[str, DatacenterWorld], row: int) -> Counter[tuple[str, int]]:
    """How often each job, by home and number, is in any site's records."""
    found: Counter[tuple[str, int]] = Counter()
    for name, world in worlds.items():
        kept = records(world, row)
        found.update(zip((home or name for home in kept.home), kept.id.tolist(), strict=True))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_no_sequence_of_deliveries_loses_or_copies_a_job(seed: int) -> None:
    worlds = {name: make_world(name, k, SPEEDS[name]) for k, name in enumerate(SPEEDS)}
    rng = stream(seed, "test/deliveries")
    moved = 0
    for epoch in range(1, 7):
        for world in worlds.values():
            advance(world, float(epoch * EPOCH))
        for row in range(ROWS):
            for giver in worlds:
                moved += exchange_at_random(worlds, giver, row, rng)
    for world in worlds.values():
        advance(world, 200.0 * EPOCH)
    assert moved > 20
    for row in range(ROWS):
        whole = {(name, n) for k, name in enumerate(SPEEDS) for n in first_submissions(k, name, row)}
        found = ledger(worlds, row)
        assert set(found) == whole
        assert set(found.values()) == {1}
        for k, name in enumerate(SPEEDS):
            for site, world in worlds.items():
                check_waits(records(world, row), name, site, first_submissions(k, name, row), k, row)


def exchange_at_random(worlds: dict[str, DatacenterWorld], giver: str, row: int, rng: np.random.Generator) -> int:
    peers = [name for name in worlds if name != giver]
    deliveries = [
        give(peer, int(rng.integers(0, 12)), float(rng.uniform(0, 60)), float(rng.choice([1e8, 1e9])), width=8)
        for peer in peers
        if rng.random() < 0.7
    ]
    cargos = EXCHANGE.give(worlds[giver], row, deliveries)
    for peer, cargo in cargos.items():
        EXCHANGE.take(worlds[peer], row, giver, cargo)
    return sum(len(cargo.jobs) for cargo in cargos.values())


def check_waits(kept: Records, home: str, site: str, submitted: dict[int, float], seed: int, row: int) -> None:
    """Every job of `home` that ran at `site` waited from its first submission and ran at the speed there."""
    label = "" if home == site else home
    jobs = make_window(100 * seed + row, home).jobs
    runs = dict(zip(jobs.id.tolist(), jobs.run_s.tolist(), strict=True))
    mine = [k for k, name in enumerate(kept.home) if name == label]
    assert kept.started[mine].all()
    assert (kept.wait_s[mine] >= 0).all()
    for k in mine:
        assert kept.run_s[k] == pytest.approx(runs[int(kept.id[k])] / SPEEDS[site], rel=1e-12)
        assert submitted[int(kept.id[k])] + kept.wait_s[k] < 200.0 * EPOCH


def test_waits_count_from_the_first_submission_at_home(busy: DatacenterWorld) -> None:
    cargo = EXCHANGE.give(busy, 0, [give("taker", 10_000, latency_s=10.0, bandwidth_bps=1e8)])["taker"]
    taker = make_world("taker", 3, speed=4.0)
    advance(taker, 2.0 * EPOCH)
    EXCHANGE.take(taker, 0, "busy", cargo)
    advance(taker, 100.0 * EPOCH)
    kept = records(taker, 0)
    foreign = {int(n): k for k, (home, n) in enumerate(zip(kept.home, kept.id, strict=True)) if home == "busy"}
    assert set(foreign) == set(cargo.jobs.id.tolist())
    state, jobs = taker.arrays.state, taker.arrays.jobs
    rows = [j for j in range(int(jobs["count"][0])) if int(jobs["home"][0, j]) >= 0]
    starts = {int(jobs["id"][0, j]): float(state["start"][0, j]) for j in rows}
    for number, first, arrive in zip(cargo.jobs.id, cargo.first_submit_s, cargo.jobs.submit_s, strict=True):
        assert starts[int(number)] >= arrive > 2.0 * EPOCH > first
        assert kept.wait_s[foreign[int(number)]] == pytest.approx(starts[int(number)] - first, rel=1e-12)


def test_the_home_does_not_count_what_it_gave_away_and_the_taker_pays_for_the_energy(busy: DatacenterWorld) -> None:
    alone = make_world("busy", 1)
    advance(alone, 60.0 * EPOCH)
    given = len(EXCHANGE.give(busy, 0, [give("peer", 10_000)])["peer"].jobs)
    advance(busy, 60.0 * EPOCH)
    assert len(records(busy, 0).id) == 60 - given
    assert float(busy.metrics()["jobs"][0]) == 60 - given
    assert float(busy.metrics()["jobs"][1]) == 60
    assert float(busy.metrics()["energy_kwh"][0]) < float(alone.metrics()["energy_kwh"][0])
    assert float(busy.metrics()["energy_kwh"][1]) == float(alone.metrics()["energy_kwh"][1])


# What is asked and offered


@pytest.mark.parametrize("moment_s", [0.0, 600.0, 2.0 * EPOCH, 4.0 * EPOCH, 60.0 * EPOCH])
def test_lots_are_whole_and_state_what_there_is(moment_s: float) -> None:
    world = make_world("busy", 1)
    advance(world, moment_s)
    window = (int(moment_s), int(moment_s) + EPOCH)
    for row in range(ROWS):
        kept = world.snapshot()
        lots = EXCHANGE.lots(world, row, window)
        for name, values in world.snapshot().arrays.items():
            np.testing.assert_array_equal(values, kept.arrays[name], name)
        waiting = queue(world, row)
        own = column(world, "estimate", waiting, row) * column(world, "processors", waiting, row)
        asks = [lot for lot in lots if lot.side == "ask"]
        offers = [lot for lot in lots if lot.side == "offer"]
        for lot in lots:
            assert lot.quantity >= 1
            assert lot.unit_value >= 0
            assert lot.window == window
            assert all(isinstance(bound, int) and bound >= 0 for _, bound in lot.limits)
            assert list(lot.limits) == sorted(lot.limits)
        # a class of work is rounded up to whole hours
        assert sum(lot.quantity for lot in asks) <= own.sum() / 3600.0 + len(asks)
        assert sum(lot.quantity for lot in offers) <= 8 * EPOCH / 3600.0
        assert not (waiting == [] and asks)
    if moment_s == 60.0 * EPOCH:
        assert [lot.side for lot in lots] == ["offer"], "an empty site has room and nothing to ask for"
    if moment_s == 2.0 * EPOCH:
        assert asks
        assert not offers, "an overloaded site has no room"
