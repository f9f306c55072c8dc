"""Nested plain data with arrays and tensors, as bytes that can be read without running code from them."""

import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from fedsched.sim.errors import UserError

_ARRAY, _TENSOR, _INTEGER, _TUPLE = 1, 2, 3, 4
_INT64 = 1 << 63
_PLAIN = (type(None), bool, float, str, bytes)


class EncodingError(UserError):
    """A state that cannot be written or read."""


def encode(state: Mapping[str, Any]) -> bytes:
    """Writes a state.

    Args:
        state: Mappings, lists, tuples, numbers of any size, text, bytes, None, numpy arrays and torch tensors (which
            come back on the CPU).

    Raises:
        EncodingError: Something else; the message says where in the state it is.
    """
    return msgspec.msgpack.encode(_pack(state, "state"))


def decode(data: bytes) -> dict[str, Any]:
    """Reads what `encode` wrote.

    Raises:
        EncodingError: The bytes are none of it.
    """
    try:
        state = msgspec.msgpack.decode(data, ext_hook=_unpack)
    except (msgspec.DecodeError, ValueError) as error:
        raise EncodingError(f"not a state of a run, or a damaged one: {error}") from error
    if not isinstance(state, dict):
        raise EncodingError("not a state of a run: it is no mapping")
    return state


def _pack(value: object, where: str) -> object:
    if type(value) in _PLAIN:  # and not a numpy number, which is a float to isinstance
        return value
    if type(value) is int:
        big = not -_INT64 <= value < _INT64
        return msgspec.msgpack.Ext(_INTEGER, str(value).encode()) if big else value
    if isinstance(value, Mapping):
        return {key: _pack(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list):
        return [_pack(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, tuple):
        items = [_pack(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return msgspec.msgpack.Ext(_TUPLE, msgspec.msgpack.encode(items))
    return _pack_array(value, where)


def _pack_array(value: object, where: str) -> msgspec.msgpack.Ext:
    code = _ARRAY
    # whoever has a tensor has torch loaded; nobody else pays for it
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        code, value = _TENSOR, value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray | np.generic) or np.asarray(value).dtype.hasobject:
        raise EncodingError(f"{where} is a {type(value).__name__}; states hold plain data, arrays and tensors")
    array = np.asarray(value)
    return msgspec.msgpack.Ext(code, msgspec.msgpack.encode((array.dtype.str, array.shape, array.tobytes())))


def _unpack(code: int, data: memoryview) -> object:
    if code == _INTEGER:
        return int(bytes(data))
    if code == _TUPLE:
        return tuple(msgspec.msgpack.decode(data, ext_hook=_unpack))
    dtype, shape, raw = msgspec.msgpack.decode(data)
    array = np.frombuffer(raw, dtype=np.dtype(dtype)).reshape(shape).copy()
    if code == _ARRAY:
        return array
    import torch

    return torch.from_numpy(array)
