"""Who takes part, and under which name a signature counts."""

from collections.abc import Mapping
from functools import cached_property
from typing import Self

import msgspec

from fedsched.consensus import quorum
from fedsched.consensus.errors import MembershipError
from fedsched.consensus.keys import PUBLIC_BYTES, SiteKey, canonical, digest, verify

PROTOCOL = "fedsched-consensus-1"
LARGEST = 64


class Membership(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The sites of one federation; all that an outsider needs to check a certificate.

    Attributes:
        federation: Name of the federation (and of the run, where several runs must not be mixed up).
        sites: Pairs of site name and 32-byte public key, sorted by name; replica i is sites[i].

    Raises:
        MembershipError: Fewer than four sites, unsorted or repeated names, or repeated or malformed keys.
    """

    federation: str
    sites: tuple[tuple[str, bytes], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.sites]
        if len(names) < quorum.SMALLEST:
            raise MembershipError(
                f"federation {self.federation!r} has {len(names)} site(s) ({', '.join(names)}); Byzantine agreement "
                f"needs at least {quorum.SMALLEST} to survive one fault: add sites or settle without consensus"
            )
        if len(names) > LARGEST:
            raise MembershipError(f"{len(names)} sites: at most {LARGEST} can agree directly; use delegates by region")
        if names != sorted(set(names)) or "" in names:
            raise MembershipError(f"site names must be distinct, not empty and sorted, got {names}")
        publics = {public for _, public in self.sites}
        if len(publics) != len(names) or any(len(public) != PUBLIC_BYTES for public in publics):
            raise MembershipError("each site needs its own public key of 32 bytes; two sites share one or one is short")

    @classmethod
    def of(cls, federation: str, keys: Mapping[str, SiteKey]) -> Self:
        """The membership made of named secret keys."""
        return cls(federation, tuple((name, keys[name].public) for name in sorted(keys)))

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that name this federation with exactly these keys."""
        return digest("membership", (self.federation, self.sites))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Site names by replica index."""
        return tuple(name for name, _ in self.sites)

    @cached_property
    def publics(self) -> dict[str, bytes]:
        """Public key by site name."""
        return dict(self.sites)

    @property
    def n(self) -> int:
        """Number of replicas."""
        return len(self.sites)

    @property
    def quorum(self) -> int:
        """Replicas that must say the same."""
        return quorum.quorum(self.n)

    @property
    def required_bids(self) -> int:
        """Bids that must be ordered before a plan: n - f, since f sites may stay silent."""
        return self.n - quorum.tolerated(self.n)


class Scope(msgspec.Struct, frozen=True, dict=True):
    """One settlement: one epoch of one chain of plans. A signature made in one scope is worthless in any other.

    Attributes:
        membership: The sites.
        row: Which chain (evaluation copies settle independently).
        epoch: Which epoch of the chain.
    """

    membership: Membership
    row: int
    epoch: int

    def payload(self, kind: str, *fields: object) -> bytes:
        """The bytes to sign for a statement of type `kind`: domain, federation, membership, scope, then the fields."""
        return canonical((PROTOCOL, kind, *self._domain, *fields))

    @cached_property
    def _domain(self) -> tuple[object, ...]:
        return (self.membership.federation, self.membership.digest, self.row, self.epoch)

    def leader(self, view: int) -> int:
        """Index of the replica that leads `view`; the first leader rotates with the epoch."""
        return (self.epoch + view) % self.membership.n

    def signed(self, replica: int, signature: bytes, kind: str, *fields: object) -> bool:
        """Whether `replica` (an index, which may be out of range) signed the statement."""
        if not 0 <= replica < self.membership.n:
            return False
        return verify(self.membership.sites[replica][1], self.payload(kind, *fields), signature)
