"""Signatures and digests: what is accepted, and that nothing else is."""

from typing import Any

import pytest

from fedsched.consensus import MembershipError, SiteKey
from fedsched.consensus.keys import digest, verify


def test_equal_seeds_give_equal_keys() -> None:
    assert SiteKey.from_seed(b"a" * 32).public == SiteKey.from_seed(b"a" * 32).public
    assert SiteKey.from_seed(b"a" * 32).public != SiteKey.from_seed(b"b" * 32).public


def test_any_changed_bit_of_a_signature_or_payload_is_refused() -> None:
    key = SiteKey.from_seed(b"a" * 32)
    signature = key.sign(b"payload")
    assert verify(key.public, b"payload", signature)
    assert not verify(key.public, b"payloae", signature)
    for bit in range(0, 512, 37):
        forged = bytearray(signature)
        forged[bit // 8] ^= 1 << bit % 8
        assert not verify(key.public, b"payload", bytes(forged))


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 65])
def test_signature_of_wrong_length_is_refused(signature: Any) -> None:
    assert not verify(SiteKey.from_seed(b"a" * 32).public, b"payload", signature)


def test_short_seed_is_an_error() -> None:
    with pytest.raises(MembershipError, match="32 bytes"):
        SiteKey.from_seed(b"short")


def test_digest_is_separated_by_kind() -> None:
    assert digest("plan", (1, 2)) != digest("batch", (1, 2))
