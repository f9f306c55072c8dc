"""What the benchmark of learning throughput counts: no clock is asserted."""

from collections.abc import Callable

import pytest
import torch

pytest.importorskip("mpe2")

from benchmarks.throughput_ours import Side, datacenter_side, measure, spread_side, steps_of


@pytest.mark.parametrize("make", [spread_side, datacenter_side])
def test_a_step_is_one_of_one_copy_and_its_parts_are_all_there_is(make: Callable[[int], Side]) -> None:
    found = measure(make(2), 1)
    assert sum(found["us_per_step"].values()) == pytest.approx(1e6 / found["steps_per_s"])
    assert all(part > 0 for part in found["us_per_step"].values())
    assert found["steps"] <= found["decisions"] <= 3 * found["steps"]


def test_steps_are_instants_at_which_somebody_decides() -> None:
    side = spread_side(2)
    rows = torch.arange(2)
    rollouts = side.learner.collect(side.world, rows, rows)
    assert steps_of(rollouts) == 2 * 25
    assert side.clock.seconds > 0
