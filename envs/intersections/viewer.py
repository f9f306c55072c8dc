"""Replays of streets: the picture that stays, the frames that follow, and a world that stops for them.

`drawing.py` draws a frame, `replay_page.py` a whole replay as a page.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from fedsched.envs.core import Observation, Snapshot, Transition, WorldError
from fedsched.envs.intersections.network import CLASSES
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

Point = tuple[float, float]

LABEL_M = 12.0
"""How far before the stop line the queue of a road is written."""
DARK = "."
"""A light that has not shown anything yet."""
_BROAD = ("bus", "truck", "coach", "trailer", "tram")


class Strip(msgspec.Struct, frozen=True):
    """A lane: centre line and width as drawn, m; `length` is what positions on it count to."""

    points: tuple[Point, ...]
    width: float
    length: float
    internal: bool


class Approach(msgspec.Struct, frozen=True):
    """A movement of a controlled signal, and where its queue is written."""

    signal: str
    source: str
    target: str
    at: Point


class Shape(msgspec.Struct, frozen=True):
    """How vehicles of a type look: their class, length and width, m."""

    vehicle_class: str
    length: float
    width: float


class Picture(msgspec.Struct, frozen=True):
    """What does not move; plain numbers and names, so `msgspec.json` and `msgspec.msgpack` read and write it.

    Attributes:
        name: Of the map.
        lanes: All of them, in the order of the network.
        lights: The bar of every signal link, from one end to the other, in the order of `Problem.signal_links`.
        approaches: The movements of the controlled signals, signal by signal.
        types: Of vehicles.
    """

    name: str
    lanes: tuple[Strip, ...]
    lights: tuple[tuple[Point, Point], ...]
    approaches: tuple[Approach, ...]
    types: tuple[Shape, ...]


@dataclass(frozen=True, eq=False)
class Frame:
    """One moment of one row; V vehicles on the road, Q signal links, M movements.

    Attributes:
        time_s: Since the start of the episode.
        trip: Number of the vehicle in its demand, int32 [V].
        type: Index of its type, uint16 [V].
        lane: Of its front, int32 [V].
        position: m of its front from the lane's start, float32 [V].
        speed: m/s, float32 [V].
        queue: Halting vehicles within 200 m before the signal, by movement, uint16 [M].
        lights: What every signal link showed in the second before, a character each: `r`, `g`, `G`, `y`, ...; DARK
            before the first second.
    """

    time_s: float
    trip: npt.NDArray[np.int32]
    type: npt.NDArray[np.uint16]
    lane: npt.NDArray[np.int32]
    position: npt.NDArray[np.float32]
    speed: npt.NDArray[np.float32]
    queue: npt.NDArray[np.uint16]
    lights: str

    def encode(self) -> bytes:
        """As bytes, for the recorder: MessagePack, arrays little-endian."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        packed = {name: plain[name].astype(kind).tobytes() for name, kind in _ARRAYS.items()}
        return msgspec.msgpack.encode({**plain, **packed})


_ARRAYS = {"trip": "<i4", "type": "<u2", "lane": "<i4", "position": "<f4", "speed": "<f4", "queue": "<u2"}


def decode_frame(data: bytes) -> Frame:
    """A frame from `Frame.encode`; raises msgspec.DecodeError for anything else."""
    plain = msgspec.msgpack.decode(data)
    if not isinstance(plain, dict) or plain.keys() != {f.name for f in fields(Frame)}:
        raise msgspec.DecodeError("not a frame of streets")
    arrays = {name: np.frombuffer(plain[name], dtype=kind) for name, kind in _ARRAYS.items()}
    return Frame(**{**plain, **arrays})


def make_picture(problem: Problem) -> Picture:
    """The picture of a problem."""
    lanes = problem.network.lanes
    internal = problem.tables.lanes.internal
    strips = tuple(
        Strip(_points(lane.shape), lane.width, lane.length, bool(internal[n])) for n, lane in enumerate(lanes)
    )
    edges = problem.network.edges
    approaches = [
        Approach(signal.id, edges[move.source].id, edges[move.target].id, _label(problem, own))
        for signal in problem.signals
        for move, own in zip(signal.movements, signal.links, strict=True)
    ]
    kinds = problem.tables.types
    types = [
        Shape(name, float(kinds.length[k]), 2.5 if name in _BROAD else 1.8)
        for k, name in enumerate(CLASSES[number] for number in kinds.vehicle_class)
    ]
    return Picture(problem.name, strips, _lights(problem), tuple(approaches), tuple(types))


def _points(shape: npt.NDArray[np.float64]) -> tuple[Point, ...]:
    return tuple((round(float(x), 2), round(float(y), 2)) for x, y in shape)


def _end(shape: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The last point of a centre line, and the unit vector that leads there."""
    apart = shape[np.any(shape != shape[-1], axis=1)]
    along = shape[-1] - apart[-1] if len(apart) else np.array([1.0, 0.0])
    return shape[-1], along / np.hypot(*along)


def _label(problem: Problem, links: tuple[int, ...]) -> Point:
    """Where the queue of these links' lanes is written."""
    ends = [_end(problem.network.lanes[lane].shape) for lane in problem.tables.links.source[list(links)]]
    at = np.mean([point - LABEL_M * along for point, along in ends], axis=0)
    return round(float(at[0]), 2), round(float(at[1]), 2)


def _lights(problem: Problem) -> tuple[tuple[Point, Point], ...]:
    """A bar across the end of its lane for each signal link; links of one lane share its width, left to right."""
    links = problem.tables.links
    sharing: dict[int, list[int]] = {}
    for link in problem.signal_links.tolist():
        sharing.setdefault(int(links.source[link]), []).append(link)
    bars = {}
    for lane, own in sharing.items():
        strip = problem.network.lanes[lane]
        point, along = _end(strip.shape)
        left = np.array([-along[1], along[0]]) * strip.width
        own.sort(key=lambda link: int(links.signal_index[link]), reverse=True)  # places count clockwise: right first
        cuts = _points(np.array([point + left * (0.5 - k / len(own)) for k in range(len(own) + 1)]))
        bars.update({link: (cuts[k], cuts[k + 1]) for k, link in enumerate(own)})
    return tuple(bars[link] for link in problem.signal_links.tolist())


def frame(world: IntersectionsWorld, row: int = 0) -> Frame:
    """What a row of a world shows now; reads alone."""
    t, problem = world.traffic, world.problem
    count = int(t["count"][row])
    place = {int(link): q for q, link in enumerate(problem.signal_links)}
    halting = world.counts["halting"][row].cpu().numpy()
    queue = [halting[[place[link] for link in own]].sum() for signal in problem.signals for own in signal.links]
    state = t["state"][row].cpu().numpy()[problem.signal_links]

    def column(name: str, kind: str) -> npt.NDArray[Any]:
        return t[name][row, :count].cpu().numpy().astype(kind)

    return Frame(
        time_s=float(t["now"][row]),
        trip=column("id", "i4"),
        type=column("kind", "u2"),
        lane=column("lane", "i4"),
        position=column("position", "f4"),
        speed=column("speed", "f4"),
        queue=np.array(queue, dtype=np.uint16),
        lights="".join(chr(code) if code else DARK for code in state),
    )


class RecordedWorld:
    """A world of one row that keeps a frame of every so many seconds; to everybody else, the world inside.

    A row of a batch is recorded by running its instance and seed alone: rows do not depend on each other.

    Args:
        world: A batch of one.
        every_s: Whole seconds between two frames.

    Attributes:
        frames: Of the running episode; a reset begins anew.

    Raises:
        WorldError: A larger batch, or less than a second between frames.
    """

    def __init__(self, world: IntersectionsWorld, every_s: int = 1) -> None:
        if world.batch != 1:
            raise WorldError(f"a replay is of one row, this world has {world.batch}; run its instance and seed alone")
        if every_s < 1:
            raise WorldError(f"frames every {every_s} s: a world stops at whole seconds; write 1 or more")
        self.world, self.every_s = world, every_s
        self.spec, self.batch, self.device = world.spec, world.batch, world.device
        self.frames: list[Frame] = []
        self._paid = torch.zeros_like(world.counts["total"])

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        """Starts an episode; at second 0 all signals decide, or none ever does, so by itself it runs no further."""
        observation = self.world.reset(instances, seeds, where, torch.zeros(1, dtype=torch.float64))
        self.frames, self._paid = [frame(self.world)], torch.zeros_like(self._paid)
        if until_s is None or float(until_s[0]) <= 0 or bool(observation.kinds[KIND].active.any()):
            return observation
        return self._run(self._keep(), float(until_s[0])).observation

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        """One step of the world, with stops on the way for frames; rewards are those of an undivided one."""
        begin_s = float(self.world.control["time_s"][0])
        moved = self._run(actions, float("inf") if until_s is None else float(until_s[0]))
        total = self.world.counts["total"]
        reward = {KIND: (total - self._paid).float()}
        self._paid = total.clone()
        elapsed_s = moved.observation.time_s - begin_s
        return Transition(moved.observation, reward, elapsed_s, moved.terminated, moved.truncated)

    def _keep(self) -> dict[str, torch.Tensor]:
        kind = self.spec.kinds[0]
        return {KIND: torch.full((1, len(kind.agents)), kind.idle, device=self.device)}

    def _run(self, actions: Mapping[str, torch.Tensor], end_s: float) -> Transition:
        """To the next decision, or to `end_s`."""
        while True:
            stop_s = self.frames[-1].time_s + self.every_s
            until_s = torch.full((1,), min(end_s, stop_s), dtype=torch.float64, device=self.device)
            moved = self.world.step(actions, until_s)
            now = float(moved.observation.time_s[0])
            if now >= stop_s:
                self.frames.append(frame(self.world))
            decides = bool(moved.observation.kinds[KIND].active.any())
            if decides or now >= end_s or bool(moved.truncated[0]):
                return moved
            actions = self._keep()

    def metrics(self) -> dict[str, torch.Tensor]:
        """Those of the world."""
        return self.world.metrics()

    def snapshot(self) -> Snapshot:
        """That of the world; frames are not part of it."""
        return self.world.snapshot()

    def restore(self, snapshot: Snapshot) -> Observation:
        """Goes on from a snapshot; frames begin anew."""
        observation = self.world.restore(snapshot)
        self.frames, self._paid = [frame(self.world)], self.world.counts["total"].clone()
        return observation
