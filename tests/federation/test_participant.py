"""An update that does not fit is refused, with what is wrong and where."""

import numpy as np
import pytest

from fedsched.federation import FederationError, Update, UpdateRefusedError
from fedsched.federation.participant import Parameters, check_update


def like(parameters: Parameters, **changes: np.ndarray) -> Parameters:
    return {**{name: np.zeros_like(value) for name, value in parameters.items()}, **changes}


def test_a_fitting_update_passes(parameters: Parameters) -> None:
    check_update(Update(like(parameters), 1.0), parameters)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.zeros((9, 16), np.float32), r"float32\[9, 16\], the parameter is float32\[16, 9\]"),
        (np.zeros((16, 9)), r"float64\[16, 9\]"),
        (np.where(np.arange(144) == 5, np.nan, 0).reshape(16, 9).astype(np.float32), "1 values that are not finite"),
        (np.where(np.arange(144) < 2, np.inf, 0).reshape(16, 9).astype(np.float32), "2 values that are not finite"),
    ],
)
def test_a_wrong_array_is_named(parameters: Parameters, value: np.ndarray, problem: str) -> None:
    with pytest.raises(UpdateRefusedError, match=f"'encoder.weight'.*{problem}"):
        check_update(Update(like(parameters, **{"encoder.weight": value}), 1.0), parameters)


def test_missing_and_unknown_names_are_listed(parameters: Parameters) -> None:
    delta = like(parameters, critic=np.zeros(1, np.float32))
    del delta["actor.bias"]
    with pytest.raises(UpdateRefusedError, match=r"missing \['actor.bias'\], unknown \['critic'\]"):
        check_update(Update(delta, 1.0), parameters)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_cannot_weigh_is_refused(parameters: Parameters, weight: float) -> None:
    with pytest.raises(UpdateRefusedError, match="positive and finite"):
        check_update(Update(like(parameters), weight), parameters)


def test_federation_error_names_every_failed_site() -> None:
    error = FederationError("round 3, stage 'keys'", "keys", 1, 3, {"north": "ValueError: a", "east": "lost"})
    assert "east: lost; north: ValueError: a" in str(error)
    assert "Parameters are unchanged" in str(error)
