"""Where the copies of a foreign environment write what happens: arrays over one block of memory.

The block can be shared between processes: every process lays the same arrays over it and writes its own rows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsched.envs.core.world import KindSpec

Array = npt.NDArray[Any]

_ALIGNED = 64


@dataclass(frozen=True)
class KindBoard:
    """The rows of one kind; `Tokens` and `Transition` say what the fields mean.

    Attributes:
        own: float32 [B, A, Fo].
        mask: bool [B, A, N].
        active: bool [B, A].
        alive: bool [B, A].
        terminated: bool [B, A].
        reward: float64 [B, A], of the last step.
        total: float64 [B, A], of the episode.
        action: int64 [B, A], or float32 [B, A, D] of vectors.
    """

    own: Array
    mask: Array
    active: Array
    alive: Array
    terminated: Array
    reward: Array
    total: Array
    action: Array


@dataclass(frozen=True)
class Board:
    """All rows.

    Attributes:
        kinds: By kind, in order.
        steps: int64 [B], since the reset.
        over: bool [B], the episode has ended.
        truncated: bool [B], and some agent was cut off, not terminated.
    """

    kinds: tuple[KindBoard, ...]
    steps: Array
    over: Array
    truncated: Array

    def part(self, first: int, last: int) -> "Board":
        """The same memory from one row to before another."""
        kinds = tuple(KindBoard(*(column[first:last] for column in vars(kind).values())) for kind in self.kinds)
        return Board(kinds, self.steps[first:last], self.over[first:last], self.truncated[first:last])


def board_bytes(kinds: Sequence[KindSpec], batch: int) -> int:
    """The size of a board's memory."""
    return max(_ALIGNED, sum(_padded(shape, dtype) for shape, dtype in _columns(kinds, batch)))


def lay_board(kinds: Sequence[KindSpec], batch: int, memory: mmap | bytearray) -> Board:
    """Lays the arrays over memory of `board_bytes`; what is in it stays."""
    arrays, offset = [], 0
    for shape, dtype in _columns(kinds, batch):
        arrays.append(np.ndarray(shape, dtype, memory, offset))
        offset += _padded(shape, dtype)
    wide = len(KindBoard.__dataclass_fields__)
    *columns, steps, over, truncated = arrays
    parts = tuple(KindBoard(*columns[k * wide : (k + 1) * wide]) for k in range(len(kinds)))
    return Board(parts, steps, over, truncated)


def _columns(kinds: Sequence[KindSpec], batch: int) -> Iterator[tuple[tuple[int, ...], np.dtype[Any]]]:
    real, wide, flag, whole = (np.dtype(name) for name in ("float32", "float64", "bool", "int64"))
    for kind in kinds:
        each = (batch, len(kind.agents))
        yield (*each, len(kind.own)), real
        yield (*each, kind.actions), flag
        yield from ((each, flag),) * 3
        yield from ((each, wide),) * 2
        yield (each, whole) if kind.bounds is None else ((*each, len(kind.bounds[0])), real)
    yield (batch,), whole
    yield from (((batch,), flag),) * 2


def _padded(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.ceil(math.prod(shape) * dtype.itemsize / _ALIGNED) * _ALIGNED
