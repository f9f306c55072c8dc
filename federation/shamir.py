"""Shamir's secret sharing: a 32-byte secret in n shares, of which any t give it back and t - 1 say nothing.

A. Shamir, How to share a secret, CACM 22 (1979). The field is the integers modulo 2**256 + 297, the smallest prime
above 2**256, so that every 32-byte secret is a field element. Python integers are not constant time: a share is only
ever handled on the machine that may see it.
"""

import secrets
from collections.abc import Mapping, Sequence

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, points: Sequence[int], threshold: int) -> dict[int, bytes]:
    """Split a secret for the holders of `points`, any `threshold` of whom can rebuild it.

    Args:
        secret: 32 bytes.
        points: the holders' numbers, different and positive.
        threshold: shares needed, t, 1 <= t <= number of holders.

    Returns:
        point -> share of 33 bytes: a random polynomial of degree t - 1 through the secret, at that point.

    Raises:
        ValueError: the secret is not 32 bytes long, or the points or the threshold do not fit.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret of {len(secret)} bytes was given, {SECRET_BYTES} are shared at a time")
    if len(set(points)) != len(points) or min(points, default=0) < 1:
        raise ValueError(f"share numbers {list(points)} must be different and positive (0 is the secret itself)")
    if not 1 <= threshold <= len(points):
        raise ValueError(f"threshold {threshold} is not between 1 and the number of holders, {len(points)}")
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {point: _evaluate(coefficients, point).to_bytes(SHARE_BYTES, "big") for point in points}


def _evaluate(coefficients: list[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value


def combine(shares: Mapping[int, bytes]) -> bytes:
    """Rebuild a secret from at least as many shares as its threshold (fewer, or a wrong one, give another value).

    Args:
        shares: share number (from 1) -> share of 33 bytes.

    Returns:
        The polynomial at 0 by Lagrange interpolation, 32 bytes.

    Raises:
        ValueError: the shares do not meet in a 32-byte secret, so at least one is wrong.
    """
    secret = 0
    for point, share in shares.items():
        above, below = 1, 1
        for other in shares:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        secret = (secret + int.from_bytes(share, "big") * above * pow(below, -1, PRIME)) % PRIME
    if secret >= 2**256:
        raise ValueError(f"shares {sorted(shares)} do not belong to one secret: at least one of them is wrong")
    return secret.to_bytes(SECRET_BYTES, "big")
