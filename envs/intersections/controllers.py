"""The classical signal controllers: baselines and teachers (contract: `envs.core.Controller`)."""

from collections.abc import Sequence
from typing import Literal

import torch

from fedsched.envs.core import Observation, Reads, World, WorldError
from fedsched.envs.intersections.inflow import open_links
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.world import KIND, IntersectionsWorld

Counted = Literal["near", "seen", "halting"]
"""Vehicles within 50 m of the stop line, within 200 m, or those of the latter that halt."""


PATIENCE = 3.0
"""How many times its threshold SOTL waits for a small platoon."""


class ProgramController:
    """Leaves every signal to its program; for worlds with the timing `program` or `actuated`."""

    name = "program"
    reads: Reads = "state"

    def reset(self, world: World) -> None:
        """Binds the controller; raises WorldError for a world in which signals must decide."""
        self._world = _intersections(world, self.name)
        if self._world.timing.period_s:
            raise WorldError("programs run in worlds with the timing `program`")

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """`keep` for every signal."""
        return {KIND: _keep(self._world, observation)}


class PressureController:
    """Shows the phase with the greatest demand: vehicles before its green links minus those behind them.

    It reads the true counts behind the observation (`IntersectionsWorld.counts`). A vehicle counts for the signal it
    meets next and for the link over which it will, as in SUMO's `getNextTLS`; a lane behind the signal counts once per
    phase, on its first 200 m. Ties: the current phase if it is among the best, else the lowest.

    Args:
        name: Of the controller.
        before: What counts before the signal.
        behind: What counts behind it; nothing where None.

    Source: Varaiya, Max pressure control of a network of signalized intersections (2013).
    """

    reads: Reads = "state"

    def __init__(self, name: str, before: Counted, behind: Literal["out_seen", "out_halting"] | None) -> None:
        self.name, self._before, self._behind = name, before, behind

    def reset(self, world: World) -> None:
        """Binds the controller to an intersections world; raises WorldError for another kind of world."""
        self._world = _intersections(world, self.name)
        self._tables = PhaseTables(self._world.problem, world.device)

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """A phase for every signal that must decide, `keep` for the others; int64 [B, A]."""
        counts = self._world.counts
        demand = self._tables.before(counts[self._before] * open_links(self._world))
        if self._behind:
            demand = demand - self._tables.behind(counts[self._behind])
        return {KIND: choose(demand, self._tables.exists, self._world, observation)}


def max_pressure(counted: Literal["halting", "all"] = "halting") -> PressureController:
    """Max-pressure over the halting vehicles, or over all of them."""
    if counted == "halting":
        return PressureController("max_pressure", "halting", "out_halting")
    return PressureController("max_pressure_all", "seen", "out_seen")


def greedy() -> PressureController:
    """The phase with most vehicles, moving or not, within 50 m."""
    return PressureController("greedy", "near", None)


class Sotl:
    """Self-organising lights: a phase yields to the next once enough vehicle-seconds have gathered at its red links.

    Vehicles within 200 m that do not meet a green link gather; a small platoon (fewer than `platoon` within 50 m of a
    green link) is not cut, unless `PATIENCE` times as much has gathered: it may stand. The next phase is the first in
    order that somebody waits for. It reads the true counts.

    Args:
        threshold: Vehicle-seconds at which it changes.
        platoon: Vehicles.

    Source: Gershenson, Self-organizing traffic lights (2005).
    """

    name = "sotl"
    reads: Reads = "state"

    def __init__(self, threshold: float = 50.0, platoon: int = 3) -> None:
        self._threshold, self._platoon = threshold, platoon

    def reset(self, world: World) -> None:
        """Binds the controller to an intersections world; raises WorldError for another kind of world."""
        self._world = _intersections(world, self.name)
        self._tables = PhaseTables(self._world.problem, world.device)
        self._gathered = torch.zeros(world.batch, len(self._world.problem.signals), device=world.device)
        self._time_s = torch.zeros(world.batch, dtype=torch.float64, device=world.device)

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """A phase for every signal that must decide, `keep` for the others; int64 [B, A]."""
        counts, current = self._world.counts, self._world.control["target"].long()
        seen = counts["seen"] * open_links(self._world)
        served = self._tables.before(seen)
        waiting = self._tables.all(seen) - served.gather(2, current[:, :, None])[:, :, 0]
        passed = observation.time_s - self._time_s
        self._gathered[passed < 0] = 0.0  # a new episode
        self._gathered += waiting * passed.clamp(min=0.0)[:, None].float()
        self._time_s.copy_(observation.time_s)
        near = self._tables.before(counts["near"]).gather(2, current[:, :, None])[:, :, 0]
        platoon = (near > 0) & (near < self._platoon) & (self._gathered < PATIENCE * self._threshold)
        due = (self._gathered >= self._threshold) & ~platoon
        chosen = torch.where(due, self._next(served, current), current)
        active = observation.kinds[KIND].active
        legal = observation.kinds[KIND].action_mask[:, :, :-1]
        chosen = torch.where(legal.gather(2, chosen[:, :, None])[:, :, 0], chosen, self._next(legal.long(), current))
        self._gathered[active & (chosen != current)] = 0.0
        return {KIND: torch.where(active, chosen, self._world.problem.phases)}

    def _next(self, served: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        """The first phase after the current one, in turn, that somebody waits for; [B, A]."""
        count = self._tables.exists.sum(1)[None, :, None]
        turn = (current[:, :, None] + 1 + torch.arange(served.shape[2], device=served.device)) % count
        wanted = served.gather(2, turn) > 0
        return turn.gather(2, wanted.int().argmax(2, keepdim=True))[:, :, 0]


class PhaseTables:
    """Which signal links each phase gives green, and which lanes lie behind these.

    Attributes:
        exists: Whether phase n is one of signal a, bool [A, N].
    """

    def __init__(self, problem: Problem, device: str) -> None:
        tables = problem.tables
        number = {int(link): q for q, link in enumerate(problem.signal_links)}
        place = {int(lane): o for o, lane in enumerate(problem.out_lanes)}
        links: list[list[int]] = []
        lanes: list[list[int]] = []
        for signal in problem.signals:
            own = [link for links_of in signal.links for link in links_of]
            for n in range(problem.phases):
                state = signal.phases[n] if n < len(signal.phases) else ""
                green = [k for k in own if state and state[tables.links.signal_index[k]] in "gG"]
                links.append([number[k] for k in green])
                lanes.append(sorted({place[int(tables.links.target[k])] for k in green}))
        shape = (len(problem.signals), problem.phases)
        self._links = _padded(links, len(number), device).reshape(*shape, -1)
        self._lanes = _padded(lanes, len(place), device).reshape(*shape, -1)
        own_links = [[number[link] for links_of in signal.links for link in links_of] for signal in problem.signals]
        self._all = _padded(own_links, len(number), device)
        count = torch.tensor([len(signal.phases) for signal in problem.signals], device=device)
        self.exists = torch.arange(problem.phases, device=device) < count[:, None]

    def before(self, counts: torch.Tensor) -> torch.Tensor:
        """Sum over the green links of each phase of [B, Q], int64 [B, A, N]."""
        return _sum(counts, self._links)

    def all(self, counts: torch.Tensor) -> torch.Tensor:
        """Sum over all links of each signal of [B, Q], int64 [B, A]."""
        return _sum(counts, self._all)

    def behind(self, counts: torch.Tensor) -> torch.Tensor:
        """Sum over the lanes behind each phase of [B, O], int64 [B, A, N]."""
        return _sum(counts, self._lanes)


def choose(
    demand: torch.Tensor, exists: torch.Tensor, world: IntersectionsWorld, observation: Observation
) -> torch.Tensor:
    """The legal phase of greatest demand [B, A, N] where a signal must decide; ties: the current one, else the lowest.

    Phases that would serve used gates alone are not legal (see `inflow`).
    """
    tokens = observation.kinds[KIND]
    legal = exists & (tokens.action_mask[:, :, :-1] | ~tokens.active[:, :, None])
    demand = demand.masked_fill(~legal, torch.iinfo(demand.dtype).min)
    most = demand.amax(2)
    current = world.control["target"].long()
    stays = demand.gather(2, current[:, :, None])[:, :, 0] == most
    chosen = torch.where(stays, current, (demand == most[:, :, None]).int().argmax(2))
    return torch.where(tokens.active, chosen, world.problem.phases)


def _sum(counts: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    padded = torch.nn.functional.pad(counts.long(), (0, 1))
    return padded.index_select(1, places.reshape(-1)).view(-1, *places.shape).sum(-1)


def _padded(rows: Sequence[Sequence[int]], pad: int, device: str) -> torch.Tensor:
    width = max(1, max(map(len, rows), default=1))
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.int64, device=device)


def _keep(world: IntersectionsWorld, observation: Observation) -> torch.Tensor:
    active = observation.kinds[KIND].active
    return torch.full(active.shape, world.problem.phases, dtype=torch.int64, device=active.device)


def _intersections(world: World, name: str) -> IntersectionsWorld:
    if not isinstance(world, IntersectionsWorld):
        raise WorldError(f"{name} controls signals, not {world.spec.name}")
    return world
