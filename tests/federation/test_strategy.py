"""FedAvg is the weighted mean, whatever the order of the sites."""

from collections.abc import Callable

import numpy as np
import pytest

from fedsched.federation import FedAvg, SettingError, Update, make_strategy
from fedsched.federation.participant import Parameters


def test_mean_is_the_float64_weighted_mean(make_sites: Callable, weighted_mean: Callable) -> None:
    sites = make_sites(5)
    mean = FedAvg().mean({site: s.update for site, s in sites.items()})
    for name, exact in weighted_mean(sites).items():
        np.testing.assert_allclose(mean[name], exact, rtol=1e-12, atol=1e-18)


def test_mean_does_not_depend_on_the_order_of_the_sites(make_sites: Callable) -> None:
    updates = {site: s.update for site, s in make_sites(7).items()}
    forwards, backwards = FedAvg().mean(updates), FedAvg().mean(dict(reversed(updates.items())))
    assert all(np.array_equal(forwards[name], backwards[name]) for name in forwards)


def test_one_site_alone_gets_its_own_update() -> None:
    delta = {"w": np.array([0.1, -3e-20, 1e20], np.float32)}
    assert np.array_equal(FedAvg().mean({"a": Update(delta, 0.3)})["w"], delta["w"].astype(np.float64))


def test_step_keeps_names_order_shapes_and_float32(parameters: Parameters) -> None:
    mean = {name: np.full(value.shape, 0.25) for name, value in reversed(parameters.items())}
    new = FedAvg().step(parameters, mean)
    assert list(new) == list(parameters)
    for name, value in new.items():
        assert isinstance(value, np.ndarray)
        assert (value.dtype, value.shape) == (np.float32, parameters[name].shape)
        np.testing.assert_allclose(value, parameters[name].astype(np.float64) + 0.25, rtol=1e-7, atol=1e-7)


def test_kinds_are_known_by_name() -> None:
    assert make_strategy("fedavg") == FedAvg()
    with pytest.raises(SettingError, match=r"'fedadam'; known kinds: fedavg"):
        make_strategy("fedadam")
