"""The validity predicate: a good plan passes, and each single change to it is refused by the rule that it breaks."""

from typing import Any

import msgspec
import pytest

from fedsched.consensus import Bid, Log, Plan, SignedBid, clear, objective, plan_violation, valid
from fedsched.consensus.clearing import Transfer
from fedsched.consensus.plan import MAX_TRANSFERS, Input, batch_violation, propose


@pytest.fixture
def log(federation: Any) -> Any:
    return federation.log()


@pytest.fixture
def plan(log: Log) -> Any:
    return propose(log)


def change(record: Any, **fields: dict[str, Any]) -> Any:
    return msgspec.structs.replace(record, **fields)


def with_first(plan: Plan, log: Log, **fields: dict[str, Any]) -> Any:
    """The plan with its first transfer changed and its objective stated as it recomputes, if it does."""
    transfers = (change(plan.transfers[0], **fields), *plan.transfers[1:])
    try:
        stated = objective(transfers, log.open_bids, log.links)
    except LookupError:
        stated = plan.objective
    return change(plan, transfers=transfers, objective=stated)


def test_the_shipped_proposal_is_valid_and_states_its_worth(plan: Plan, log: Log) -> None:
    assert valid(plan, log)
    assert len(plan.transfers) > 3
    assert plan.transfers == clear(log.open_bids, log.links)
    assert plan.objective == plan.baseline > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"federation": "other"},
        {"membership": bytes(32)},
        {"row": 1},
        {"epoch": 1},
        {"parent": b"p" * 32},
        {"rules": bytes(32)},
    ],
)
def test_v1_the_header_matches_the_log(plan: Plan, log: Log, fields: dict[str, Any]) -> None:
    assert plan_violation(change(plan, **fields), log).startswith("V1")


def test_v2_the_inputs_are_exactly_the_ordered_bids(plan: Plan, log: Log) -> None:
    inputs = plan.inputs
    for wrong in (inputs[1:], inputs[::-1], (*inputs, inputs[0]), (Input("east", bytes(32), b""), *inputs[1:])):
        assert plan_violation(change(plan, inputs=wrong), log).startswith("V2")


def test_v2_too_few_ordered_bids(federation: Any) -> None:
    log = federation.log(full=False).extended(federation.signed()[:2])
    assert plan_violation(propose(log), log).startswith("V2: 2 bids ordered, 3 required")


def test_v2_a_bid_in_the_log_that_its_site_did_not_sign(log: Log) -> None:
    forged = change(log.bids[0], signature=bytes(64))
    bad = change(log, bids=(forged, *log.bids[1:]))
    assert plan_violation(propose(bad), bad).startswith("V2")


@pytest.mark.parametrize(
    "fields",
    [
        {"giver": "nobody"},
        {"taker": "east"},
        {"ask": 3},
        {"ask": -1},
        {"offer": -1},
        {"resource": "tasks"},
        {"quantity": 0},
        {"quantity": -5},
        {"quantity": 10**6},
        {"window": (0, 21_601)},
        {"window": (0, 1)},
        {"limits": ()},
        {"limits": (("data_mb_per_unit", 4), ("max_width", 64))},
        {"price": 0},
    ],
)
def test_v3_nobody_is_bound_to_what_it_did_not_sign(plan: Plan, log: Log, fields: dict[str, Any]) -> None:
    reason = plan_violation(with_first(plan, log, **fields), log)
    assert reason.startswith(("V3", "V7: transfers are not sorted"))


def test_v4_one_lot_cannot_serve_twice(plan: Plan, log: Log) -> None:
    """A second taker for the first ask, within the second taker's own offer."""
    first = plan.transfers[0]
    served = [one for one in plan.transfers if (one.giver, one.ask) == (first.giver, first.ask)]
    asked = log.open_bids[0].asks[first.ask].quantity
    assert sum(one.quantity for one in served) == asked
    spare = next(
        Transfer("east", first.ask, "west", j, first.resource, 1, first.window, first.limits, 0)
        for j in range(3)
        if ("east", first.ask, "west", j) not in {one.key for one in plan.transfers}
    )
    offer = log.open_bids[3].offers[spare.offer]
    terms = {"limits": (("data_mb_per_unit", 3), ("max_width", min(4 << first.ask, 8 << spare.offer)))}
    gain = log.open_bids[0].asks[first.ask].unit_value - offer.unit_value - 3
    extra = change(spare, price=offer.unit_value + gain // 2, **terms)
    transfers = tuple(sorted((*plan.transfers, extra), key=lambda one: one.key))
    greedy = change(plan, transfers=transfers, objective=objective(transfers, log.open_bids, log.links))
    assert plan_violation(greedy, log).startswith("V4: ask")


def test_v4_a_link_cannot_carry_more_than_its_capacity(log: Log, plan: Plan) -> None:
    narrow = change(log, links=tuple(change(link, capacity=100) for link in log.links))
    moved = change(plan, rules=propose(narrow).rules)
    assert plan_violation(moved, narrow).startswith("V4: link")


def test_v4_no_site_gives_and_takes_at_once(federation: Any) -> None:
    """North both asks and offers; a plan may use either lot but not both."""
    bids = federation.bids()
    bids["north"] = Bid("north", 0, bids["north"].offers, (federation.lot(50, 2000),))
    scope = federation.scope()
    log = federation.log(full=False).extended(
        tuple(SignedBid.by(federation.keys[name], bids[name], scope) for name in federation.names)
    )
    plan = propose(log)
    assert {one.giver for one in plan.transfers if one.taker == "west"} >= {"north"}
    before = propose(federation.log()).transfers
    mixed = tuple(sorted({one.key: one for one in (*before, *plan.transfers)}.values(), key=lambda one: one.key))
    both = change(plan, transfers=mixed, objective=objective(mixed, log.open_bids, log.links))
    assert plan_violation(both, log) == "V4: north gives and takes processor-hours at once"


def test_v5_a_plan_below_the_baseline_or_with_a_false_claim_is_refused(plan: Plan, log: Log) -> None:
    worse = change(plan, transfers=plan.transfers[1:])
    stated = objective(worse.transfers, log.open_bids, log.links)
    assert plan_violation(change(worse, objective=stated), log).startswith("V5: objective")
    assert plan_violation(worse, log).startswith("V5: the stated")
    assert plan_violation(change(plan, objective=plan.objective + 1), log).startswith("V5: the stated")
    assert plan_violation(change(plan, baseline=0), log).startswith("V5: the stated")


def test_v7_expiry_order_and_size(plan: Plan, log: Log) -> None:
    transfers = plan.transfers
    assert plan_violation(change(plan, expires=5), log).startswith("V7")
    assert plan_violation(change(plan, transfers=transfers[::-1]), log).startswith("V7")
    assert plan_violation(change(plan, transfers=(transfers[0], *transfers)), log).startswith("V7")
    assert plan_violation(change(plan, transfers=transfers[:1] * (MAX_TRANSFERS + 1)), log).startswith("V7")


def test_a_better_plan_than_the_baseline_is_valid(federation: Any) -> None:
    """Greedy takes the best pair and so fixes north as giver; serving two pairs through north's offer is worth more."""
    lot, links = federation.lot, federation.links
    bids = (
        Bid("east", 0, (), (lot(100, 1000),)),
        Bid("north", 0, (lot(100, 100),), (lot(10, 1100),)),
        Bid("south", 0, (lot(10, 50),)),
        Bid("west", 0),
    )
    signed = tuple(SignedBid.by(federation.keys[bid.site], bid, federation.scope()) for bid in bids)
    log = federation.log(full=False).extended(signed)
    floor = propose(log)
    better = tuple(
        change(one, quantity=quantity)
        for one, quantity in [
            (Transfer("east", 0, "north", 0, "processor-hours", 0, (0, 21_600), lot(1, 1).limits, 548), 100),
        ]
    )
    worth = objective(better, bids, links)
    assert worth > floor.objective
    assert valid(change(floor, transfers=better, objective=worth), log)


def test_batches_hold_each_site_once_and_signed(federation: Any) -> None:
    empty, signed = federation.log(full=False), federation.signed()
    assert batch_violation(signed, empty) is None
    assert batch_violation((), empty) is not None
    assert batch_violation(signed[::-1], empty) is not None
    assert batch_violation((signed[0], signed[0]), empty) is not None
    assert batch_violation(signed[2:], empty.extended(signed[:3])) is not None
    assert batch_violation((change(signed[0], signature=bytes(64)),), empty) is not None


def test_the_digest_covers_every_field(plan: Plan) -> None:
    digests = {plan.digest}
    for name in plan.__struct_fields__:
        value = getattr(plan, name)
        other = value + 1 if isinstance(value, int) else value[:-1]
        digests.add(change(plan, **{name: other}).digest)
    assert len(digests) == 1 + len(plan.__struct_fields__)
