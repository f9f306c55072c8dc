"""Lots, bids and links refuse what cannot be meant, at home and from peers alike."""

from typing import Any

import msgspec
import pytest

from fedsched.consensus import Bid, BidError, Link, Lot, SignedBid
from fedsched.consensus.bids import MAX_INTEGER, MAX_LOTS
from fedsched.consensus.keys import canonical

GOOD = {"resource": "hours", "quantity": 5, "unit_value": 7, "window": (0, 60), "limits": (("a", 1), ("b", 2))}


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": 0},
        {"quantity": MAX_INTEGER + 1},
        {"unit_value": -1},
        {"window": (60, 60)},
        {"window": (-1, 60)},
        {"resource": ""},
        {"resource": "x" * 65},
        {"limits": (("b", 1), ("a", 2))},
        {"limits": (("a", 1), ("a", 2))},
        {"limits": (("a", -1),)},
    ],
)
def test_a_lot_out_of_bounds_is_refused_at_home_and_from_peers(change: Any) -> None:
    fields = GOOD | change
    with pytest.raises(BidError):
        Lot(**fields)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(canonical(fields), type=Lot)


def test_a_bid_is_bounded_in_lots_and_worth() -> None:
    lot = Lot(**GOOD)
    with pytest.raises(BidError, match="16 of each"):
        Bid("east", 0, (lot,) * (MAX_LOTS + 1))
    dear = Lot("hours", 1 << 30, 1 << 30, (0, 60))
    with pytest.raises(BidError, match="coarser units"):
        Bid("east", 0, (), (dear,))


def test_links_join_two_sites() -> None:
    with pytest.raises(BidError, match="twice"):
        Link("east", "east", 1)
    with pytest.raises(BidError, match="capacity"):
        Link("east", "west", -1)


def test_a_bid_holds_for_its_own_site_epoch_and_content_only(federation: Any) -> None:
    scope = federation.scope(epoch=2)
    bid = federation.bids(2)["east"]
    signed = SignedBid.by(federation.keys["east"], bid, scope)
    assert signed.holds(scope)
    assert not signed.holds(federation.scope(epoch=3))
    assert not signed.holds(federation.scope(epoch=2, row=1))
    assert not SignedBid(msgspec.structs.replace(bid, site="west"), signed.signature).holds(scope)
    assert not SignedBid(msgspec.structs.replace(bid, asks=bid.asks[1:]), signed.signature).holds(scope)
    assert not SignedBid.by(federation.keys["west"], bid, scope).holds(scope)
    assert not SignedBid.by(federation.keys["east"], msgspec.structs.replace(bid, site="nobody"), scope).holds(scope)
