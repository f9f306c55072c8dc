"""What sites trade, in the words of both rooms, and that a settled plan keeps to the bids."""

from collections.abc import Callable
from typing import Any

import pytest

from fedsched.consensus import CertificateError, Settlement
from fedsched.envs.core import Lot
from fedsched.sim.market import bid_of, deliveries_of, make_council, settlement_event
from fedsched.sim.scenario import Scenario

WINDOW = (3600, 7200)
NAMES = ("east", "north", "south", "west")


def offer(quantity: int, value: int, **limits: int) -> Lot:
    return Lot("offer", "processor-hours", quantity, value, WINDOW, tuple(sorted(limits.items())))


def ask(quantity: int, value: int, data: int = 0, **limits: int) -> Lot:
    limits = {"data_mb_per_unit": data, **limits}
    return Lot("ask", "processor-hours", quantity, value, WINDOW, tuple(sorted(limits.items())))


LOTS = {
    "north": [ask(10, 900, width=8, width_above=0), ask(7, 400, width=24, width_above=8)],
    "east": [ask(5, 700, width=4, width_above=0)],
    "south": [offer(12, 100, width=24, estimate_s=7200)],
    "west": [offer(6, 300, width=8, estimate_s=3600)],
}


def settle(scenario: Scenario, lots: dict[str, list[Lot]], occasion: str = "test", epoch: int = 0) -> Settlement:
    assert scenario.plan is not None
    council = make_council(scenario, scenario.plan, occasion)
    return council.settle(epoch, {site: bid_of(site, epoch, own) for site, own in lots.items()})


def test_a_bid_says_what_the_lots_said() -> None:
    lots = [*LOTS["north"], *LOTS["south"]]
    bid = bid_of("north", 4, lots)
    assert (bid.site, bid.epoch) == ("north", 4)
    told = [
        Lot(side, lot.resource, lot.quantity, lot.unit_value, lot.window, lot.limits)
        for side, own in (("offer", bid.offers), ("ask", bid.asks))
        for lot in own
    ]
    assert sorted(told) == sorted(lots)


def test_deliveries_are_the_transfers_of_the_plan(tiny: Callable[..., Scenario]) -> None:
    links = {
        "default": {"bandwidth": "2 Gbps", "latency": "50 ms"},
        "north-south": {"bandwidth": "10 Gbps", "latency": "5 ms"},
    }
    scenario = tiny(plan={"links": links})
    settlement = settle(scenario, LOTS)
    wanted = deliveries_of(settlement, scenario.plan)
    transfers = [(t.giver, t.taker, t.quantity, t.window, t.limits) for t in settlement.plan.transfers]
    told = [(giver, d.peer, d.quantity, d.window, d.limits) for giver, own in wanted.items() for d in own]
    assert sorted(told) == sorted(transfers)
    assert len(told) >= 2
    for giver, own in wanted.items():
        for delivery in own:
            fast = {giver, delivery.peer} == {"north", "south"}
            assert delivery.side == "give"
            assert (delivery.bandwidth_bps, delivery.latency_s) == ((1e10, 0.005) if fast else (2e9, 0.05))


def test_no_more_is_settled_than_was_bid(tiny: Callable[..., Scenario]) -> None:
    settlement = settle(tiny(), LOTS)
    given = dict.fromkeys(NAMES, 0)
    taken = dict.fromkeys(NAMES, 0)
    for transfer in settlement.plan.transfers:
        given[transfer.giver] += transfer.quantity
        taken[transfer.taker] += transfer.quantity
        bounds = dict(transfer.limits)
        offered = dict(LOTS[transfer.taker][0].limits)
        assert bounds["width"] <= offered["width"]
        assert bounds["estimate_s"] <= offered["estimate_s"]
    assert all(given[site] <= sum(lot.quantity for lot in LOTS[site] if lot.side == "ask") for site in NAMES)
    assert all(taken[site] <= sum(lot.quantity for lot in LOTS[site] if lot.side == "offer") for site in NAMES)
    assert sum(given.values()) >= 12


def test_a_thin_link_bounds_what_crosses_it(tiny: Callable[..., Scenario]) -> None:
    lots: dict[str, Any] = {"north": [ask(100, 900, data=1000, width=8)], "south": [offer(100, 100, width=24)]}
    wide = settle(tiny(), lots)
    # 10800 s at 8 Mbit/s carry 10,800 MB, so ten processor-hours
    thin = settle(tiny(plan={"links": {"default": {"bandwidth": "8 Mbps"}}}), lots)
    assert sum(t.quantity for t in wide.plan.transfers) == 100
    assert sum(t.quantity for t in thin.plan.transfers) == 10


def test_equal_bids_settle_equally_and_occasions_differ(tiny: Callable[..., Scenario]) -> None:
    one, two, other = (settle(tiny(), LOTS, occasion) for occasion in ("a", "a", "b"))
    assert one.plan.digest == two.plan.digest
    assert one.membership.digest == two.membership.digest != other.membership.digest
    assert settle(tiny(seed=1), LOTS, "a").membership.digest != one.membership.digest
    assert [t.quantity for t in other.plan.transfers] == [t.quantity for t in one.plan.transfers]


def test_another_run_has_other_keys_and_the_same_plan(tiny: Callable[..., Scenario]) -> None:
    scenario = tiny()
    settled = []
    for run in ("a", "a", "b"):
        council = make_council(scenario, scenario.plan, "test", run)
        settled.append(council.settle(0, {site: bid_of(site, 0, own) for site, own in LOTS.items()}))
    one, same, other = settled
    assert one == same
    assert one.plan.transfers == other.plan.transfers
    assert (one.latency_ms, one.messages, one.bytes, one.view) == (
        other.latency_ms, other.messages, other.bytes, other.view,
    )  # fmt: skip
    assert not {key for _, key in one.membership.sites} & {key for _, key in other.membership.sites}
    with pytest.raises(CertificateError):
        other.record().verify(one.membership)


@pytest.mark.parametrize("fault", ["silent", "equivocating", "slow", "lying"])
@pytest.mark.parametrize("site", ["east", "south"])
def test_a_faulty_replica_does_not_keep_the_others_from_a_plan(
    fault: str, site: str, tiny: Callable[..., Scenario]
) -> None:
    event = settlement_event(settle(tiny(consensus={"faults": {site: fault}}), LOTS))
    assert event["agreed"] is True
    assert event["faulty"] == [site]
    assert event["signatures"] >= 3
    assert event["transfers"] >= 1
