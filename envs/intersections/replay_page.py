"""A replay as one page that plays in any browser, without a network."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from fedsched.envs.intersections.drawing import (
    BAR_M,
    EMERGENCY,
    GROUND,
    INK,
    LIGHTS,
    NO_LIGHT,
    SPEEDS,
    Canvas,
    rgb,
)
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.viewer import Frame, Picture

_PAGE = Path(__file__).parent / "data" / "replay.html"
_STEPS = 65535
_LOOK = {
    "colors": LIGHTS,
    "dark": NO_LIGHT,
    "speeds": [(at, rgb(color)) for at, color in SPEEDS],
    "emergency": EMERGENCY,
    "ground": GROUND,
    "ink": INK,
    "bar": BAR_M,
}


def replay_html(picture: Picture, frames: Sequence[Frame]) -> str:
    """A page with a time slider, several speeds, pan and zoom; between two frames vehicles move evenly.

    Positions are rounded to 1/65535 of the map's extent, speeds to cm/s.

    Args:
        picture: The streets.
        frames: In order of time; at least one.

    Raises:
        IntersectionsError: No frames.
    """
    if not frames:
        raise IntersectionsError("a replay without frames; record an episode first")
    canvas = Canvas(picture)
    x0, y0, x1, y1 = canvas.bounds
    unit = max(x1 - x0, y1 - y0) / _STEPS
    streets = canvas.streets
    found = {
        "name": picture.name,
        "bounds": canvas.bounds,
        "unit": unit,
        "streets": [
            [*np.round(ends, 2).tolist(), width, color]
            for ends, width, color in zip(streets.ends, streets.width.tolist(), streets.color, strict=True)
        ],
        "bars": [[*one, *other] for one, other in picture.lights],
        "types": msgspec.to_builtins(picture.types),
        "places": [(x, y) for x, y, _ in canvas.queues(frames[0])],
        "times": [frame.time_s for frame in frames],
        "counts": [len(frame.trip) for frame in frames],
        "lights": [frame.lights for frame in frames],
        "queues": [[count for _, _, count in canvas.queues(frame)] for frame in frames],
        "vehicles": base64.b64encode(b"".join(_packed(canvas, frame, unit) for frame in frames)).decode(),
        **_LOOK,
    }
    data = json.dumps(found, separators=(",", ":")).replace("<", "\\u003c")  # names must not end the script
    return _PAGE.read_text(encoding="utf-8").replace("/*REPLAY*/", data)


def _packed(canvas: Canvas, frame: Frame, unit: float) -> bytes:
    """Trip, x, y, heading in 1e-4 rad, speed in cm/s and type of all vehicles, int16 each, little-endian."""
    ends = canvas.vehicles(frame).ends
    x0, y0, _, _ = canvas.bounds
    heading = np.arctan2(ends[:, 3] - ends[:, 1], ends[:, 2] - ends[:, 0])
    x, y = ((ends[:, 2] - x0) / unit - 32768, (ends[:, 3] - y0) / unit - 32768)
    speed = np.minimum(frame.speed * 100, 32767)
    columns = np.stack([frame.trip % 65536 - 32768, x, y, heading * 1e4, speed, frame.type], axis=1)
    return columns.round().clip(-32768, 32767).astype("<i2").tobytes()
