"""The one step that is being agreed on, in one view: what was proposed, who voted for it, and what came too early."""

from collections.abc import Callable
from typing import NamedTuple

from fedsched.consensus.membership import Scope
from fedsched.consensus.messages import Commit, Decided, Prepare, Prepared, PrePrepare, Proposal

Vote = PrePrepare | Prepare | Commit


class Place(NamedTuple):
    """Where a vote counts, and whose it is."""

    view: int
    seq: int
    signer: int


def place_of(message: Vote, scope: Scope) -> Place:
    """View, sequence number and signer of a vote."""
    if isinstance(message, Commit):
        return Place(message.view, message.seq, message.replica)
    proposal = message.proposal
    signer = message.replica if isinstance(message, Prepare) else scope.leader(proposal.view)
    return Place(proposal.view, proposal.seq, signer)


class Slot:
    """Votes on the next step of the current view. One vote per peer and kind; the first one stands.

    Attributes:
        proposal: The first proposal heard of, from the leader or repeated in a backup's prepare.
        pre_prepare: The accepted proposal with its operation.
        prepares: By replica, all for the digest of `proposal`.
        commits: By replica, for any digest.
        committed: Whether this replica sent its commit.
    """

    def __init__(self) -> None:
        self.proposal: Proposal | None = None
        self.pre_prepare: PrePrepare | None = None
        self.prepares: dict[int, Prepare] = {}
        self.commits: dict[int, Commit] = {}
        self.committed = False

    def contradiction(self, proposal: Proposal) -> tuple[Proposal, Proposal] | None:
        """Two proposals of one leader for this step, where `proposal` is not the one heard first."""
        if self.proposal is None:
            self.proposal = proposal
        if self.proposal.digest == proposal.digest:
            return None
        return (self.proposal, proposal)

    def prepared(self, quorum: int) -> Prepared | None:
        """The proof of preparation: the pre-prepare and `quorum` - 1 prepares, once they are there."""
        if self.pre_prepare is None or len(self.prepares) < quorum - 1:
            return None
        chosen = sorted(self.prepares)[: quorum - 1]
        return Prepared(self.pre_prepare, tuple(self.prepares[replica] for replica in chosen))

    def decided(self, quorum: int) -> Decided | None:
        """The proof of decision: `quorum` commits of this view for the accepted digest, once they are there."""
        if self.pre_prepare is None:
            return None
        digest = self.pre_prepare.proposal.digest
        matching = [self.commits[replica] for replica in sorted(self.commits) if self.commits[replica].digest == digest]
        return Decided(self.pre_prepare, tuple(matching[:quorum])) if len(matching) >= quorum else None


class Early:
    """Votes whose step or view is not open yet: one per peer, kind and sequence number, the highest view's.

    Args:
        scope: The settlement.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._votes: dict[tuple[type[Vote], int, int], Vote] = {}

    def keep(self, message: Vote) -> None:
        """Keeps `message` unless its sender's vote of that kind is there from the same or a higher view."""
        place = place_of(message, self._scope)
        key = (type(message), place.seq, place.signer)
        held = self._votes.get(key)
        if held is None or place_of(held, self._scope).view < place.view:
            self._votes[key] = message

    def bind(self, pre_prepare: PrePrepare) -> None:
        """Keeps what NEW-VIEW proposes, in place of anything that arrived earlier under its leader's name."""
        place = place_of(pre_prepare, self._scope)
        self._votes[type(pre_prepare), place.seq, place.signer] = pre_prepare

    def take(self, view: int, executed: int, is_open: Callable[[int, int], bool]) -> Vote | None:
        """Takes out one vote whose place is open; forgets those of views and steps that are over."""
        for key, message in list(self._votes.items()):
            place = place_of(message, self._scope)
            if place.view < view or place.seq <= executed:
                del self._votes[key]
            elif is_open(place.view, place.seq):
                del self._votes[key]
                return message
        return None
