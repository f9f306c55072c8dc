"""Quorum sizes against the published table, and the reason for them."""

from typing import Any

import pytest

from fedsched.consensus.quorum import quorum, tolerated, weak_quorum


@pytest.mark.parametrize(("n", "size"), [(4, 3), (5, 4), (6, 4), (7, 5), (10, 7), (31, 21)])
def test_published_table(n: int, size: Any) -> None:
    assert quorum(n) == size


@pytest.mark.parametrize("n", range(4, 101))
def test_two_quorums_share_an_honest_replica_and_the_honest_ones_are_a_quorum(n: int) -> None:
    f = tolerated(n)
    assert n >= 3 * f + 1
    assert 2 * quorum(n) - n >= f + 1
    assert quorum(n) <= n - f
    assert weak_quorum(n) == f + 1
