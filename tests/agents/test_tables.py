"""Static arrays on a device, without a device: `meta` stands for one."""

import gc

import numpy as np
import pytest
import torch

from fedsched.agents.tables import table


def test_a_table_is_copied_once_for_each_device_and_array() -> None:
    array, other = np.arange(3), np.arange(3)
    first = table(array, "meta")
    assert table(array, torch.device("meta")) is first
    assert table(other, "meta") is not first


def test_a_copy_goes_with_its_array(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: dict[object, object] = {}
    monkeypatch.setattr("fedsched.agents.tables._copies", copies)
    array = np.arange(3)
    table(array, "meta")
    assert len(copies) == 1
    del array
    gc.collect()
    assert not copies


def test_on_the_cpu_there_is_no_copy() -> None:
    array = np.zeros(3)
    shared = table(array, "cpu")
    array[1] = 2.0
    assert shared.tolist() == [0.0, 2.0, 0.0]
