"""Signed proof that a site broke the rules, for anyone with the membership list.

Evidence never names an honest site: each kind rests on that site's own signatures over things that no honest site says.
"""

from typing import Literal

import msgspec

from fedsched.consensus.bids import SignedBid
from fedsched.consensus.errors import PeerError
from fedsched.consensus.gate import Gate
from fedsched.consensus.keys import canonical
from fedsched.consensus.membership import Scope
from fedsched.consensus.messages import PrePrepare, Proposal
from fedsched.consensus.plan import Log, violation


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One proven fault.

    Attributes:
        kind: `equivocation` (two proposals for one step), `invalid-proposal` (an operation that breaks the rules) or
            `double-bid` (two bids for one epoch).
        site: Who did it.
        reason: What exactly, for people.
        exhibits: Canonical bytes of the signed statements: two proposals, one pre-prepare, or two signed bids.
    """

    kind: Literal["equivocation", "invalid-proposal", "double-bid"]
    site: str
    reason: str
    exhibits: tuple[bytes, ...]


def equivocation(scope: Scope, first: Proposal, second: Proposal) -> Evidence:
    """The leader proposed two operations for one step of its view."""
    site = scope.membership.names[scope.leader(first.view)]
    first, second = sorted((first, second), key=lambda one: one.digest)
    reason = f"two proposals at view {first.view}, step {first.seq}"
    return Evidence("equivocation", site, reason, (canonical(first), canonical(second)))


def invalid_proposal(scope: Scope, message: PrePrepare, reason: str) -> Evidence:
    """The leader proposed an operation that breaks `reason`."""
    site = scope.membership.names[scope.leader(message.proposal.view)]
    return Evidence("invalid-proposal", site, reason, (canonical(message),))


def double_bid(first: SignedBid, second: SignedBid) -> Evidence:
    """A site signed two bids for one epoch."""
    reason = f"two bids for epoch {first.bid.epoch}"
    return Evidence("double-bid", first.bid.site, reason, (canonical(first), canonical(second)))


def proves(evidence: Evidence, log: Log) -> bool:
    """Whether `evidence` stands on its own.

    Args:
        evidence: What somebody claims.
        log: Scope, parent, links and the bids that were ordered when the proposal was made; the bids matter for
            `invalid-proposal` only.
    """
    scope = log.scope
    try:
        if evidence.kind == "equivocation":
            return _proves_equivocation(evidence, scope)
        if evidence.kind == "double-bid":
            first, second = (msgspec.msgpack.decode(exhibit, type=SignedBid) for exhibit in evidence.exhibits)
            sites = {first.bid.site, second.bid.site}
            return sites == {evidence.site} and first.bid != second.bid and first.holds(scope) and second.holds(scope)
        (exhibit,) = evidence.exhibits
        message = Gate(scope).open(exhibit)
    except (PeerError, msgspec.DecodeError, ValueError):
        return False
    if not isinstance(message, PrePrepare):
        return False
    site = scope.membership.names[scope.leader(message.proposal.view)]
    return site == evidence.site and violation(message.operation, log) is not None


def _proves_equivocation(evidence: Evidence, scope: Scope) -> bool:
    first, second = (msgspec.msgpack.decode(exhibit, type=Proposal) for exhibit in evidence.exhibits)
    gate = Gate(scope)
    gate.check_proposal(first)
    gate.check_proposal(second)
    same_place = (first.view, first.seq) == (second.view, second.seq)
    site = scope.membership.names[scope.leader(first.view)]
    return same_place and first.digest != second.digest and site == evidence.site
