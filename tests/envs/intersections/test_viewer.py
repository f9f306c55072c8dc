"""Replays: what frames say is what the world was, to the bit, and drawings show it."""

import base64
import dataclasses
import json
import math
import re
import xml.etree.ElementTree as ET
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from fedsched.envs.core import WorldError
from fedsched.envs.intersections.controllers import ProgramController, max_pressure
from fedsched.envs.intersections.drawing import LIGHTS, Canvas, frame_pixels, frame_svg, rgb, speed_colors
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem, grid_problem
from fedsched.envs.intersections.replay_page import replay_html
from fedsched.envs.intersections.viewer import Frame, Picture, RecordedWorld, decode_frame, frame, make_picture
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

SECONDS = 150


@cache
def problem() -> Problem:
    return grid_problem(2)


@cache
def picture() -> Picture:
    return make_picture(problem())


def run(world: Any, streets: IntersectionsWorld, rows: list[int], timing: str) -> list[Any]:
    """Transitions under a controller; row k is demand and seed k."""
    controller = ProgramController() if timing == "program" else max_pressure()
    controller.reset(streets)
    observation = world.reset(torch.tensor(rows), torch.tensor(rows))
    moves, end_s = [], torch.full((len(rows),), float(SECONDS), dtype=torch.float64)
    while float(observation.time_s.min()) < SECONDS:
        moved = world.step(controller.act(observation), end_s)
        tokens = {name: getattr(moved.observation.kinds[KIND], name).clone() for name in ("own", "entities", "active")}
        moves.append((moved.reward[KIND], moved.elapsed_s, moved.observation.time_s.clone(), tokens))
        observation = moved.observation
    return moves


@cache
def recorded(timing: str = "sumo_rl", every_s: int = 1) -> tuple[RecordedWorld, list[Any]]:
    """Row 1 by itself."""
    streets = IntersectionsWorld(problem(), 1, timing)
    world = RecordedWorld(streets, every_s)
    return world, run(world, streets, [1], timing)


def equal(one: Frame, other: Frame) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(Frame)]
    return all(a.dtype == b.dtype and np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


@pytest.mark.parametrize("timing", ["sumo_rl", "free", "program"])
def test_stopping_for_frames_changes_nothing(timing: str) -> None:
    plain = IntersectionsWorld(problem(), 1, timing)
    undivided = run(plain, plain, [1], timing)
    world, moves = recorded(timing)
    assert [f.time_s for f in world.frames] == list(range(SECONDS + 1))
    assert len(moves) == len(undivided)
    for (reward, elapsed_s, time_s, tokens), (their_reward, *theirs) in zip(moves, undivided, strict=True):
        assert torch.equal(reward, their_reward)
        assert torch.equal(elapsed_s, theirs[0])
        assert torch.equal(time_s, theirs[1])
        assert all(torch.equal(value, theirs[2][name]) for name, value in tokens.items())
    for name, column in plain.traffic.items():
        assert torch.equal(column, world.world.traffic[name]), name


def test_a_row_of_a_batch_is_the_replay_of_its_instance_and_seed() -> None:
    batch = IntersectionsWorld(problem(), 2, "sumo_rl")
    run(batch, batch, [0, 1], "sumo_rl")
    world, _ = recorded()
    assert equal(frame(batch, 1), world.frames[-1])
    assert not equal(frame(batch, 0), world.frames[-1])
    seldom, _ = recorded("sumo_rl", 7)
    assert [f.time_s for f in seldom.frames] == list(range(0, SECONDS, 7))
    assert all(equal(f, world.frames[int(f.time_s)]) for f in seldom.frames)


def test_a_frame_holds_everybody_and_the_lights_in_force() -> None:
    streets = recorded()[0].world
    last = recorded()[0].frames[-1]
    count = int(streets.traffic["count"][0])
    assert count == len(last.trip) > 20
    assert np.array_equal(last.position, streets.traffic["position"][0, :count].float().numpy())
    assert {light for f in recorded()[0].frames[1:] for light in f.lights} >= set("rgGy")
    assert int(last.queue.sum()) == int(streets.counts["halting"].sum()) > 0
    assert len(last.queue) == len(picture().approaches)
    assert len(last.lights) == len(picture().lights)


def test_frames_and_pictures_survive_as_bytes() -> None:
    for one in recorded()[0].frames[::30]:
        assert equal(decode_frame(one.encode()), one)
    assert msgspec.json.decode(msgspec.json.encode(picture()), type=Picture) == picture()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(picture()), type=Picture) == picture()
    with pytest.raises(msgspec.DecodeError):
        decode_frame(msgspec.msgpack.encode({"time_s": 1.0}))
    with pytest.raises(msgspec.DecodeError):
        decode_frame(b"")


def test_only_one_row_at_whole_seconds_can_be_recorded() -> None:
    with pytest.raises(WorldError, match="has 2; run its instance and seed alone"):
        RecordedWorld(IntersectionsWorld(problem(), 2))
    with pytest.raises(WorldError, match="whole seconds"):
        RecordedWorld(IntersectionsWorld(problem(), 1), 0)


def walk(lane: int, position: float) -> tuple[float, float]:
    """The point at a position of a lane, piece by piece."""
    strip = problem().network.lanes[lane]
    points = strip.shape.tolist()
    whole = sum(math.dist(a, b) for a, b in pairwise(points))
    left = position / strip.length * whole
    for a, b in pairwise(points):
        size = math.dist(a, b)
        if left <= size:
            break
        left -= size
    share = left / size
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])


def test_vehicles_are_drawn_where_they_are() -> None:
    canvas = Canvas(picture())
    inside = 0
    for one in recorded()[0].frames[60::30]:
        strokes = canvas.vehicles(one)
        for k, lane in enumerate(one.lane.tolist()):
            inside += picture().lanes[lane].internal
            assert strokes.ends[k, 2:] == pytest.approx(walk(lane, float(one.position[k])), abs=0.02)
            length = problem().tables.types.length[one.type[k]]
            assert math.dist(strokes.ends[k, :2], strokes.ends[k, 2:]) == pytest.approx(length)
    assert inside > 3
    assert speed_colors(np.array([0.0, 2.0, 99.0], dtype=np.float32)) == ["#ff5d8f", "#ff83aa", "#4dabf7"]


def test_bars_of_signals_cross_the_ends_of_their_lanes() -> None:
    links = problem().tables.links
    for link, (one, other) in zip(problem().signal_links, picture().lights, strict=True):
        lane = problem().network.lanes[links.source[link]]
        shared = int((links.source[problem().signal_links] == links.source[link]).sum())
        assert math.dist(one, other) == pytest.approx(lane.width / shared, abs=0.02)
        assert math.dist(lane.shape[-1], one) <= lane.width / 2 + 0.02


def test_an_svg_image_shows_vehicles_lights_and_queues() -> None:
    last = recorded()[0].frames[-1]
    named = Canvas(msgspec.structs.replace(picture(), name="<grid> & co"))
    root = ET.fromstring(frame_svg(named, last))
    space = {"": "http://www.w3.org/2000/svg"}
    assert "<grid> & co 0:02:30" in (root.findtext("title", namespaces=space) or "")
    streets, lights, vehicles = root.findall("g", space)
    assert sum(path.attrib["d"].count("M") for path in vehicles) == len(last.trip)
    assert sum(path.attrib["d"].count("M") for path in lights) == len(last.lights)
    reds = sum(path.attrib["d"].count("M") for path in lights if path.attrib["stroke"] == LIGHTS["r"])
    assert reds == last.lights.count("r") > 0
    *queues, _ = [text.text for text in root.findall("text", space)]
    assert sum(int(text or 0) for text in queues) == int(last.queue.sum())
    assert len(streets) >= 2


def test_pixels_have_the_colours_of_what_is_there() -> None:
    last = recorded()[0].frames[-1]
    canvas = Canvas(picture())
    image = frame_pixels(canvas, last, 1200)
    x0, y0, x1, y1 = canvas.bounds
    assert image.shape == (round((y1 - y0) / (x1 - x0) * 1200), 1200, 3)
    strokes = canvas.vehicles(last)
    middles = (strokes.ends[:, :2] + strokes.ends[:, 2:]) / 2
    at = ((middles - [x0, y1]) * [1, -1] * 1200 / (x1 - x0)).astype(int)
    shown = [tuple(image[y, x].tolist()) == rgb(c) for (x, y), c in zip(at, strokes.color, strict=True)]
    assert np.mean(shown) > 0.9  # others lie under a neighbour
    empty = dataclasses.replace(last, **{name: getattr(last, name)[:0] for name in ("trip", "type", "lane")})
    empty = dataclasses.replace(empty, position=last.position[:0], speed=last.speed[:0])
    assert not np.array_equal(frame_pixels(canvas, empty, 1200), image)


def test_a_page_needs_nothing_else_and_holds_every_frame() -> None:
    frames = recorded()[0].frames
    evil = msgspec.structs.replace(picture(), name="</script><script>alert(1)</script>")
    page = replay_html(evil, frames)
    assert page.count("</script>") == 1
    assert not re.search(r"https?:|src=|href=|@import|url\(", page)
    data = json.loads(re.findall(r"const replay = (.*);\n", page)[0])
    assert data["name"] == evil.name
    assert data["times"] == list(range(SECONDS + 1))
    packed = np.frombuffer(base64.b64decode(data["vehicles"]), dtype="<i2").reshape(-1, 6)
    assert len(packed) == sum(data["counts"])
    last = packed[len(packed) - data["counts"][-1] :]
    ends = Canvas(picture()).vehicles(frames[-1]).ends
    for k in (0, 1):
        where = data["bounds"][k] + (last[:, 1 + k].astype(float) + 32768) * data["unit"]
        assert np.abs(where - ends[:, 2 + k]).max() <= data["unit"]
    assert np.abs(last[:, 4] / 100 - frames[-1].speed).max() <= 0.0051
    assert sum(data["queues"][-1]) == int(frames[-1].queue.sum())
    with pytest.raises(IntersectionsError, match="record an episode first"):
        replay_html(picture(), [])
