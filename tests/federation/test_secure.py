"""Masks hide each vector and cancel in the sum; fixed point is exact to 1e-6 and refuses what could overflow."""

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsched.federation import SecureAggregation, SettingError, UpdateRefusedError, secure


def masked_sum(vectors: dict[int, secure.Vector], silent: set[int]) -> secure.Vector:
    """Mask every vector, lose those of the silent nodes, and unmask the rest with the secrets at hand."""
    pairs = {node: secure.key_pair() for node in vectors}
    seeds = {node: secure.key_pair()[0] for node in vectors}
    publics = {node: public for node, (_, public) in pairs.items()}
    masked = {
        node: secure.mask(v, seeds[node], pairs[node][0], node, {k: p for k, p in publics.items() if k != node})
        for node, v in vectors.items()
        if node not in silent
    }
    dead = {node: pairs[node][0] for node in silent}
    live = {node: publics[node] for node in masked}
    return secure.unmask(list(masked.values()), [seeds[node] for node in masked], dead, live)


@given(data=st.data(), nodes=st.integers(2, 6), size=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_unmasked_sum_is_the_sum_of_the_live_vectors(data: st.DataObject, nodes: int, size: int) -> None:
    seed = data.draw(st.integers(0, 2**32))
    silent = set(data.draw(st.lists(st.integers(0, nodes - 1), max_size=nodes - 1, unique=True)))
    draw = np.random.default_rng(seed)
    vectors = {node: draw.integers(0, 2**64, size, dtype=np.uint64) for node in range(nodes)}
    expected = np.zeros(size, np.uint64)
    for node in vectors.keys() - silent:
        expected += vectors[node]
    assert np.array_equal(masked_sum(vectors, silent), expected)


@given(
    weights=st.lists(st.floats(2**-10, 1e7), min_size=1, max_size=12),
    scale=st.floats(1e-6, 1.0),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=100, deadline=None)
def test_fixed_point_mean_is_exact_to_the_promised_bound(weights: list[float], scale: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = [draw.normal(0, scale, 50).clip(-3, 3) for _ in weights]
    total = np.zeros(51, np.uint64)
    for value, weight in zip(values, weights, strict=True):
        total += secure.quantise(value, weight, len(weights))
    exact = np.average(values, axis=0, weights=weights)
    bound = (1 + np.abs(exact)) * len(weights) * 2**-33 / sum(weights)
    assert (np.abs(secure.weighted_mean(total) - exact) <= bound * (1 + 1e-6) + 1e-14).all()
    assert bound.max() < 1e-6


@given(holders=st.integers(1, 1000), data=st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_accepted_cannot_overflow_and_what_could_is_refused(holders: int, data: st.DataObject) -> None:
    limit = 2**31 / holders
    fits = data.draw(st.floats(-limit * (1 - 1e-9), limit * (1 - 1e-9)))
    vector = secure.quantise(np.array([fits]), 1.0, holders)
    assert abs(int(vector.view(np.int64)[0]) * holders) < 2**63
    for sign in (-1, 1):
        with pytest.raises(UpdateRefusedError, match=f"{holders} sites can add without overflow"):
            secure.quantise(np.array([sign * limit * (1 + 1e-9)]), 1.0, holders)


def test_weights_are_held_to_the_same_range() -> None:
    with pytest.raises(UpdateRefusedError, match="scale all weights down"):
        secure.quantise(np.zeros(2), 2.0**31, 1)
    with pytest.raises(UpdateRefusedError, match="scale the weights of all sites up"):
        secure.quantise(np.zeros(2), 2.0**-11, 1)
    with pytest.raises(UpdateRefusedError, match="without overflow"):
        secure.quantise(np.array([1e308]), 1e10, 3)


def test_a_masked_vector_of_zeros_is_uniform_and_new_each_time() -> None:
    size = 40_000
    secret, _ = secure.key_pair()
    peers = {1: secure.key_pair()[1]}
    seeds = [secure.key_pair()[0] for _ in range(2)]
    first, second = (secure.mask(np.zeros(size, np.uint64), seed, secret, 0, peers) for seed in seeds)
    for vector in (first, second, first - second):
        counts = np.bincount((vector >> np.uint64(56)).astype(int), minlength=256)
        # chi-squared with 255 degrees of freedom: mean 255, standard deviation 22.6
        assert abs(((counts - size / 256) ** 2 / (size / 256)).sum() - 255) < 8 * 22.6
    assert abs(np.corrcoef(first.astype(float), second.astype(float))[0, 1]) < 0.03


def test_both_ends_of_a_pair_derive_the_same_mask_with_opposite_signs() -> None:
    (secret_a, public_a), (secret_b, public_b) = secure.key_pair(), secure.key_pair()
    low, high = secure.pair_masks(secret_a, 1, {2: public_b}, 9), secure.pair_masks(secret_b, 2, {1: public_a}, 9)
    assert low.any()
    assert not (low + high).any()


def test_keystream_is_chacha20() -> None:
    # RFC 7539, appendix A.1, test vector 1: zero key, zero nonce, counter 0
    block = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    assert secure.keystream(bytes(32), 4).tobytes().hex() == block


def test_a_box_opens_only_at_its_address_and_unaltered() -> None:
    (secret_a, public_a), (secret_b, public_b) = secure.key_pair(), secure.key_pair()
    box = secure.seal(secret_a, public_b, 0, 1, b"share")
    assert b"share" not in box
    assert secure.unseal(secret_b, public_a, 0, 1, box) == b"share"
    for attempt in ((secret_b, public_a, 1, 0, box), (secret_b, public_a, 0, 1, box[:-1] + bytes([box[-1] ^ 1]))):
        with pytest.raises(InvalidTag):
            secure.unseal(*attempt)


def test_flatten_and_unflatten_are_inverse_and_follow_names_not_order() -> None:
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.float32([7]),
        "z": np.zeros((0, 2), np.float32),
    }
    flat = secure.flatten(arrays)
    assert flat.tolist() == [7, 0, 1, 2, 3, 4, 5]
    back = secure.unflatten(flat, dict(reversed(arrays.items())))
    assert all(np.array_equal(back[name], value) for name, value in arrays.items())


@pytest.mark.parametrize(
    ("threshold", "sites", "needed"), [(0.6, 3, 2), (0.6, 5, 3), (0.6, 4, 3), (0.55, 20, 11), (1.0, 7, 7), (0.51, 3, 2)]
)
def test_sites_needed(threshold: float, sites: int, needed: int) -> None:
    assert SecureAggregation(threshold).needed(sites) == needed


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.01, float("nan")])
def test_thresholds_without_a_majority_are_refused(threshold: float) -> None:
    with pytest.raises(SettingError, match=r"secure_aggregation.threshold"):
        SecureAggregation(threshold)


def test_two_sites_are_too_few_and_the_text_says_what_to_do() -> None:
    with pytest.raises(SettingError, match=r"at least 3 sites, this federation has 2.*[Aa]dd sites, or remove"):
        SecureAggregation().needed(2)
