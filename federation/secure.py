"""Secure aggregation as arithmetic: keys, sealed shares, masks, fixed point. No message is sent from here.

After Bonawitz et al., Practical secure aggregation for privacy-preserving machine learning, CCS 2017: every site
hides its vector behind one mask of its own and one mask per peer. Peer masks cancel in the sum; what is left is taken
away with shares of which any t rebuild a secret. Guards against an honest-but-curious server and against curious
sites, fewer than t together. It does not guard against a server that forges keys or tells sites different stories:
public keys are not signed.
Nor does it hide what a sum of few gives away: of two vectors (three sites, one lost) each site can subtract its own.

Values are integers modulo 2**64 with 32 binary places. The sum is exact, so it does not depend on the masks, and the
only error is one rounding a site: at most (1 + |mean|) * n * 2**-33 / sum(weight).
"""

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedsched.federation.participant import SettingError, UpdateRefusedError

KEY_BYTES = 32
BINARY_PLACES = 32
SMALLEST_WEIGHT = 2.0**-10

Vector = NDArray[np.uint64]
"""Fixed-point numbers modulo 2**64, shape [values + 1]; the last one is the weight."""


@dataclass(frozen=True)
class SecureAggregation:
    """How the sites' updates are summed so that nobody sees a single one.

    Attributes:
        threshold: share of all sites that must finish a round, above 0.5 and at most 1.
        metrics: whether sites send their training metrics, which travel in the clear.
    """

    threshold: float = 0.6
    metrics: bool = False

    def __post_init__(self) -> None:
        if not 0.5 < self.threshold <= 1.0:
            raise SettingError(
                f"secure_aggregation.threshold is {self.threshold}; it must be above 0.5, so that no two groups of "
                "sites can be asked for different sums, and at most 1"
            )

    def needed(self, sites: int) -> int:
        """Number of sites, t, that must finish a round and that can rebuild a secret: max(2, ceil(threshold * sites)).

        Raises:
            SettingError: fewer than three sites, where the sum tells each site the other's update.
        """
        if sites < 3:
            raise SettingError(
                f"secure aggregation needs at least 3 sites, this federation has {sites}: with two, each can subtract "
                "its own update from the sum. Add sites, or remove federation.secure_aggregation"
            )
        # 0.55 * 20 is 11.000000000000002 in floating point
        return max(2, math.ceil(self.threshold * sites - 1e-9))


def key_pair() -> tuple[bytes, bytes]:
    """A fresh X25519 pair: secret and public key, 32 bytes each."""
    secret = os.urandom(KEY_BYTES)
    return secret, public_key(secret)


def public_key(secret: bytes) -> bytes:
    """The X25519 public key of a secret key."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agree(secret: bytes, peer_public: bytes, purpose: bytes) -> bytes:
    """The 32-byte key that both ends of an X25519 pair derive for one purpose (HKDF-SHA256)."""
    shared = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(peer_public))
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(shared)


def commitment(seed: bytes) -> bytes:
    """What a site says of its own mask beforehand, so that wrongly rebuilt shares are noticed."""
    return hashlib.sha256(b"own mask" + seed).digest()


def seal(secret: bytes, peer_public: bytes, sender: int, receiver: int, text: bytes) -> bytes:
    """Encrypt and authenticate `text` from one node to another with AES-256-GCM.

    The nonce is zero: the key is fresh each round and bound to the direction, so it encrypts one text only.
    """
    ends = _ends(sender, receiver)
    return AESGCM(agree(secret, peer_public, b"box" + ends)).encrypt(bytes(12), text, ends)


def unseal(secret: bytes, peer_public: bytes, sender: int, receiver: int, box: bytes) -> bytes:
    """Open what `seal` made at the other end; raises cryptography's InvalidTag if it was altered."""
    ends = _ends(sender, receiver)
    return AESGCM(agree(secret, peer_public, b"box" + ends)).decrypt(bytes(12), box, ends)


def _ends(sender: int, receiver: int) -> bytes:
    return sender.to_bytes(8, "little") + receiver.to_bytes(8, "little")


def keystream(key: bytes, size: int) -> Vector:
    """ChaCha20 of a 32-byte key read as `size` numbers uniform modulo 2**64."""
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(8 * size))
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64, copy=False)


def pair_masks(secret: bytes, me: int, peers: Mapping[int, bytes], size: int) -> Vector:
    """Sum of the masks that node `me` shares with each peer (id -> public mask key).

    Of two nodes the one with the greater id adds the common mask and the other subtracts it.
    """
    total = np.zeros(size, dtype=np.uint64)
    for peer, public in peers.items():
        mask = keystream(agree(secret, public, b"mask"), size)
        if me > peer:
            total += mask
        else:
            total -= mask
    return total


def flatten(arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """All values one after the other in the order of the names, shape [values], float64."""
    return np.concatenate([np.zeros(0), *(arrays[name].ravel() for name in sorted(arrays))])


def unflatten(values: NDArray[np.float64], like: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """The inverse of `flatten` for arrays with the names and shapes of `like`."""
    names = sorted(like)
    parts = np.split(values, np.cumsum([like[name].size for name in names])[:-1])
    return {name: part.reshape(like[name].shape) for name, part in zip(names, parts, strict=True)}


def quantise(values: NDArray[np.float64], weight: float, holders: int) -> Vector:
    """Weighted values and the weight itself in fixed point, small enough that `holders` of them cannot overflow.

    Args:
        values: the flat delta, shape [values].
        weight: the site's weight in the mean.
        holders: number of vectors that may be added.

    Returns:
        Vector of shape [values + 1].

    Raises:
        UpdateRefusedError: a value could overflow the sum, or the weight is too small for the promised accuracy.
    """
    if weight < SMALLEST_WEIGHT:
        raise UpdateRefusedError(f"weight {weight} is below {SMALLEST_WEIGHT}: scale the weights of all sites up")
    with np.errstate(over="ignore"):  # an infinity is refused below
        scaled = np.rint(np.append(values * weight, weight) * 2.0**BINARY_PLACES)
    largest, limit = float(np.abs(scaled).max()), (2**63 - 1) // holders
    if not np.isfinite(largest) or int(largest) > limit:
        raise UpdateRefusedError(
            f"weight times update reaches {largest / 2**BINARY_PLACES:.3g}, beyond the {limit / 2**BINARY_PLACES:.3g} "
            f"that {holders} sites can add without overflow: lower the learning rate or scale all weights down"
        )
    return scaled.astype(np.int64).view(np.uint64)


def weighted_mean(total: Vector) -> NDArray[np.float64]:
    """The weighted mean that an unmasked sum of quantised vectors stands for, shape [values]."""
    signed = total.view(np.int64)
    return signed[:-1] / np.float64(signed[-1])


def mask(vector: Vector, own_seed: bytes, secret: bytes, me: int, peers: Mapping[int, bytes]) -> Vector:
    """Hide a quantised vector behind the node's own mask and those it shares with `peers` (id -> public mask key)."""
    return vector + keystream(own_seed, vector.size) + pair_masks(secret, me, peers, vector.size)


def unmask(
    masked: Sequence[Vector], own_seeds: Iterable[bytes], dead: Mapping[int, bytes], live: Mapping[int, bytes]
) -> Vector:
    """The sum of quantised vectors, without the masks.

    Args:
        masked: the vectors of all live nodes.
        own_seeds: the seed of each live node's own mask.
        dead: nodes that share masks with the live ones but sent no vector: id -> secret mask key.
        live: id -> public mask key.
    """
    total = np.zeros(masked[0].size, dtype=np.uint64)
    for vector in masked:
        total += vector
    for seed in own_seeds:
        total -= keystream(seed, total.size)
    for node, secret in dead.items():
        # What the dead node would have added is what the live ones' masks lack to cancel
        total += pair_masks(secret, node, live, total.size)
    return total
