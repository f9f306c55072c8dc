"""What sites say before an epoch: lots, bids, and the links between them. Integers only.

An *ask* is queued work that a site would hand over, an *offer* is capacity that it would let others use. Unit values
are milli-units of currency per unit of the resource; which unit that is belongs to the domain (the data centres trade
`processor-hours`). The records keep their field names on the wire because run folders show them to people.
"""

from functools import cached_property
from typing import Self

import msgspec

from fedsched.consensus.errors import BidError
from fedsched.consensus.keys import SiteKey, digest, verify
from fedsched.consensus.membership import Scope

DATA_LIMIT = "data_mb_per_unit"
ABOVE = "_above"
MAX_LOTS = 16
MAX_LIMITS = 16
MAX_NAME = 64
MAX_INTEGER = 1 << 40
# The objective is a sum over at most 64 sites of quantity x unit value and must stay inside 64 bits on the wire.
MAX_WORTH = 1 << 56

Limits = tuple[tuple[str, int], ...]


def _check_name(what: str, name: str) -> None:
    if not 0 < len(name) <= MAX_NAME:
        raise BidError(f"{what} needs 1 to {MAX_NAME} characters, got {name!r}")


def _check_integer(what: str, value: int, least: int = 0) -> None:
    if not least <= value <= MAX_INTEGER:
        raise BidError(f"{what} must lie in {least}..{MAX_INTEGER}, got {value}")


class Lot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A quantity of one resource that a site offers or asks for.

    Attributes:
        resource: What is traded.
        quantity: Units, at least 1.
        unit_value: Milli-currency per unit: an offer's reserve price, or what an ask is worth to its site at most.
        window: Start and end, whole seconds on the common clock; the end is later.
        limits: Named bounds, sorted by name. On an offer the widest work accepted, on an ask the widest there is.
            `data_mb_per_unit` bounds the megabytes that move with a unit; a name in `_above` is the exclusive lower
            end of the limit it extends, so that `width_above` 8 and `width` 16 mean a class of widths from 9 to 16.

    Raises:
        BidError: A field breaks its bound.
    """

    resource: str
    quantity: int
    unit_value: int
    window: tuple[int, int]
    limits: Limits = ()

    def __post_init__(self) -> None:
        _check_name("a lot's resource", self.resource)
        _check_integer(f"quantity of {self.resource}", self.quantity, least=1)
        _check_integer(f"unit value of {self.resource}", self.unit_value)
        _check_integer("start of the window", self.window[0])
        _check_integer("end of the window", self.window[1], least=self.window[0] + 1)
        names = [name for name, _ in self.limits]
        if names != sorted(set(names)) or len(names) > MAX_LIMITS:
            raise BidError(f"limits of {self.resource} must be at most {MAX_LIMITS}, distinct, sorted; got {names}")
        for name, bound in self.limits:
            _check_name("a limit", name)
            _check_integer(f"limit {name}", bound)


class Bid(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """What one site offers and asks for in one epoch.

    Attributes:
        site: Who bids.
        epoch: For which epoch.
        offers: Capacity for others' work, at most 16 lots.
        asks: Own work for others, at most 16 lots.

    Raises:
        BidError: Too many lots, or more worth than 2**56 milli-currency.
    """

    site: str
    epoch: int
    offers: tuple[Lot, ...] = ()
    asks: tuple[Lot, ...] = ()

    def __post_init__(self) -> None:
        _check_name("a bid's site", self.site)
        _check_integer(f"epoch of {self.site}'s bid", self.epoch)
        if max(len(self.offers), len(self.asks)) > MAX_LOTS:
            raise BidError(f"{self.site} bids {len(self.offers)} offers, {len(self.asks)} asks; {MAX_LOTS} of each fit")
        if sum(lot.quantity * lot.unit_value for lot in self.asks) > MAX_WORTH:
            raise BidError(f"{self.site} asks for more than {MAX_WORTH} milli-currency; use coarser units")

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that name this bid."""
        return digest("bid", (self.site, self.epoch, self.offers, self.asks))


class SignedBid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bid with its site's signature over scope, site and the bid's digest."""

    bid: Bid
    signature: bytes

    @classmethod
    def by(cls, key: SiteKey, bid: Bid, scope: Scope) -> Self:
        """The bid, signed for `scope`."""
        return cls(bid, key.sign(scope.payload("bid", bid.site, bid.digest)))

    def holds(self, scope: Scope) -> bool:
        """Whether a member of the federation signed this bid for this scope."""
        bid = self.bid
        public = scope.membership.publics.get(bid.site)
        if public is None or bid.epoch != scope.epoch:
            return False
        return verify(public, scope.payload("bid", bid.site, bid.digest), self.signature)


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can move from one site to another; sites without a link in that direction do not trade in it.

    Attributes:
        source: Where work and its data leave.
        target: Where they arrive.
        capacity: Megabytes per epoch.
        latency_ms: One-way latency in milliseconds.
        unit_cost: Milli-currency per megabyte moved; the asking site pays it.

    Raises:
        BidError: A field breaks its bound, or source and target are the same.
    """

    source: str
    target: str
    capacity: int
    latency_ms: int = 0
    unit_cost: int = 0

    def __post_init__(self) -> None:
        _check_name("a link's source", self.source)
        _check_name("a link's target", self.target)
        if self.source == self.target:
            raise BidError(f"a link needs two sites, got {self.source!r} twice")
        for name in ("capacity", "latency_ms", "unit_cost"):
            _check_integer(f"{name} of link {self.source}->{self.target}", getattr(self, name))
