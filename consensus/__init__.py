"""Agreement among sites that do not fully trust one another: signed PBFT, and the plans it settles.

The way of the data: a site signs a `Bid` -> the epoch's leader has batches of bids ordered -> it proposes
`clear(bids, links)` as the `Plan` -> every replica checks it against the ordered log with one pure predicate -> a
quorum's commits make the `Certificate` -> anybody with the membership list can check plan and certificate later.

The types: `Membership` and `Scope` say whose signatures count and for which row and epoch; `Lot`, `Bid`, `Link` go in;
`Transfer`, `Plan`, `Certificate` come out; `messages` are what replicas say in between. All are frozen and made of
integers, strings, bytes and tuples, so each has one spelling and one digest.

The functions, inside out: `clear` (three stages) and `valid` are pure; `Replica.step(event) -> effects` is the whole
protocol and has no clock, socket or randomness; `Gate.open` turns frames into verified messages; `Network` drives
replicas in simulated time; `Council.settle` is the one call that a run makes. A replica lives for one settlement: the
certificate of the settled plan takes the place of PBFT's checkpoint, and the next replica starts from its digest.
"""

from fedsched.consensus.bids import Bid, Link, Lot, SignedBid
from fedsched.consensus.certificate import Certificate, PlanRecord, load_record, verify_certificate
from fedsched.consensus.clearing import Transfer, clear
from fedsched.consensus.council import Council, Settlement
from fedsched.consensus.errors import (
    BidError,
    CertificateError,
    ConsensusError,
    MembershipError,
    PeerError,
    UnsettledError,
)
from fedsched.consensus.evidence import Evidence, proves
from fedsched.consensus.keys import SiteKey
from fedsched.consensus.membership import Membership, Scope
from fedsched.consensus.network import NetworkConfig
from fedsched.consensus.plan import Log, Plan, objective, plan_violation, valid
from fedsched.consensus.replica import Replica

__all__ = [
    "Council",
    "Settlement",
    "NetworkConfig",
    "Membership",
    "Scope",
    "SiteKey",
    "Lot",
    "Bid",
    "SignedBid",
    "Link",
    "Transfer",
    "Plan",
    "Log",
    "clear",
    "objective",
    "plan_violation",
    "valid",
    "Certificate",
    "verify_certificate",
    "PlanRecord",
    "load_record",
    "Evidence",
    "proves",
    "Replica",
    "ConsensusError",
    "MembershipError",
    "BidError",
    "PeerError",
    "CertificateError",
    "UnsettledError",
]
