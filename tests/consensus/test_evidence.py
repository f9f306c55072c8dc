"""Evidence convinces a stranger when true and does not when made up."""

from typing import Any

import msgspec
import pytest

from fedsched.consensus import Bid, Log, SignedBid, proves
from fedsched.consensus.evidence import double_bid, equivocation, invalid_proposal
from fedsched.consensus.messages import PrePrepare
from fedsched.consensus.plan import operation_digest
from fedsched.consensus.safety import Pledges


def proposal(federation: Any, operation: Any, view: int = 0, seq: int = 1) -> Any:
    pledges = Pledges(view, federation.keys[federation.names[view]], federation.scope())
    return pledges.propose(view, seq, operation_digest(operation))


@pytest.fixture
def log(federation: Any) -> Any:
    return federation.log(full=False)


def test_equivocation_is_two_digests_at_one_place(federation: Any, log: Log) -> None:
    bids, scope = federation.signed(), federation.scope()
    first, second = proposal(federation, bids), proposal(federation, bids[1:])
    assert proves(equivocation(scope, first, second), log)
    assert equivocation(scope, first, second) == equivocation(scope, second, first)
    assert not proves(equivocation(scope, first, first), log)
    assert not proves(equivocation(scope, first, proposal(federation, bids[1:], seq=2)), log)
    assert not proves(equivocation(scope, first, msgspec.structs.replace(second, signature=bytes(64))), log)
    blamed = msgspec.structs.replace(equivocation(scope, first, second), site="west")
    assert not proves(blamed, log)


def test_an_invalid_proposal_must_be_invalid_and_signed(federation: Any, log: Log) -> None:
    bids, scope = federation.signed(), federation.scope()
    good = PrePrepare(proposal(federation, bids), bids)
    bad = PrePrepare(proposal(federation, bids[::-1]), bids[::-1])
    assert proves(invalid_proposal(scope, bad, "order"), log)
    assert not proves(invalid_proposal(scope, good, "made up"), log)
    unsigned = PrePrepare(msgspec.structs.replace(bad.proposal, signature=bytes(64)), bad.operation)
    assert not proves(invalid_proposal(scope, unsigned, "order"), log)


def test_a_double_bid_is_two_genuine_bids_that_differ(federation: Any, log: Log) -> None:
    first = federation.signed()[0]
    second = SignedBid.by(federation.keys["east"], Bid("east", 0), federation.scope())
    assert proves(double_bid(first, second), log)
    assert not proves(double_bid(first, first), log)
    assert not proves(double_bid(first, msgspec.structs.replace(second, signature=bytes(64))), log)


def test_garbled_exhibits_prove_nothing(federation: Any, log: Log) -> None:
    bids = federation.signed()
    true = equivocation(federation.scope(), proposal(federation, bids), proposal(federation, bids[1:]))
    for kind in ("equivocation", "double-bid", "invalid-proposal"):
        for exhibits in ((), (b"", b""), (b"\xc1",), (true.exhibits[0][:-1], true.exhibits[1])):
            assert not proves(msgspec.structs.replace(true, kind=kind, exhibits=exhibits), log)
