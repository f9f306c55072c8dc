"""Memberships that can agree, and scopes that keep signatures apart."""

from typing import Any

import msgspec
import pytest

from fedsched.consensus import Membership, MembershipError, Scope, SiteKey


def test_fewer_than_four_sites_cannot_agree(federation: Any) -> None:
    keys = dict(list(federation.keys.items())[:3])
    with pytest.raises(MembershipError, match="at least 4"):
        Membership.of("toy", keys)


def test_sites_must_be_sorted_and_have_their_own_keys(federation: Any) -> None:
    sites = federation.membership.sites
    with pytest.raises(MembershipError, match="sorted"):
        Membership("toy", sites[::-1])
    with pytest.raises(MembershipError, match="own public key"):
        Membership("toy", (*sites[:3], ("zoo", sites[0][1])))


def test_digest_names_federation_and_keys(federation: Any) -> None:
    membership = federation.membership
    other_key = Membership.of("toy", {**federation.keys, "west": SiteKey.from_seed(b"z" * 32)})
    digests = {membership.digest, msgspec.structs.replace(membership, federation="other").digest, other_key.digest}
    assert len(digests) == 3


def test_a_signature_counts_in_its_own_scope_and_statement_only(federation: Any) -> None:
    scope = federation.scope(epoch=3)
    signature = federation.keys["east"].sign(scope.payload("commit", 0, 1, b"d"))
    assert scope.signed(0, signature, "commit", 0, 1, b"d")
    assert not scope.signed(0, signature, "prepare", 0, 1, b"d")
    assert not scope.signed(0, signature, "commit", 1, 1, b"d")
    assert not scope.signed(1, signature, "commit", 0, 1, b"d")
    assert not scope.signed(99, signature, "commit", 0, 1, b"d")
    assert not scope.signed(-4, signature, "commit", 0, 1, b"d")
    renamed = msgspec.structs.replace(federation.membership, federation="other")
    for other in (federation.scope(epoch=4), federation.scope(epoch=3, row=1), Scope(renamed, 0, 3)):
        assert not other.signed(0, signature, "commit", 0, 1, b"d")


def test_leader_rotates_with_epoch_and_view(federation: Any) -> None:
    assert [federation.scope(epoch).leader(0) for epoch in range(5)] == [0, 1, 2, 3, 0]
    assert [federation.scope(2).leader(view) for view in range(4)] == [2, 3, 0, 1]
