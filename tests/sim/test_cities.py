"""The benchmark of cities that learn: arms are compared seed by seed."""

from typing import Any

import pytest

from benchmarks.cities import rows


def told(arm: str, seed: int, delay_s: float) -> dict[str, Any]:
    delays = {"policy": {"a": delay_s}, "greedy": {"a": 10.0}}
    return {"arm": arm, "seed": seed, "delay_s": delays, "jams": {"a": 0.0}}


def test_an_arm_is_compared_on_the_seeds_that_both_have() -> None:
    found = [told("local", 0, 1.0), told("local", 2, 20.0), told("federated", 2, 22.0)]
    lines = {(line[0], line[1]): line[2:6] for line in rows(found, "modes")}
    assert lines["a", "local"] == (2, 10.5, None, None)
    assert lines["a", "federated"] == (1, 22.0, pytest.approx(10.0), None)
