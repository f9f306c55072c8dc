"""Signatures and digests: Ed25519 (PyNaCl) and BLAKE2b, and the canonical bytes both are taken over.

The rest of the room signs with `SiteKey.sign` and checks with `verify`, and knows nothing else of cryptography.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Self

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from fedsched.consensus.errors import MembershipError

DIGEST_BYTES = 32
SIGNATURE_BYTES = 64
PUBLIC_BYTES = 32

_encoder = msgspec.msgpack.Encoder()


def canonical(value: object) -> bytes:
    """The one spelling of a frozen record: MessagePack of its fields in the order of definition.

    Signatures and digests are taken over the re-encoded record, so a second spelling of the same frame gains nothing.
    """
    return _encoder.encode(value)


def digest(kind: str, value: object) -> bytes:
    """BLAKE2b of `value`, 32 bytes, separated by `kind` so that a plan's digest can never be a batch's."""
    return blake2b(canonical((kind, value)), digest_size=DIGEST_BYTES).digest()


class SiteKey:
    """A site's secret Ed25519 key, used for its bids and for its replica's votes.

    Attributes:
        public: The public key, 32 bytes.
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) != PUBLIC_BYTES:
            raise MembershipError(f"a site key needs a seed of {PUBLIC_BYTES} bytes, got {len(seed)}")
        self._key = SigningKey(seed)
        self.public = bytes(self._key.verify_key)

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key that belongs to a 32-byte seed; equal seeds give equal keys, which makes runs repeatable."""
        return cls(seed)

    def sign(self, payload: bytes) -> bytes:
        """The 64-byte signature of `payload`."""
        return bytes(self._key.sign(payload).signature)


@lru_cache(maxsize=16384)
def verify(public: bytes, payload: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public`'s over `payload`.

    The answer depends on the three byte strings alone, so replicas in one process may share the cache.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(public).verify(payload, signature)
    except (BadSignatureError, ValueError):
        return False
    return True
