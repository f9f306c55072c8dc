"""The call that a run makes: one fault at a time as leader and as backup, chains of plans, snapshots, refusals."""

from typing import Any

import msgspec
import pytest

from fedsched.consensus import ConsensusError, Council, Link, MembershipError, UnsettledError, clear
from fedsched.consensus.council import LIMIT_TICKS
from fedsched.consensus.network import NetworkConfig
from fedsched.consensus.plan import GENESIS

FAULTS = ("silent", "equivocating", "slow", "lying")
LEADER, BACKUP = "east", "south"


def council(federation: Any, **options: Any) -> Any:
    return Council("toy", federation.keys, links=federation.links, **options)


@pytest.mark.parametrize("site", [LEADER, BACKUP])
@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_at_a_time_changes_nothing_but_what_its_site_does_not_say(
    federation: Any, fault: str, site: str
) -> None:
    bids = federation.bids()
    settlement = council(federation, faults={site: fault}).settle(0, bids)
    ordered = tuple(signed.bid for signed in settlement.bids)
    assert settlement.agreed
    assert settlement.faulty == (site,)
    assert {bid.site for bid in ordered} >= set(federation.names) - {site}
    assert all(bid == bids[bid.site] for bid in ordered)
    assert settlement.plan.transfers == clear(ordered, federation.links)
    if site in {bid.site for bid in ordered}:
        assert settlement.plan == council(federation).settle(0, bids).plan
    settlement.record().verify(federation.membership)


@pytest.mark.parametrize(("fault", "kind"), [("equivocating", "equivocation"), ("lying", "invalid-proposal")])
def test_a_provable_fault_of_the_leader_costs_it_the_view_and_leaves_proof(
    federation: Any, fault: str, kind: Any
) -> None:
    settlement = council(federation, faults={LEADER: fault}).settle(0, federation.bids())
    assert settlement.view == settlement.view_changes == 1
    assert {(proof.kind, proof.site) for proof in settlement.evidence} >= {(kind, LEADER)}
    patience_ms = 20 * 50
    assert settlement.latency_ms < patience_ms


def test_equivocation_and_lies_leave_the_faultless_plan(federation: Any) -> None:
    """The cases of the test above in which the faulty site's bid is ordered, so that it cannot pass emptily."""
    plan = council(federation).settle(0, federation.bids()).plan
    for fault in ("equivocating", "lying"):
        for site in (LEADER, BACKUP):
            assert council(federation, faults={site: fault}).settle(0, federation.bids()).plan == plan


def test_without_faults_the_first_leader_settles_within_eight_delays(federation: Any) -> None:
    settlement = council(federation).settle(0, federation.bids())
    assert settlement.view == settlement.view_changes == 0
    assert settlement.evidence == ()
    assert settlement.latency_ms <= 7 * 75


def test_a_silent_leader_costs_about_one_time_out(federation: Any) -> None:
    settlement = council(federation, faults={LEADER: "silent"}).settle(0, federation.bids())
    assert settlement.view == 1
    assert 20 * 50 <= settlement.latency_ms <= 30 * 50
    assert LEADER not in {signed.bid.site for signed in settlement.bids}


def test_plans_chain_by_row(federation: Any) -> None:
    held = council(federation)
    first = held.settle(0, federation.bids(0), row=0)
    second = held.settle(3, federation.bids(3), row=0)
    other = held.settle(3, federation.bids(3), row=1)
    assert first.plan.parent == other.plan.parent == GENESIS
    assert second.plan.parent == first.plan.digest
    assert held.settle(4, federation.bids(4), row=1).plan.parent == other.plan.digest


def test_an_epoch_is_settled_once(federation: Any) -> None:
    held = council(federation)
    held.settle(2, federation.bids(2))
    for epoch in (2, 1):
        with pytest.raises(ConsensusError, match="settled epoch 2 already"):
            held.settle(epoch, federation.bids(epoch))


def test_a_site_without_a_bid_is_there_with_an_empty_one(federation: Any) -> None:
    bids = federation.bids()
    del bids["west"]
    settlement = council(federation).settle(0, bids)
    assert [one.site for one in settlement.plan.inputs] == list(federation.names)
    assert all("west" not in (one.giver, one.taker) for one in settlement.plan.transfers)


def test_too_many_faults_end_in_a_typed_error_that_says_how_far_it_got(federation: Any) -> None:
    held = council(federation, faults={"east": "silent", "south": "silent"})
    with pytest.raises(UnsettledError, match=r"0 of 2 honest replicas.*4 sites tolerate 1"):
        held.settle(0, federation.bids())
    # the epoch is not over, and fails the same way again
    with pytest.raises(UnsettledError):
        held.settle(0, federation.bids())
    assert LIMIT_TICKS * NetworkConfig().tick_ms <= 100_000


def test_wrong_use_is_refused_with_a_remedy(federation: Any) -> None:
    bids = federation.bids()
    with pytest.raises(MembershipError, match="at least 4"):
        Council("toy", dict(list(federation.keys.items())[:3]))
    with pytest.raises(ConsensusError, match="unknown fault 'lazy' of site 'east'; known: silent"):
        council(federation, faults={"east": "lazy"})
    with pytest.raises(ConsensusError, match="faults name site 'mars'"):
        council(federation, faults={"mars": "silent"})
    with pytest.raises(ConsensusError, match="leads out"):
        Council("toy", federation.keys, links=(Link("east", "mars", 1),))
    with pytest.raises(ConsensusError, match="same direction"):
        Council("toy", federation.keys, links=(Link("east", "west", 1), Link("east", "west", 2)))
    for site, bid in (("west", bids["east"]), ("mars", bids["east"]), ("east", federation.bids(1)["east"])):
        with pytest.raises(ConsensusError, match="is filed under"):
            council(federation).settle(0, {site: bid})


def test_the_settlement_does_not_depend_on_the_order_of_sites_and_bids(federation: Any) -> None:
    backwards = dict(reversed(list(federation.bids().items())))
    keys = dict(reversed(list(federation.keys.items())))
    first = council(federation).settle(0, federation.bids())
    assert Council("toy", keys, links=federation.links).settle(0, backwards) == first
    assert msgspec.to_builtins(first.plan)
