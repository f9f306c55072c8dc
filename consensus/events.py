"""What goes into a replica and what comes out of it; plain records, so that any host can carry them."""

from dataclasses import dataclass

from fedsched.consensus.bids import SignedBid
from fedsched.consensus.certificate import Certificate
from fedsched.consensus.evidence import Evidence
from fedsched.consensus.messages import Message
from fedsched.consensus.plan import Plan


@dataclass(frozen=True)
class Timing:
    """Patience of a replica, in ticks. A tick should be about one message delay.

    Attributes:
        bids: How long a leader waits for the bids of all sites.
        status: How often a replica says where it stands.
        timeout: How long a step may take before the leader is replaced; doubles with each view that fails.
        doublings: How often it doubles at most.
    """

    bids: int = 8
    status: int = 3
    timeout: int = 20
    doublings: int = 3


@dataclass(frozen=True)
class Tick:
    """Event: time passed."""


@dataclass(frozen=True)
class Submit:
    """Event: this replica's own site bids."""

    signed: SignedBid


@dataclass(frozen=True)
class Received:
    """Event: a message that the gate verified."""

    message: Message


Event = Tick | Submit | Received


@dataclass(frozen=True)
class Send:
    """Effect: send a message to one replica, or to all others (None)."""

    message: Message
    target: int | None = None


@dataclass(frozen=True)
class Accuse:
    """Effect: a site broke the rules, and here is the proof."""

    evidence: Evidence


@dataclass(frozen=True)
class Entered:
    """Effect: the replica works in a new view now."""

    view: int


@dataclass(frozen=True)
class Settled:
    """Effect: the plan is decided."""

    plan: Plan
    certificate: Certificate


Effect = Send | Accuse | Entered | Settled
