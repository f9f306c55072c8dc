import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsched.agents.segments import (
    pointers_of,
    rows_of,
    segment_argmax,
    segment_log_softmax,
    segment_max,
    segment_mean,
    segment_of,
    segment_sum,
)

ragged = st.lists(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=6), min_size=1, max_size=8)


@given(ragged)
@settings(max_examples=60, deadline=None)
def test_segments_equal_a_loop_over_lists(lines: list[list[float]]) -> None:
    values = torch.tensor([v for line in lines for v in line])
    pointers = pointers_of(torch.tensor([len(line) for line in lines]))
    segment = segment_of(pointers)
    count = len(lines)
    assert segment_sum(values, segment, count).tolist() == [sum(line) for line in lines]
    assert segment_max(values, segment, count).tolist() == [max(line) for line in lines]
    places = segment_argmax(values, segment, count) - pointers[:-1]
    assert places.tolist() == [int(np.argmax(line)) for line in lines]
    mean = segment_mean(values[:, None], pointers, segment)[:, 0]
    np.testing.assert_allclose(mean, [np.mean(line) for line in lines], atol=1e-6)
    soft = segment_log_softmax(values, segment, count)
    slow = torch.cat([torch.tensor(line).log_softmax(0) for line in lines])
    np.testing.assert_allclose(soft, slow, atol=1e-6)


@given(ragged)
@settings(max_examples=40, deadline=None)
def test_rows_of_picks_whole_segments_in_the_order_asked(lines: list[list[float]]) -> None:
    pointers = pointers_of(torch.tensor([len(line) for line in lines]))
    values = torch.tensor([v for line in lines for v in line])
    chosen = list(range(0, len(lines), 2))[::-1]
    rows, fresh = rows_of(pointers, torch.tensor(chosen, dtype=torch.int64))
    assert values[rows].tolist() == [v for c in chosen for v in lines[c]]
    assert fresh.diff().tolist() == [len(lines[c]) for c in chosen]


def test_an_empty_segment_sums_to_zero_and_has_mean_zero() -> None:
    pointers = torch.tensor([0, 2, 2, 3])
    values = torch.tensor([[1.0], [3.0], [5.0]])
    assert segment_mean(values, pointers, segment_of(pointers))[:, 0].tolist() == [2.0, 0.0, 5.0]
