"""Static arrays of worlds as tensors: on a GPU each is copied there once, not at every step."""

import weakref
from typing import Any

import numpy.typing as npt
import torch

_copies: dict[tuple[int, torch.device], torch.Tensor] = {}


def table(array: npt.NDArray[Any], device: torch.device | str) -> torch.Tensor:
    """An array that never changes as a tensor of `device`; on the CPU it shares its memory.

    A copy lives as long as the array does.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return torch.as_tensor(array)
    key = (id(array), device)
    if key not in _copies:
        _copies[key] = torch.as_tensor(array, device=device)
        weakref.finalize(array, _copies.pop, key, None)
    return _copies[key]
