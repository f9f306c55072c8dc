"""May I sign this? The one place where a replica's signatures are made.

A replica that signs two digests at the same place can help to fork the federation, so the book of what was signed is
kept apart from everything that decides, and outlives a view. A host that restarts replicas must make the book durable
before it sends what `step` returned.
"""

from fedsched.consensus.keys import SiteKey
from fedsched.consensus.membership import Scope
from fedsched.consensus.messages import (
    Commit,
    Decided,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Proposal,
    Statement,
    Status,
    ViewChange,
    new_view_statement,
    proposal_statement,
    status_statement,
    view_change_statement,
    vote_statement,
)


class Pledges:
    """Signs; and each kind of vote at most one way per view and sequence number.

    Args:
        index: This replica's index.
        key: Its secret key.
        scope: Where the votes count.
    """

    def __init__(self, index: int, key: SiteKey, scope: Scope) -> None:
        self.index = index
        self._key = key
        self._scope = scope
        self._given: dict[tuple[str, int, int], bytes] = {}

    def propose(self, view: int, seq: int, operation: bytes) -> Proposal:
        """The leader's word for an operation's digest."""
        self._pledge("proposal", view, seq, operation)
        return Proposal(view, seq, operation, self._sign(proposal_statement(view, seq, operation)))

    def prepare(self, proposal: Proposal) -> Prepare:
        """A backup's word that it accepted `proposal`."""
        self._pledge("prepare", proposal.view, proposal.seq, proposal.digest)
        statement = vote_statement("prepare", proposal.view, proposal.seq, proposal.digest)
        return Prepare(proposal, self.index, self._sign(statement))

    def commit(self, proposal: Proposal) -> Commit:
        """A replica's word that it saw `proposal` prepared."""
        view, seq, operation = proposal.view, proposal.seq, proposal.digest
        self._pledge("commit", view, seq, operation)
        signature = self._sign(vote_statement("commit", view, seq, operation))
        return Commit(view, seq, operation, self.index, signature)

    def status(self, view: int, changing: bool, executed: int, bids: tuple[str, ...]) -> Status:
        """Where this replica stands."""
        signature = self._sign(status_statement(view, changing, executed, bids))
        return Status(view, changing, executed, bids, self.index, signature)

    def view_change(self, view: int, decided: Decided | None, prepared: Prepared | None) -> ViewChange:
        """That this replica heads for `view`, and how far it got."""
        signature = self._sign(view_change_statement(view, decided, prepared))
        return ViewChange(view, decided, prepared, self.index, signature)

    def new_view(self, view: int, changes: tuple[ViewChange, ...], pre_prepare: PrePrepare | None) -> NewView:
        """That this replica leads `view` from now on, and why."""
        signature = self._sign(new_view_statement(view, changes, pre_prepare))
        return NewView(view, changes, pre_prepare, self.index, signature)

    def _sign(self, statement: Statement) -> bytes:
        return self._key.sign(self._scope.payload(statement.kind, *statement.fields))

    def _pledge(self, kind: str, view: int, seq: int, operation: bytes) -> None:
        earlier = self._given.setdefault((kind, view, seq), operation)
        assert earlier == operation, f"replica {self.index} would sign two {kind}s at view {view}, step {seq}"
