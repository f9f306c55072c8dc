"""Drawings of a frame: SVG for people, pixels for PettingZoo and videos.

Everything is a straight stroke of some width: pieces of lanes, bars of signals, vehicles from rear to front.
"""

from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np
import numpy.typing as npt

from fedsched.envs.intersections.viewer import Frame, Picture

F64 = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

GROUND, ASPHALT, INSIDE, INK = "#14181d", "#39414b", "#323942", "#dfe6ee"
LIGHTS = {"r": "#e5383b", "y": "#ffb703", "Y": "#ffb703", "g": "#38b000", "G": "#70e000", "s": "#ff7b54"}
"""Of signal states; `g` gives way, `G` does not. Others (off, or nothing shown yet) are grey."""
NO_LIGHT = "#7a838c"
SPEEDS = ((0.0, "#ff5d8f"), (4.0, "#ffa9c6"), (8.0, "#a5d8ff"), (14.0, "#4dabf7"))
"""m/s and colour of a vehicle; between them in a straight line."""
EMERGENCY = "#ffffff"
GAP_M = 0.25
"""Between two lanes."""
BAR_M = 1.6
MARGIN_M = 12.0


@dataclass(frozen=True, eq=False)
class Strokes:
    """Straight strokes, [N] each: from (x, y) to (x, y), [N, 4] m, their widths in m and their colours."""

    ends: F64
    width: F64
    color: list[str]


class Canvas:
    """A picture laid out: where each position on each lane is.

    Args:
        picture: Of the streets.
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        pieces, at, scale, first = [], [0.0], [], []
        for strip in picture.lanes:
            points = np.array(strip.points)
            steps = np.diff(points, axis=0)
            kept = np.hypot(*steps.T) > 0
            kept[-1] |= not kept.any()
            pieces.append(np.hstack([points[:-1], points[1:]])[kept])
            lengths = np.hypot(*steps[kept].T)
            first.append(len(at) - 1)
            scale.append(lengths.sum() / max(strip.length, 1e-9))
            at += (at[-1] + np.cumsum(lengths)).tolist()
        self._pieces, self._at, self._scale = np.concatenate(pieces), np.array(at), np.array(scale)
        self._first = np.array([*first, len(at) - 1])
        self._backgrounds: dict[int, Pixels] = {}

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least x and y, greatest x and y, with a margin, m."""
        x, y = self._pieces[:, 0::2], self._pieces[:, 1::2]
        return (
            float(x.min()) - MARGIN_M, float(y.min()) - MARGIN_M, float(x.max()) + MARGIN_M, float(y.max()) + MARGIN_M,
        )  # fmt: skip

    @cached_property
    def streets(self) -> Strokes:
        """The lanes."""
        of = np.repeat(np.arange(len(self._scale)), np.diff(self._first))
        lanes = self.picture.lanes
        # what lies inside junctions comes first, so that stop lines stay visible
        order = np.argsort([not lanes[lane].internal for lane in of], kind="stable")
        width = np.array([lanes[lane].width - GAP_M for lane in of])[order]
        color = [INSIDE if lanes[lane].internal else ASPHALT for lane in of[order]]
        return Strokes(self._pieces[order], width, color)

    def lights(self, frame: Frame) -> Strokes:
        """The signals."""
        ends = np.array(self.picture.lights, dtype=np.float64).reshape(-1, 4)
        return Strokes(ends, np.full(len(ends), BAR_M), [LIGHTS.get(light, NO_LIGHT) for light in frame.lights])

    def vehicles(self, frame: Frame) -> Strokes:
        """The vehicles, rear to front; a rear that is on the lane before lies on the straight line backwards."""
        length = np.array([shape.length for shape in self.picture.types])[frame.type]
        width = np.array([shape.width for shape in self.picture.types])[frame.type]
        front = self._locate(frame.lane, frame.position.astype(np.float64))
        rear = self._locate(frame.lane, frame.position - length)
        # never longer than it is, nor shorter where the lane bends
        back = rear - front
        back *= (length / np.maximum(np.hypot(*back.T), 1e-9))[:, None]
        blue = [shape.vehicle_class == "emergency" for shape in self.picture.types]
        colors = [
            EMERGENCY if blue[k] else color for k, color in zip(frame.type, speed_colors(frame.speed), strict=True)
        ]
        return Strokes(np.hstack([front + back, front]), width, colors)

    def queues(self, frame: Frame) -> list[tuple[float, float, int]]:
        """Where, and how many halt before a signal; one number for all movements from one road."""
        found: dict[tuple[str, str], tuple[list[tuple[float, float]], list[int]]] = {}
        for approach, count in zip(self.picture.approaches, frame.queue.tolist(), strict=True):
            places, counts = found.setdefault((approach.signal, approach.source), ([], []))
            places.append(approach.at)
            counts.append(count)
        return [(*np.mean(places, axis=0).tolist(), sum(counts)) for places, counts in found.values()]

    def background(self, width: int) -> Pixels:
        """The streets as pixels, uint8 [H, width, 3]; the same array every time."""
        if width not in self._backgrounds:
            x0, y0, x1, y1 = self.bounds
            image = np.empty((max(1, round((y1 - y0) / (x1 - x0) * width)), width, 3), dtype=np.uint8)
            image[:] = rgb(GROUND)
            self.paint(image, self.streets)
            self._backgrounds[width] = image
        return self._backgrounds[width]

    def paint(self, image: Pixels, strokes: Strokes) -> None:
        """Draws onto pixels as wide as the streets."""
        x0, _, x1, y1 = self.bounds
        scale = image.shape[1] / (x1 - x0)
        ends = (strokes.ends - [x0, y1, x0, y1]) * [scale, -scale, scale, -scale]
        for line, wide, color in zip(ends, np.maximum(strokes.width * scale, 1.0), strokes.color, strict=True):
            _paint(image, line, float(wide), rgb(color))

    def _locate(self, lane: npt.NDArray[np.int32], position: F64) -> F64:
        """Points [V, 2] at positions on lanes; before the start and behind the end, straight on."""
        first, last = self._first[lane], self._first[lane + 1] - 1
        along = self._at[first] + position * self._scale[lane]
        piece = np.clip(np.searchsorted(self._at, along, side="right") - 1, first, last)
        x0, y0, x1, y1 = self._pieces[piece].T
        share = (along - self._at[piece]) / np.maximum(np.hypot(x1 - x0, y1 - y0), 1e-9)
        return np.stack([x0 + share * (x1 - x0), y0 + share * (y1 - y0)], axis=1)


def speed_colors(speed: npt.NDArray[np.float32]) -> list[str]:
    """The colours of speeds, as `#rrggbb`."""
    known = [at for at, _ in SPEEDS]
    parts = np.array([rgb(color) for _, color in SPEEDS])
    mixed = np.stack([np.interp(speed, known, parts[:, k]) for k in range(3)], axis=1).round().astype(int)
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in mixed.tolist()]


def rgb(color: str) -> tuple[int, ...]:
    """Red, green and blue of `#rrggbb`."""
    return tuple(bytes.fromhex(color[1:]))


def caption(frame: Frame) -> str:
    """Time, vehicles and their speed, in words."""
    minutes, seconds = divmod(int(frame.time_s), 60)
    mean = float(frame.speed.mean()) if len(frame.speed) else 0.0
    halting = int((frame.speed < 0.1).sum())
    clock = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    return f"{clock}  {len(frame.trip)} vehicles, {halting} halting, {mean:.1f} m/s"


def frame_svg(canvas: Canvas, frame: Frame, width: int = 900) -> str:
    """One frame as an SVG image.

    Args:
        canvas: The streets.
        frame: The moment.
        width: Of the image in pixels; the height follows.
    """
    x0, y0, x1, y1 = canvas.bounds
    wide, high = x1 - x0, y1 - y0
    unit = wide / width
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{round(width * high / wide)}" '
        f'viewBox="0 0 {wide:.2f} {high:.2f}" role="img">',
        f"<title>{escape(f'{canvas.picture.name} {caption(frame)}'.strip())}</title>",
        f'<rect width="100%" height="100%" fill="{GROUND}"/>',
    ]
    layers = (("round", canvas.streets), ("butt", canvas.lights(frame)), ("butt", canvas.vehicles(frame)))
    parts += [_svg_layer(strokes, cap, x0, y1) for cap, strokes in layers]
    style = f'fill="{INK}" font-family="sans-serif" text-anchor="middle"'
    size = min(6.0, 12 * unit)
    parts += [
        f'<text x="{x - x0:.2f}" y="{y1 - y + size / 3:.2f}" font-size="{size:.2f}" {style}>{count}</text>'
        for x, y, count in canvas.queues(frame)
        if count
    ]
    label = f'x="{8 * unit:.2f}" y="{18 * unit:.2f}" font-size="{13 * unit:.2f}" fill="{INK}" font-family="monospace"'
    return "\n".join([*parts, f"<text {label}>{escape(caption(frame))}</text>", "</svg>"])


def _svg_layer(strokes: Strokes, cap: str, left: float, top: float) -> str:
    """Strokes of equal width and colour as one path each, in the order in which these are met."""
    paths: dict[tuple[float, str], list[str]] = {}
    ends = (strokes.ends - [left, top, left, top]) * [1, -1, 1, -1]
    for (x0, y0, x1, y1), width, color in zip(ends.tolist(), strokes.width.tolist(), strokes.color, strict=True):
        paths.setdefault((width, color), []).append(f"M{x0:.2f} {y0:.2f}L{x1:.2f} {y1:.2f}")
    drawn = [f'<path stroke="{c}" stroke-width="{w:g}" d="{"".join(moves)}"/>' for (w, c), moves in paths.items()]
    return f'<g fill="none" stroke-linecap="{cap}">' + "\n".join(drawn) + "</g>"


def frame_pixels(canvas: Canvas, frame: Frame, width: int = 600) -> Pixels:
    """One frame as pixels, uint8 [H, W, 3], the greatest y on top.

    Args:
        canvas: The streets.
        frame: The moment.
        width: W; H follows.
    """
    image = canvas.background(width).copy()
    for strokes in (canvas.lights(frame), canvas.vehicles(frame)):
        canvas.paint(image, strokes)
    return image


def _paint(image: Pixels, line: F64, width: float, color: tuple[int, ...]) -> None:
    """Colours all pixels whose centre is at most half the width from a line."""
    start, end = line[:2], line[2:]
    low = np.floor(np.minimum(start, end) - width).astype(int).clip(0)
    high = np.ceil(np.maximum(start, end) + width).astype(int) + 1
    x = np.arange(low[0], min(high[0], image.shape[1]))[None] + 0.5 - start[0]
    y = np.arange(low[1], min(high[1], image.shape[0]))[:, None] + 0.5 - start[1]
    along = end - start
    length = max(float(np.hypot(*along)), 1e-9)
    forward, aside = (x * along[0] + y * along[1]) / length, np.abs(x * along[1] - y * along[0]) / length
    inside = (forward >= -0.5) & (forward <= length + 0.5) & (aside <= width / 2)
    image[low[1] : low[1] + inside.shape[0], low[0] : low[0] + inside.shape[1]][inside] = color
