"""Streets of a scene, run by the kernels or by the reference."""

import gzip
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import warp as wp

from fedsched.envs.intersections.arrays import Columns, clear, road_columns, structs, traffic_columns
from fedsched.envs.intersections.compile import compile_tables
from fedsched.envs.intersections.kernels.alone import run_seconds
from fedsched.envs.intersections.netfile import read_network
from fedsched.envs.intersections.network import Network
from fedsched.envs.intersections.routefile import read_demand
from fedsched.envs.intersections.tables import Tables

SCENES = Path(__file__).parent / "scenes"


@dataclass(frozen=True)
class Scene:
    """A two-minute scene with what SUMO does in it."""

    network: Network
    tables: Tables
    trips: tuple[str, ...]
    truth: dict[str, Any]

    def without_chance(self) -> Tables:
        """The same with drivers who neither dawdle nor differ."""
        types = self.tables.types
        flat = {"sigma": types.sigma * 0, "speed_deviation": types.sigma * 0, "speed_factor": types.sigma * 0 + 1}
        return replace(self.tables, types=replace(types, **flat))


@cache
def scene(name: str) -> Scene:
    folder = SCENES / name
    truth = json.loads(gzip.decompress((folder / "truth.json.gz").read_bytes()))
    network = read_network(folder / "net.xml.gz")
    demand = read_demand([folder / "rou.xml"], network, 0, len(truth["exact"]["steps"]))
    tables = compile_tables(network, demand, 0.0)
    return Scene(network, tables, tuple(trip.id for trip in demand.trips), truth)


class Streets:
    """Worlds of one scene on the kernels alone."""

    def __init__(self, tables: Tables, seeds: list[int], slots: int = 256) -> None:
        self.batch = len(seeds)
        self.road: Columns = road_columns(tables, 0.0, "cpu")
        self.traffic: Columns = traffic_columns(tables, self.batch, slots, "cpu")
        for row, seed in enumerate(seeds):
            clear(self.traffic, self.road, row, seed)
        self._structs = structs(self.road, self.traffic)

    def run(self, seconds: int) -> None:
        ticks = wp.from_torch(torch.full((self.batch,), seconds, dtype=torch.int32))
        wp.launch(run_seconds, dim=self.batch, inputs=[*self._structs, ticks], device="cpu")

    def on_road(self, row: int = 0) -> dict[int, tuple[int, float, float]]:
        """Lane, position and speed of everyone, by trip."""
        n = int(self.traffic["count"][row])
        columns = [self.traffic[name][row, :n].tolist() for name in ("id", "lane", "position", "speed")]
        return {trip: (lane, at, v) for trip, lane, at, v in zip(*columns, strict=True)}

    def trips(self, name: str, row: int = 0) -> npt.NDArray[Any]:
        return np.asarray(self.traffic[f"trip_{name}"][row].numpy())
