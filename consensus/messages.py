"""What replicas say to one another: frozen, array-like, tagged records with one spelling each.

A *proposal* is the leader's signed word that an operation's digest has a sequence number in a view. Prepares repeat it,
so two backups that were told different things find out at once and hold the proof in hand.
"""

from typing import NamedTuple

import msgspec

from fedsched.consensus.bids import SignedBid
from fedsched.consensus.errors import PeerError
from fedsched.consensus.keys import canonical, digest
from fedsched.consensus.plan import Operation

MAX_FRAME_BYTES = 1 << 20


class Proposal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="proposal"):
    """The leader of `view` gives sequence number `seq` to the operation with this digest."""

    view: int
    seq: int
    digest: bytes
    signature: bytes

    @property
    def place(self) -> tuple[int, int, bytes]:
        """What is proposed; a liar can sign the same thing twice with different signatures."""
        return (self.view, self.seq, self.digest)


class PrePrepare(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="pre-prepare"):
    """A proposal with its operation; it counts as the leader's prepare."""

    proposal: Proposal
    operation: Operation


class Prepare(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="prepare"):
    """A backup accepted the proposal and found its operation valid."""

    proposal: Proposal
    replica: int
    signature: bytes


class Commit(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="commit"):
    """A replica saw a quorum accept the digest; a quorum of commits is a decision."""

    view: int
    seq: int
    digest: bytes
    replica: int
    signature: bytes


class Prepared(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="prepared"):
    """Proof that no other digest can be prepared in the same view and sequence number."""

    pre_prepare: PrePrepare
    prepares: tuple[Prepare, ...]


class Decided(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="decided"):
    """Proof of a decision; enough on its own for a replica that missed everything else."""

    pre_prepare: PrePrepare
    commits: tuple[Commit, ...]

    @property
    def seq(self) -> int:
        """The decided sequence number."""
        return self.pre_prepare.proposal.seq


class ViewChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="view-change"):
    """A replica gives up on all views below `view` and shows how far it got: last decision, prepared next step."""

    view: int
    decided: Decided | None
    prepared: Prepared | None
    replica: int
    signature: bytes

    @property
    def executed(self) -> int:
        """The last sequence number that the sender decided."""
        return 0 if self.decided is None else self.decided.seq


class NewView(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="new-view"):
    """The leader of `view` shows a quorum of view changes and re-proposes what they carry, if anything."""

    view: int
    changes: tuple[ViewChange, ...]
    pre_prepare: PrePrepare | None
    replica: int
    signature: bytes


class Request(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="request"):
    """A site's bid, passed on by any replica; the site's own signature makes it genuine."""

    signed: SignedBid


class Status(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="status"):
    """Where a replica stands, so that peers can send what it lacks: the view it is in or heads for, steps, bids."""

    view: int
    changing: bool
    executed: int
    bids: tuple[str, ...]
    replica: int
    signature: bytes


Message = Request | PrePrepare | Prepare | Commit | Decided | ViewChange | NewView | Status

_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The frame that carries `message`."""
    return canonical(message)


def decode(frame: bytes) -> Message:
    """The message in `frame`, of correct types and sizes; nothing is said about signatures yet.

    Raises:
        PeerError: The frame is too long or is not a message.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise PeerError(f"frame of {len(frame)} bytes, at most {MAX_FRAME_BYTES}: dropped")
    try:
        return _decoder.decode(frame)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PeerError(f"frame of {len(frame)} bytes is not a message ({error}): dropped") from error


class Statement(NamedTuple):
    """What exactly a signature covers: the kind of statement and its fields in order."""

    kind: str
    fields: tuple[object, ...]


def proposal_statement(view: int, seq: int, operation: bytes) -> Statement:
    """What a leader signs when it proposes the operation with this digest."""
    return Statement("proposal", (view, seq, operation))


def vote_statement(kind: str, view: int, seq: int, operation: bytes) -> Statement:
    """What a replica signs when it prepares or commits (`kind`) the operation with this digest."""
    return Statement(kind, (view, seq, operation))


def view_change_statement(view: int, decided: Decided | None, prepared: Prepared | None) -> Statement:
    """What a replica signs when it heads for `view`."""
    return Statement("view-change", (view, digest("evidence", (decided, prepared))))


def new_view_statement(view: int, changes: tuple[ViewChange, ...], pre_prepare: PrePrepare | None) -> Statement:
    """What a leader signs when it opens `view`."""
    return Statement("new-view", (view, digest("evidence", (changes, pre_prepare))))


def status_statement(view: int, changing: bool, executed: int, bids: tuple[str, ...]) -> Statement:
    """What a replica signs when it says where it stands."""
    return Statement("status", (view, changing, executed, bids))
