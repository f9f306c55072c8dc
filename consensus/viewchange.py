"""How a new leader takes over without losing what may have been decided.

`select` is the whole rule and is pure: the new leader uses it to build NEW-VIEW, every backup uses it to check the same
message. A step that any replica decided was prepared by a quorum, any quorum of view changes meets that quorum in an
honest replica, and that replica shows either its decision or its preparation.
"""

from collections.abc import Iterable
from typing import NamedTuple

from fedsched.consensus.messages import NewView, PrePrepare, ViewChange
from fedsched.consensus.quorum import weak_quorum


class Selection(NamedTuple):
    """What a new view starts from: the last decided step, and the proposal that must be repeated after it, if any."""

    base: int
    carried: PrePrepare | None


def select(changes: Iterable[ViewChange]) -> Selection:
    """What a quorum of verified view changes obliges their new leader to.

    The furthest decision is the base. Among preparations of the step after it, the one of the highest view wins: a
    lower one may have been overruled since.
    """
    changes = tuple(changes)
    base = max(change.executed for change in changes)
    prepared = [
        change.prepared.pre_prepare
        for change in changes
        if change.prepared is not None and change.prepared.pre_prepare.proposal.seq == base + 1
    ]
    carried = max(prepared, key=lambda one: (one.proposal.view, one.proposal.digest), default=None)
    return Selection(base, carried)


def follows(message: NewView) -> bool:
    """Whether a verified NEW-VIEW re-proposes exactly what its own view changes oblige it to."""
    base, carried = select(message.changes)
    if carried is None or message.pre_prepare is None:
        return carried is None and message.pre_prepare is None
    proposal = message.pre_prepare.proposal
    return (proposal.seq, proposal.digest) == (base + 1, carried.proposal.digest)


class Changes:
    """The latest view change of each replica; one per peer, so a peer cannot fill the memory.

    Args:
        n: Number of replicas.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._latest: dict[int, ViewChange] = {}

    def add(self, change: ViewChange) -> None:
        """Keeps `change` unless its sender already went to a higher view."""
        held = self._latest.get(change.replica)
        if held is None or held.view < change.view:
            self._latest[change.replica] = change

    def of(self, view: int) -> tuple[ViewChange, ...]:
        """The view changes to exactly `view`, by replica."""
        return tuple(self._latest[one] for one in sorted(self._latest) if self._latest[one].view == view)

    def reached(self, view: int) -> int:
        """How many replicas have given up on all views below `view`."""
        return sum(change.view >= view for change in self._latest.values())

    def overtaken(self, view: int) -> int | None:
        """The lowest view to join, once more replicas than can be faulty have left `view` behind."""
        ahead = [change.view for change in self._latest.values() if change.view > view]
        return min(ahead) if len(ahead) >= weak_quorum(self._n) else None
