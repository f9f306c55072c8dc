"""How a faulty replica treats what it should have sent; by the names that scenarios use.

A faulty site runs the honest replica and distorts its output, signing with its own key. So it stays in step with the
others and lies where it hurts, which is worse for them than random noise would be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from fedsched.consensus.draws import Draws
from fedsched.consensus.events import Send
from fedsched.consensus.keys import SiteKey
from fedsched.consensus.membership import Scope
from fedsched.consensus.messages import (
    Commit,
    Message,
    NewView,
    PrePrepare,
    Proposal,
    new_view_statement,
    proposal_statement,
    vote_statement,
)
from fedsched.consensus.plan import Operation, Plan, operation_digest


class Parcel(NamedTuple):
    """A message on its way out: to one replica or to all others (None), after an extra delay."""

    send: Send
    delay_ms: int = 0


@dataclass(frozen=True)
class Culprit:
    """What a faulty replica has at hand.

    Attributes:
        index: Its index in the membership.
        key: Its secret key.
        scope: The settlement.
        draws: Its own random stream.
        patience_ms: The others' first time-out in milliseconds.
    """

    index: int
    key: SiteKey
    scope: Scope
    draws: Draws
    patience_ms: int

    @property
    def peers(self) -> list[int]:
        """All other replicas."""
        return [replica for replica in range(self.scope.membership.n) if replica != self.index]

    def propose(self, original: Proposal, operation: Operation) -> PrePrepare:
        """Another operation in the place of `original`, correctly signed."""
        statement = proposal_statement(original.view, original.seq, operation_digest(operation))
        signature = self.key.sign(self.scope.payload(statement.kind, *statement.fields))
        return PrePrepare(Proposal(original.view, original.seq, operation_digest(operation), signature), operation)

    def commit(self, view: int, seq: int, operation: bytes) -> Commit:
        """A correctly signed commit to any digest."""
        statement = vote_statement("commit", view, seq, operation)
        return Commit(
            view, seq, operation, self.index, self.key.sign(self.scope.payload(statement.kind, *statement.fields))
        )


def silent(_culprit: Culprit, _sends: Sequence[Send]) -> list[Parcel]:
    """Sends nothing."""
    return []


def slow(culprit: Culprit, sends: Sequence[Send]) -> list[Parcel]:
    """Sends everything late, by nine or eleven tenths of the others' first time-out."""
    tenth = culprit.patience_ms // 10
    return [Parcel(send, tenth * (9 + 2 * culprit.draws.below(2))) for send in sends]


def lying(culprit: Culprit, sends: Sequence[Send]) -> list[Parcel]:
    """Puts a plan that pays itself into every proposal of a plan, in NEW-VIEW too."""
    parcels = []
    for send in sends:
        message: Message = send.message
        if isinstance(message, PrePrepare) and isinstance(message.operation, Plan):
            message = culprit.propose(message.proposal, _inflated(message.operation))
        elif isinstance(message, NewView) and message.pre_prepare is not None:
            message = _lying_new_view(culprit, message, message.pre_prepare)
        parcels.append(Parcel(Send(message, send.target)))
    return parcels


def _lying_new_view(culprit: Culprit, message: NewView, pre_prepare: PrePrepare) -> NewView:
    operation = pre_prepare.operation
    other = _inflated(operation) if isinstance(operation, Plan) else operation[1:]
    lie = culprit.propose(pre_prepare.proposal, other)
    statement = new_view_statement(message.view, message.changes, lie)
    signature = culprit.key.sign(culprit.scope.payload(statement.kind, *statement.fields))
    return msgspec.structs.replace(message, pre_prepare=lie, signature=signature)


def _inflated(plan: Plan) -> Plan:
    """The plan with more in its first transfer than anybody bid, and the objective to match the claim."""
    first = tuple(
        msgspec.structs.replace(transfer, quantity=2 * transfer.quantity + 1) for transfer in plan.transfers[:1]
    )
    return msgspec.structs.replace(plan, transfers=first + plan.transfers[1:], objective=plan.objective + 1)


def equivocating(culprit: Culprit, sends: Sequence[Send]) -> list[Parcel]:
    """Tells each half of the others something else, as leader and in its commits, and commits to both at once."""
    parcels: list[Parcel] = []
    for send in sends:
        message = send.message
        if send.target is not None or not isinstance(message, PrePrepare | Commit):
            parcels.append(Parcel(send))
            continue
        if isinstance(message, PrePrepare):
            other = culprit.propose(message.proposal, _rival(message.operation))
            told: list[list[Message]] = [
                [version, culprit.commit(*version.proposal.place)] for version in (message, other)
            ]
        else:
            told = [[message], [culprit.commit(message.view, message.seq, bytes(32))]]
        for i, peer in enumerate(culprit.peers):
            parcels += [Parcel(Send(version, peer)) for version in told[i % 2]]
    return parcels


def _rival(operation: Operation) -> Operation:
    """Another operation for the same step: a batch that is valid too (one bid fewer), or a plan that is not."""
    return _inflated(operation) if isinstance(operation, Plan) else operation[1:]


Behaviour = Callable[[Culprit, Sequence[Send]], list[Parcel]]

BEHAVIOURS: dict[str, Behaviour] = {
    "silent": silent,
    "equivocating": equivocating,
    "slow": slow,
    "lying": lying,
}
