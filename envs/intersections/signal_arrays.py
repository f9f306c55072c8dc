"""The arrays behind controlled signals: what they may show, what they see, what is counted and observed."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsched.envs.intersections.actuation import Actuation
from fedsched.envs.intersections.ahead import next_signals
from fedsched.envs.intersections.arrays import Columns, empty_columns, fill, to_ints, to_tensor
from fedsched.envs.intersections.kernels.actuated import Greens
from fedsched.envs.intersections.kernels.control import LONG_AGO, Control
from fedsched.envs.intersections.kernels.measure import Count
from fedsched.envs.intersections.kernels.state import columns_of
from fedsched.envs.intersections.links import begins
from fedsched.envs.intersections.network import CLASSES, Turn
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.tables import Tables, Ways
from fedsched.envs.intersections.timing import Timing

VIEW_M = 200.0
"""How far a lane behind a signal counts."""

GRAVITY, AIR_KG_PER_M3 = 9.81, 1.3
HEAVY = ("bus", "coach", "truck", "trailer")
PRIORITY = {"emergency": 10.0, "bus": 3.0}
"""Weight of a vehicle class in the reward `priority_delay`; others 1."""


@dataclass(frozen=True)
class Engine:
    """What a second of driving burns: (max(0, m a + m g c_r + rho c_d A v^2 / 2) v + P_0) times consumption per work.

    Source: Treiber and Kesting, Traffic Flow Dynamics (2013), chapter 20, without overrun fuel cut-off; the figures of
    heavy vehicles are our assumption. No gradients.
    """

    mass_kg: float
    rolling: float
    drag: float
    area_m2: float
    idling_w: float
    ml_per_kwh: float


ENGINES = {
    "car": Engine(1500.0, 0.015, 0.3, 2.2, 3000.0, 300.0),
    "heavy": Engine(15000.0, 0.008, 0.6, 8.0, 6000.0, 250.0),
}

_TURN = {
    Turn.RIGHT: 0, Turn.PARTIAL_RIGHT: 0, Turn.STRAIGHT: 1, Turn.LEFT: 2, Turn.PARTIAL_LEFT: 2, Turn.TURN: 3,
}  # fmt: skip


def plan_columns(problem: Problem, timing: Timing, device: str) -> tuple[Columns, dict[str, int]]:
    """The controlled signals and their green phases; their timing (`kernels.control.Plan`)."""
    most = max(1, problem.tables.signals.state.shape[1])
    phases = [phase for signal in problem.signals for phase in signal.phases]
    green = np.full((len(phases), most), ord("r"), dtype=np.int32)
    for row, phase in zip(green, phases, strict=True):
        row[: len(phase)] = [ord(character) for character in phase]
    columns = {
        "signal": to_ints([signal.index for signal in problem.signals], device),
        "phase_first": to_ints(begins([signal.phases for signal in problem.signals]), device),
        "green": to_tensor(green, device),
    }  # fmt: skip
    numbers = {
        "phases": problem.phases, "period": timing.period_s, "yellow": timing.yellow_s, "least": timing.least_s,
        "horizon": problem.seconds,
    }  # fmt: skip
    return columns, numbers


def loop_columns(actuation: Actuation, lanes: int, device: str) -> Columns:
    """The actuated signals and their detectors (`kernels.actuated.Loops`)."""
    columns = {
        name: getattr(actuation, name)
        for name in (
            "signal", "max_gap", "detector_gap", "shortest", "longest", "extends", "loop_at", "phase_loop_begin",
            "phase_loop",
        )
    }  # fmt: skip
    first = np.searchsorted(actuation.loop_lane, np.arange(lanes + 1)).astype(np.int32)
    return {name: to_tensor(values, device) for name, values in {**columns, "lane_loop": first}.items()}


def green_columns(actuation: Actuation, batch: int, device: str) -> Columns:
    """What actuated signals do (`kernels.actuated.Greens`)."""
    sizes = {"detected": (len(actuation.loop_at),)}
    return empty_columns(columns_of(Greens), batch, sizes, (len(actuation.signal),), device)


def start_greens(columns: Columns, actuation: Actuation, problem: Problem, rows: torch.Tensor) -> None:
    """Puts rows at the begin of the phases in which actuated programs start; nobody was at a detector yet."""
    device = rows.device
    phase = problem.tables.signals.phase_begin[actuation.signal] + actuation.start
    columns["step"][rows] = torch.as_tensor(actuation.start, device=device)
    columns["due"][rows] = torch.as_tensor(actuation.shortest[phase], device=device)
    fill(columns["since"], rows, 0)
    fill(columns["detected"], rows, LONG_AGO)


def control_columns(problem: Problem, batch: int, device: str) -> Columns:
    """What the signals do (`kernels.control.Control`)."""
    sizes: dict[str, tuple[int, ...]] = dict.fromkeys(("ended", "time_s", "elapsed_s"), ())
    return empty_columns(columns_of(Control), batch, sizes, (len(problem.signals),), device)


def sight_columns(problem: Problem, device: str) -> Columns:
    """Which signal a vehicle meets next, what counts behind it, and what its engine needs (`kernels.measure.Sight`)."""
    lanes, links, types = problem.tables.lanes, problem.tables.links, problem.tables.types
    place = _out_numbers(problem)
    ahead, distance = next_signals(problem.tables, signal_numbers(problem))
    agent = {signal.index: a for a, signal in enumerate(problem.signals)}
    rest, goal = _through(problem.tables)
    outs = [{int(lane) for targets in signal.targets for lane in targets} for signal in problem.signals]
    behind = [[a for a, lanes_out in enumerate(outs) if lane in lanes_out] for lane in problem.out_lanes.tolist()]
    classes = [CLASSES[number] for number in types.vehicle_class]
    engines = [ENGINES["heavy" if name in HEAVY else "car"] for name in classes]
    columns: dict[str, npt.NDArray[Any]] = {
        "ahead": ahead, "distance": distance, "rest": rest, "goal": goal,
        "link_agent": np.array([agent.get(int(links.signal[k]), -1) for k in problem.signal_links], dtype=np.int32),
        "lane_out": place, "out_m": np.minimum(lanes.length[problem.out_lanes], VIEW_M),
        "out_agent_begin": begins(behind), "out_agent": np.array([a for row in behind for a in row], dtype=np.int32),
        "mass": np.array([e.mass_kg for e in engines]),
        "rolling": np.array([e.mass_kg * GRAVITY * e.rolling for e in engines]),
        "drag": np.array([0.5 * AIR_KG_PER_M3 * e.drag * e.area_m2 for e in engines]),
        "idling": np.array([e.idling_w for e in engines]),
        "ml_per_joule": np.array([e.ml_per_kwh / 3.6e6 for e in engines]),
        "weight": np.array([PRIORITY.get(name, 1.0) for name in classes]),
    }  # fmt: skip
    return {name: to_tensor(values, device) for name, values in columns.items()}


def see_ways(sight: Columns, problem: Problem, ways: Ways) -> None:
    """Adds ways behind those that are known."""
    ahead, distance = next_signals(replace(problem.tables, ways=ways), signal_numbers(problem))
    device = str(sight["ahead"].device)
    sight["ahead"] = torch.cat((sight["ahead"], to_tensor(ahead, device)))
    sight["distance"] = torch.cat((sight["distance"], to_tensor(distance, device)))


def signal_numbers(problem: Problem) -> npt.NDArray[np.int32]:
    """The place of each link among the signal links, -1 for others, [K]."""
    found = np.full(len(problem.tables.links.source), -1, dtype=np.int32)
    found[problem.signal_links] = np.arange(len(problem.signal_links))
    return found


def _out_numbers(problem: Problem) -> npt.NDArray[np.int32]:
    """The place of each lane among those behind controlled signals, -1 for others, [L]."""
    found = np.full(len(problem.tables.lanes.length), -1, dtype=np.int32)
    found[problem.out_lanes] = np.arange(len(problem.out_lanes))
    return found


def _through(tables: Tables) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """For internal lanes: m from the start to the normal lane behind the junction, and that lane; [L]."""
    lanes, links = tables.lanes, tables.links
    rest, goal = np.zeros(len(lanes.length)), np.zeros(len(lanes.length), dtype=np.int32)
    for lane in np.flatnonzero(lanes.internal):
        if lanes.link_begin[lane] < lanes.link_begin[lane + 1]:
            link = lanes.link_begin[lane]
            rest[lane], goal[lane] = lanes.length[lane] + links.via_length[link], links.target[link]
    return rest, goal


def count_columns(problem: Problem, batch: int, parts: int, device: str) -> Columns:
    """Counts before and behind the signals, and rewards (`kernels.measure.Count`)."""
    links, outs, agents = len(problem.signal_links), len(problem.out_lanes), len(problem.signals)
    sizes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("out_seen", "out_halting", "out_used"), (outs,)),
        **dict.fromkeys(("total", "paid", "reward"), (agents, parts)),
        **dict.fromkeys(("fuel_ml", "jammed", "seconds"), ()),
    }
    return empty_columns(columns_of(Count), batch, sizes, (links,), device)


def view_columns(
    problem: Problem, batch: int, own: int, entity: int, device: str, link_gate: npt.NDArray[np.int32]
) -> Columns:
    """The tokens and how movements are laid out (`kernels.observe.View` without its number)."""
    signals, number, place = problem.signals, signal_numbers(problem), _out_numbers(problem)
    moves = [move for signal in signals for move in signal.movements]
    count = [len(signal.movements) for signal in signals]
    agents, phases, most = len(signals), problem.phases, problem.movements
    mask = torch.arange(most) < torch.tensor(count)[:, None]
    actions = torch.zeros((agents, phases + 1, 3))
    for kind in (1, 2):
        shares = (problem.served == 3 - kind).sum(2) / np.array(count)[:, None]
        actions[:, :phases, kind] = torch.as_tensor(shares)
    links = [number[list(own)] for signal in signals for own in signal.links]
    outs = [place[list(lanes)] for signal in signals for lanes in signal.targets]
    return {
        "movement_first": to_ints(begins([signal.movements for signal in signals]), device),
        "movement_link_begin": to_ints(begins(links), device),
        "movement_link": to_tensor(np.concatenate(links), device),
        "movement_out_begin": to_ints(begins(outs), device), "movement_out": to_tensor(np.concatenate(outs), device),
        "movement_lanes": to_ints([len(move.lanes) for move in moves], device),
        "movement_gate": to_ints([int(link_gate[own[0]]) for signal in signals for own in signal.links], device),
        "movement_turn": to_ints([_TURN[move.turn] for move in moves], device),
        "own": torch.zeros((batch, agents, own), device=device),
        "entities": torch.zeros((batch, agents, most, entity), device=device),
        "entity_mask": mask.to(device).expand(batch, -1, -1).contiguous(),
        "actions": actions.to(device).expand(batch, -1, -1, -1).contiguous(),
        "action_mask": torch.zeros((batch, agents, phases + 1), dtype=torch.bool, device=device),
    }  # fmt: skip
