"""Plane geometry of many polylines at once: where they cross and how far they stay together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedsched.envs.intersections.network import FloatArray
from fedsched.envs.intersections.tables import I64, Flags

_CHUNK = 4096
_TINY = 1e-9


class Polylines:
    """Polylines padded to one length by repeating their last point.

    Attributes:
        points: [L, P, 2], m.
        count: Points of each, [L].
        along: m along the line at each point, [L, P].
        length: m, [L].
    """

    def __init__(self, shapes: Sequence[FloatArray]) -> None:
        """Args: the points of each line, [P, 2]."""
        most = max((len(shape) for shape in shapes), default=2)
        self.count = np.array([len(shape) for shape in shapes], dtype=np.int64)
        self.points = np.stack([np.concatenate((s, np.repeat(s[-1:], most - len(s), axis=0))) for s in shapes])
        steps = np.linalg.norm(np.diff(self.points, axis=1), axis=2)
        self.along = np.concatenate((np.zeros((len(shapes), 1)), np.cumsum(steps, axis=1)), axis=1)
        self.length = self.along[:, -1]


def crossings(lines: Polylines, first: I64, second: I64) -> tuple[Flags, FloatArray, FloatArray]:
    """Where each line of `first` meets that of `second` with the same place, for the last time.

    Args:
        lines: The lines.
        first: Indices, [Q].
        second: Indices, [Q].

    Returns:
        Whether they meet, [Q]; m along the first, 0 where they do not, [Q]; sine of the angle between them there, [Q].
    """
    parts = [
        _crossings(lines, first[n : n + _CHUNK], second[n : n + _CHUNK]) for n in range(0, max(1, len(first)), _CHUNK)
    ]
    meet, at, sine = (np.concatenate(column) for column in zip(*parts, strict=True))
    return meet, at, sine


def _crossings(lines: Polylines, first: I64, second: I64) -> tuple[Flags, FloatArray, FloatArray]:
    width = max(int(lines.count[first].max(initial=2)), int(lines.count[second].max(initial=2)))
    p, q = lines.points[first, :width], lines.points[second, :width]
    d, e = np.diff(p, axis=1), np.diff(q, axis=1)
    a, b = d[:, :, None], e[:, None]
    between = q[:, None, :-1] - p[:, :-1, None]
    denominator = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    flat = np.abs(denominator) < _TINY
    safe = np.where(flat, 1.0, denominator)
    s = (between[..., 0] * b[..., 1] - between[..., 1] * b[..., 0]) / safe
    t = (between[..., 0] * a[..., 1] - between[..., 1] * a[..., 0]) / safe
    hit = ~flat & (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1)
    lengths, others = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    on_first = np.where(hit, lines.along[first, : width - 1][:, :, None] + s * lengths, -1.0)
    on_second = np.where(hit, lines.along[second, : width - 1][:, None] + t * others, -1.0)
    meet: Flags = np.asarray(hit.any(axis=(1, 2)))
    at: FloatArray = np.where(meet, on_first.max(axis=(1, 2)), 0.0)
    u = _direction(d, on_first.max(axis=2))
    v = _direction(e, on_second.max(axis=1))
    sine: FloatArray = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    return meet, at, sine


def _direction(steps: FloatArray, at: FloatArray) -> FloatArray:
    """Unit vector of the segment with the greatest `at`, [Q, S]; of several, of the last."""
    last = at.shape[1] - 1 - np.argmax(at[:, ::-1], axis=1)
    chosen = steps[np.arange(len(steps)), last]
    norm = np.linalg.norm(chosen, axis=1, keepdims=True)
    result: FloatArray = chosen / np.where(norm > 0, norm, 1.0)
    return result


def together_m(
    lines: Polylines, first: int, second: int, apart: float, lengths: tuple[float, float], ahead: bool
) -> float:
    """How far two lines stay closer than `apart`, m along them from where they come together.

    Args:
        lines: The lines.
        first: One of them.
        second: The other.
        apart: m.
        lengths: m that count as the lines' lengths; they may differ from those of the shapes.
        ahead: Whether they begin together; else they end together and are followed backwards.
    """
    p, q = (lines.points[n, : lines.count[n]][:: 1 if ahead else -1] for n in (first, second))
    own = beyond = 0.0
    if np.hypot(*(p[-1] - q[-1])) > apart:
        from_p, from_q = _distances(p, q), _distances(q, p)
        if from_p[-1] > apart and from_q[-1] > apart:
            own, beyond = _outside(p, from_p, apart), _outside(q, from_q, apart)
    farther = max(lengths[0] - own, lengths[1] - beyond)
    return float(min(farther, lines.length[first], lines.length[second]))


class Nearest(NamedTuple):
    """The place on a line that is nearest to a point: m off, m along the line, unit vector of the line there."""

    off: float
    along: float
    direction: FloatArray


def nearest(lines: Polylines, line: int, point: FloatArray) -> Nearest:
    """Where a line passes a point."""
    points = lines.points[line, : lines.count[line]]
    places, off = _feet(point[None], points)
    n = int(off[0].argmin())
    step = points[n + 1] - points[n]
    length = max(float(np.hypot(*step)), _TINY)
    return Nearest(float(off[0, n]), float(lines.along[line, n] + places[0, n] * length), step / length)


def end_direction(lines: Polylines, line: int) -> FloatArray:
    """Unit vector of the last segment of a line."""
    last = lines.points[line, : lines.count[line]][-2:]
    step = last[1] - last[0]
    result: FloatArray = step / max(float(np.hypot(*step)), _TINY)
    return result


def _feet(points: FloatArray, line: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of each point on each segment: the share of the segment up to the nearest place, and the distance to it, m."""
    start, step = line[:-1], np.diff(line, axis=0)
    square = np.maximum((step**2).sum(axis=1), _TINY)
    share: FloatArray = np.clip(((points[:, None] - start) * step).sum(axis=2) / square, 0.0, 1.0)
    off: FloatArray = np.linalg.norm(points[:, None] - start - share[..., None] * step, axis=2)
    return share, off


def _distances(points: FloatArray, line: FloatArray) -> FloatArray:
    """From each point to a polyline, m."""
    result: FloatArray = _feet(points, line)[1].min(axis=1)
    return result


def _outside(points: FloatArray, distances: FloatArray, apart: float) -> float:
    """How much at the end of a line lies farther than `apart` from the other, m."""
    total = 0.0
    for n in range(len(points) - 2, -1, -1):
        step = float(np.hypot(*(points[n + 1] - points[n])))
        if distances[n] > apart:
            total += step
            continue
        return float(total + step - (apart - distances[n]) * step / (distances[n + 1] - distances[n]))
    return total
