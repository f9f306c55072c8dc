"""The edge: frames from peers become verified messages here, or faults. Nothing behind it distrusts a signature.

A message is rejected whole; half of a view change is never believed. Opening a frame depends on the frame and on the
scope alone, so replicas that share a process may share the result.
"""

from collections.abc import Iterable

from fedsched.consensus.errors import PeerError
from fedsched.consensus.membership import Scope
from fedsched.consensus.messages import (
    Commit,
    Decided,
    Message,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Proposal,
    Request,
    Statement,
    Status,
    ViewChange,
    decode,
    new_view_statement,
    proposal_statement,
    status_statement,
    view_change_statement,
    vote_statement,
)
from fedsched.consensus.plan import operation_digest

MAX_NUMBER = 1 << 32


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise PeerError(f"{reason}: dropped")


class Gate:
    """Opens frames of one settlement.

    Args:
        scope: Whose signatures count, and for what.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def open(self, frame: bytes) -> Message:
        """The verified message in `frame`.

        Raises:
            PeerError: Malformed, oversized, out of range, or a signature in it is missing or wrong.
        """
        message = decode(frame)
        match message:
            case Request():
                _require(message.signed.holds(self.scope), f"bid of {message.signed.bid.site!r} is not signed by it")
            case PrePrepare():
                self._check_pre_prepare(message)
            case Prepare():
                self._check_prepare(message)
            case Commit():
                self._check_commit(message)
            case Decided():
                self.check_decided(message)
            case ViewChange():
                self._check_view_change(message)
            case NewView():
                self._check_new_view(message)
            case Status():
                self._check_status(message)
        return message

    def _signed(self, replica: int, signature: bytes, statement: Statement) -> None:
        genuine = self.scope.signed(replica, signature, statement.kind, *statement.fields)
        _require(genuine, f"{statement.kind} is not signed by replica {replica}")

    def check_proposal(self, proposal: Proposal) -> None:
        """Raises PeerError unless the leader of its view signed `proposal`."""
        in_range = 0 <= proposal.view < MAX_NUMBER and 0 < proposal.seq <= self.scope.membership.n + 1
        _require(in_range, "proposal's view or sequence number is out of range")
        statement = proposal_statement(proposal.view, proposal.seq, proposal.digest)
        self._signed(self.scope.leader(proposal.view), proposal.signature, statement)

    def _check_pre_prepare(self, message: PrePrepare) -> None:
        self.check_proposal(message.proposal)
        _require(operation_digest(message.operation) == message.proposal.digest, "operation and digest differ")

    def _check_prepare(self, message: Prepare) -> None:
        proposal = message.proposal
        self.check_proposal(proposal)
        _require(message.replica != self.scope.leader(proposal.view), "a leader does not prepare its own proposal")
        statement = vote_statement("prepare", proposal.view, proposal.seq, proposal.digest)
        self._signed(message.replica, message.signature, statement)

    def _check_commit(self, message: Commit) -> None:
        in_range = 0 <= message.view < MAX_NUMBER and 0 < message.seq <= self.scope.membership.n + 1
        _require(in_range, "commit's view or sequence number is out of range")
        statement = vote_statement("commit", message.view, message.seq, message.digest)
        self._signed(message.replica, message.signature, statement)

    def _check_voters(self, replicas: Iterable[int], needed: int, what: str) -> None:
        voters = list(replicas)
        _require(len(set(voters)) == len(voters) >= needed, f"{what} lacks {needed} distinct signers")

    def check_decided(self, message: Decided) -> None:
        """Raises PeerError unless a quorum committed exactly the operation in `message`."""
        self._check_voters((one.replica for one in message.commits), self.scope.membership.quorum, "decision")
        self._check_pre_prepare(message.pre_prepare)
        place = message.pre_prepare.proposal.place
        for commit in message.commits:
            _require((commit.view, commit.seq, commit.digest) == place, "a commit belongs to another decision")
            self._check_commit(commit)

    def _check_prepared(self, message: Prepared) -> None:
        self._check_voters((one.replica for one in message.prepares), self.scope.membership.quorum - 1, "preparation")
        self._check_pre_prepare(message.pre_prepare)
        place = message.pre_prepare.proposal.place
        for prepare in message.prepares:
            _require(prepare.proposal.place == place, "a prepare belongs to another proposal")
            self._check_prepare(prepare)

    def _check_view_change(self, message: ViewChange) -> None:
        _require(0 < message.view < MAX_NUMBER, "view change's view is out of range")
        statement = view_change_statement(message.view, message.decided, message.prepared)
        self._signed(message.replica, message.signature, statement)
        if message.decided is not None:
            self.check_decided(message.decided)
        if message.prepared is not None:
            proposal = message.prepared.pre_prepare.proposal
            next_step = proposal.seq == message.executed + 1 and proposal.view < message.view
            _require(next_step, "view change's preparation is not the step after its decision")
            self._check_prepared(message.prepared)

    def _check_new_view(self, message: NewView) -> None:
        _require(0 < message.view < MAX_NUMBER, "new view is out of range")
        _require(message.replica == self.scope.leader(message.view), "new view does not come from its leader")
        statement = new_view_statement(message.view, message.changes, message.pre_prepare)
        self._signed(message.replica, message.signature, statement)
        self._check_voters((one.replica for one in message.changes), self.scope.membership.quorum, "new view")
        for change in message.changes:
            _require(change.view == message.view, "a view change belongs to another view")
            self._check_view_change(change)
        if message.pre_prepare is not None:
            _require(message.pre_prepare.proposal.view == message.view, "new view proposes in another view")
            self._check_pre_prepare(message.pre_prepare)

    def _check_status(self, message: Status) -> None:
        in_range = 0 <= message.view < MAX_NUMBER and 0 <= message.executed < MAX_NUMBER
        _require(in_range and len(message.bids) <= self.scope.membership.n, "status is out of range")
        statement = status_statement(message.view, message.changing, message.executed, message.bids)
        self._signed(message.replica, message.signature, statement)
