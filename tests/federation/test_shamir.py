"""Any t shares rebuild the secret; t - 1 fit every secret equally well."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsched.federation import shamir

secrets = st.binary(min_size=32, max_size=32)


def is_prime(number: int) -> bool:
    """Miller-Rabin with twenty bases."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in range(2, 22):
        chain = [pow(base, odd * 2**k, number) for k in range(twos)]
        if chain[0] != 1 and number - 1 not in chain:
            return False
    return True


def test_the_field_is_a_field() -> None:
    assert is_prime(shamir.PRIME)
    assert not is_prime(shamir.PRIME + 2)


@given(secret=secrets, threshold=st.integers(1, 5), extra=st.integers(0, 3), data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_threshold_shares_rebuild_the_secret(
    secret: bytes, threshold: int, extra: int, data: st.DataObject
) -> None:
    count = threshold + extra
    points = data.draw(st.lists(st.integers(1, 1000), min_size=count, max_size=count, unique=True))
    shares = shamir.split(secret, points, threshold)
    chosen = data.draw(st.permutations(points))[:threshold]
    assert shamir.combine({point: shares[point] for point in chosen}) == secret
    assert shamir.combine(shares) == secret


@given(secret=secrets, other=secrets, threshold=st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_fewer_shares_are_consistent_with_any_other_secret(secret: bytes, other: bytes, threshold: int) -> None:
    points = list(range(1, threshold + 2))
    shares = shamir.split(secret, points, threshold)
    known = {point: int.from_bytes(shares[point], "big") for point in points[: threshold - 1]}
    # The polynomial of degree t - 1 through the known shares and the other secret at 0 gives the missing share
    curve = {0: int.from_bytes(other, "big"), **known}
    missing = points[-1]
    value = 0
    for point, at in curve.items():
        above, below = 1, 1
        for peer in curve:
            if peer != point:
                above, below = above * (missing - peer), below * (point - peer)
        value += at * above * pow(below, -1, shamir.PRIME)
    forged = (value % shamir.PRIME).to_bytes(shamir.SHARE_BYTES, "big")
    held = {point: shares[point] for point in known}
    assert shamir.combine({**held, missing: forged}) == other


def test_shares_of_equal_secrets_differ() -> None:
    secret = bytes(32)
    assert shamir.split(secret, [1, 2, 3], 2) != shamir.split(secret, [1, 2, 3], 2)


@pytest.mark.parametrize(
    ("secret", "points", "threshold", "problem"),
    [
        (bytes(31), [1, 2], 2, "31 bytes"),
        (bytes(32), [1, 1], 2, "different and positive"),
        (bytes(32), [0, 1], 2, "different and positive"),
        (bytes(32), [1, 2], 3, "threshold 3"),
        (bytes(32), [1, 2], 0, "threshold 0"),
    ],
)
def test_wrong_input_is_refused(secret: bytes, points: list[int], threshold: int, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        shamir.split(secret, points, threshold)


def test_shares_beyond_every_secret_are_refused() -> None:
    beyond = (2**256 + 3).to_bytes(shamir.SHARE_BYTES, "big")
    with pytest.raises(ValueError, match=r"shares \[1\]"):
        shamir.combine({1: beyond})
