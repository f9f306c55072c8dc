"""Quantities with units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsched.sim.scenario.units import DURATIONS, POWERS, RATES, SIZES, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("6h", DURATIONS, 21600.0),
        ("90 s", DURATIONS, 90.0),
        ("50 ms", DURATIONS, 0.05),
        ("1.5d", DURATIONS, 129600.0),
        ("20 GB", SIZES, 2e10),
        ("1 Gbps", RATES, 1e9),
        ("170 W", POWERS, 170.0),
        (0, POWERS, 0.0),
    ],
)
def test_quantities_are_read_in_base_units(text: object, units: dict[str, float], value: float) -> None:
    assert parse_quantity(text, "a quantity", "1", units) == pytest.approx(value, rel=1e-15)


@given(
    value=st.floats(min_value=0, max_value=1e15, allow_nan=False),
    units=st.sampled_from([DURATIONS, SIZES, RATES, POWERS]),
)
def test_a_written_quantity_reads_back_exactly(value: float, units: dict[str, float]) -> None:
    assert parse_quantity(format_quantity(value, units), "a quantity", "1", units) == value
