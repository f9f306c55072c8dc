"""A plan, the log it answers to, and the pure predicate that says whether it may be settled.

`violation` is what a backup asks before it prepares anything: it looks at the ordered log and at the proposed operation
and at nothing else (no clock, no local state), so every honest replica gives the same answer, today and in any later
view. Its rules are numbered as on docs/consensus.md.
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import NamedTuple, Self

import msgspec

from fedsched.consensus.bids import Bid, Link, SignedBid
from fedsched.consensus.clearing import Transfer, clear, ledger, match
from fedsched.consensus.keys import digest
from fedsched.consensus.membership import Membership, Scope

VERSION = 1
GENESIS = bytes(32)
LIFETIME_EPOCHS = 1
MAX_TRANSFERS = 4096


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bid that the plan rests on: its site, its digest and the site's signature."""

    site: str
    bid: bytes
    signature: bytes


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """What the sites of a federation owe one another in one epoch.

    The view is left out on purpose: a plan carried into a later view keeps its digest.

    Attributes:
        version: Version of the rules.
        federation: Name of the federation.
        membership: Digest of its membership, 32 bytes.
        row: Which chain of plans.
        epoch: Which epoch.
        parent: Digest of the chain's previous plan; zeros for the first.
        rules: Digest of the links that the plan was cleared under.
        inputs: The ordered bids, by site.
        transfers: The commitments, by giver, ask, taker and offer.
        objective: Total surplus of the transfers, milli-currency.
        baseline: Total surplus of `clear` on the same bids, milli-currency.
        expires: First epoch in which the plan binds nobody any more.
    """

    version: int
    federation: str
    membership: bytes
    row: int
    epoch: int
    parent: bytes
    rules: bytes
    inputs: tuple[Input, ...]
    transfers: tuple[Transfer, ...]
    objective: int
    baseline: int
    expires: int

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that name this plan."""
        return digest("plan", tuple(getattr(self, name) for name in self.__struct_fields__))


Batch = tuple[SignedBid, ...]
Operation = Batch | Plan


def operation_digest(operation: Operation) -> bytes:
    """32 bytes that name what is to be ordered."""
    return operation.digest if isinstance(operation, Plan) else digest("batch", operation)


class Log(msgspec.Struct, frozen=True, dict=True):
    """What the replicas of one settlement have ordered so far, and what they knew before.

    Attributes:
        scope: Federation, row and epoch.
        parent: Digest of the chain's previous plan.
        links: All links of the federation.
        bids: Ordered bids, by site.
    """

    scope: Scope
    parent: bytes
    links: tuple[Link, ...]
    bids: Batch = ()

    @cached_property
    def sites(self) -> frozenset[str]:
        """Sites whose bid is ordered."""
        return frozenset(signed.bid.site for signed in self.bids)

    @cached_property
    def open_bids(self) -> tuple[Bid, ...]:
        """The ordered bids without their signatures, by site."""
        return tuple(signed.bid for signed in self.bids)

    def extended(self, batch: Batch) -> Self:
        """The log after `batch` is executed."""
        return msgspec.structs.replace(self, bids=tuple(sorted((*self.bids, *batch), key=lambda one: one.bid.site)))


def rules_digest(links: Iterable[Link]) -> bytes:
    """32 bytes that name the links, whatever their order."""
    return digest("rules", sorted((link.source, link.target, link) for link in links))


def objective(transfers: Iterable[Transfer], bids: Iterable[Bid], links: Iterable[Link]) -> int:
    """Total surplus of `transfers` over no transfer, milli-currency, recomputed from the bids.

    Raises:
        LookupError: A transfer names a site, lot or link that does not exist.
    """
    by_site = {bid.site: bid for bid in bids}
    costs = {(link.source, link.target): link.unit_cost for link in links}
    total = 0
    for one in transfers:
        ask, offer = by_site[one.giver].asks[one.ask], by_site[one.taker].offers[one.offer]
        freight = one.data_per_unit * costs[one.giver, one.taker]
        total += one.quantity * (ask.unit_value - offer.unit_value - freight)
    return total


def propose(log: Log) -> Plan:
    """The plan that the shipped leader proposes: `clear` of the ordered bids."""
    membership = log.scope.membership
    transfers = clear(log.open_bids, log.links)
    gain = objective(transfers, log.open_bids, log.links)
    return Plan(
        version=VERSION,
        federation=membership.federation,
        membership=membership.digest,
        row=log.scope.row,
        epoch=log.scope.epoch,
        parent=log.parent,
        rules=rules_digest(log.links),
        inputs=tuple(Input(one.bid.site, one.bid.digest, one.signature) for one in log.bids),
        transfers=transfers,
        objective=gain,
        baseline=gain,
        expires=log.scope.epoch + LIFETIME_EPOCHS,
    )


def _header_violation(plan: Plan, log: Log) -> str | None:
    scope, membership = log.scope, log.scope.membership
    expected = {
        "version": VERSION,
        "federation": membership.federation,
        "membership": membership.digest,
        "row": scope.row,
        "epoch": scope.epoch,
        "parent": log.parent,
        "rules": rules_digest(log.links),
    }
    wrong = [name for name, value in expected.items() if getattr(plan, name) != value]
    return f"V1: {', '.join(wrong)} do not match the log" if wrong else None


def _input_violation(plan: Plan, log: Log) -> str | None:
    if len(log.bids) < log.scope.membership.required_bids:
        return f"V2: {len(log.bids)} bids ordered, {log.scope.membership.required_bids} required"
    if plan.inputs != tuple(Input(one.bid.site, one.bid.digest, one.signature) for one in log.bids):
        return "V2: the inputs are not exactly the ordered bids"
    if not all(one.holds(log.scope) for one in log.bids):
        return "V2: an ordered bid is not signed by its site for this epoch"
    return None


def _term_violation(transfer: Transfer, bids: Iterable[Bid], links: Iterable[Link]) -> str | None:
    """V3 for one transfer: nobody is bound to what it did not sign."""
    by_site = {bid.site: bid for bid in bids}
    link = next((one for one in links if (one.source, one.target) == (transfer.giver, transfer.taker)), None)
    giver, taker = by_site.get(transfer.giver), by_site.get(transfer.taker)
    if giver is None or taker is None or link is None:
        return f"V3: {transfer.giver}->{transfer.taker} has no bid at one end or no link"
    if not (0 <= transfer.ask < len(giver.asks) and 0 <= transfer.offer < len(taker.offers)):
        return f"V3: {transfer.giver}->{transfer.taker} names a lot that was not bid"
    ask, offer = giver.asks[transfer.ask], taker.offers[transfer.offer]
    pair = match(giver.site, (transfer.ask, ask), taker.site, (transfer.offer, offer), link)
    if pair is None or pair.surplus < 0 or not 0 < transfer.quantity <= pair.terms.quantity:
        return f"V3: {transfer.giver}->{transfer.taker} goes beyond the bids of its ends"
    if transfer != msgspec.structs.replace(pair.terms, quantity=transfer.quantity):
        return f"V3: {transfer.giver}->{transfer.taker} has other terms than its two bids give"
    return None


def _capacity_violation(plan: Plan, log: Log) -> str | None:
    left = ledger(log.open_bids, log.links)
    for transfer in plan.transfers:
        for site, role in ((transfer.giver, "give"), (transfer.taker, "take")):
            if left.roles.get((site, transfer.resource), role) != role:
                return f"V4: {site} gives and takes {transfer.resource} at once"
        left.book(transfer)
    for what, rest in (("ask", left.asks), ("offer", left.offers), ("link", left.links)):
        short = [key for key, quantity in rest.items() if quantity < 0]
        if short:
            return f"V4: {what} {short[0]} is promised more than once"
    return None


def _objective_violation(plan: Plan, log: Log) -> str | None:
    baseline = objective(clear(log.open_bids, log.links), log.open_bids, log.links)
    if plan.objective != objective(plan.transfers, log.open_bids, log.links) or plan.baseline != baseline:
        return "V5: the stated objective or baseline does not recompute"
    return None if plan.objective >= baseline else f"V5: objective {plan.objective} is below the baseline {baseline}"


def _form_violation(plan: Plan, log: Log) -> str | None:
    if plan.expires != log.scope.epoch + LIFETIME_EPOCHS:
        return f"V7: the plan must expire {LIFETIME_EPOCHS} epoch(s) after its own"
    if len(plan.transfers) > MAX_TRANSFERS:
        return f"V7: {len(plan.transfers)} transfers, at most {MAX_TRANSFERS}"
    keys = [transfer.key for transfer in plan.transfers]
    return None if keys == sorted(set(keys)) else "V7: transfers are not sorted or one is there twice"


def plan_violation(plan: Plan, log: Log) -> str | None:
    """The first rule that `plan` breaks against `log`, as `V<number>: reason`; None if it breaks none."""
    found = _header_violation(plan, log) or _input_violation(plan, log) or _form_violation(plan, log)
    if found:
        return found
    for transfer in plan.transfers:
        if reason := _term_violation(transfer, log.open_bids, log.links):
            return reason
    return _capacity_violation(plan, log) or _objective_violation(plan, log)


def valid(plan: Plan, log: Log) -> bool:
    """Whether an honest replica that executed `log` may prepare `plan`."""
    return plan_violation(plan, log) is None


def batch_violation(batch: Batch, log: Log) -> str | None:
    """Why `batch` may not be ordered after `log`; None if it may."""
    sites = [signed.bid.site for signed in batch]
    if not batch or sites != sorted(set(sites)):
        return "a batch must hold bids of distinct sites, sorted by site"
    if not log.sites.isdisjoint(sites):
        return "a site's bid is ordered twice"
    return None if all(one.holds(log.scope) for one in batch) else "a bid is not signed by its site for this epoch"


def violation(operation: Operation, log: Log) -> str | None:
    """Why `operation` may not be ordered after `log`; None if it may."""
    return plan_violation(operation, log) if isinstance(operation, Plan) else batch_violation(operation, log)


class Rules(NamedTuple):
    """What the replica is told about plans: what may be ordered, and what to propose when it leads."""

    violation: Callable[[Operation, Log], str | None] = violation
    propose: Callable[[Log], Plan] = propose


def log_of(membership: Membership, plan: Plan, bids: Batch, links: Iterable[Link]) -> Log:
    """The log that a settled `plan` claims to answer to, for an audit after the fact."""
    return Log(Scope(membership, plan.row, plan.epoch), plan.parent, tuple(links), ()).extended(bids)
