"""Plans that a slower level may choose from: splits by what was measured, cycles by Webster, green waves."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from fedsched.envs.intersections.chains import Chain
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.programs import Webster
from fedsched.envs.intersections.splits import fair_shares, total_load, used_phases, webster_cycle, whole_seconds
from fedsched.envs.intersections.timing import Timing

SPLITS = ("flow", "queue", "even", "main")
"""Green by what wants to pass, by queues, alike for all, by flow with more for those who stay on the chain."""
WAVES = ("apart", "along", "against")
"""Each signal with its own cycle, or all of the chain with one cycle and a green wave in that direction."""
PLANS = ("none", *(f"{split}-{wave}" for split in SPLITS for wave in WAVES))
PERMISSIVE = 0.5
"""Capacity of a permissive green, of a protected one; our assumption."""
MAIN = 1.5
"""How many times those who stay on the chain count for the split `main`."""


@dataclass(frozen=True)
class Plans:
    """What K plans let each signal show: phase after phase in each cycle, from `offset` on; a cycle of 0: no plan.

    Attributes:
        shown: int64 [B, A, K, N], s that each phase is shown, the yellow before it included; sum: the cycle.
        cycle: int64 [B, A, K], s.
        offset: int64 [B, A, K], second of the clock at which a cycle begins.
        load: float64 [B, A, K], greatest share of its green that a movement needs.
    """

    shown: torch.Tensor
    cycle: torch.Tensor
    offset: torch.Tensor
    load: torch.Tensor

    def columns(self) -> dict[str, torch.Tensor]:
        """The tensors by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def window_overlap(shown: torch.Tensor, begin: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Seconds that each phase is shown from one second of the cycle to another, int64 [..., N]."""
    last = shown.cumsum(-1)
    first = last - shown
    return (torch.minimum(last, end[..., None]) - torch.maximum(first, begin[..., None])).clamp(min=0)


class Planner:
    """Makes the plans of all signals of B copies at once.

    Args:
        problem: Streets and signals.
        chains: Of these signals; each has one plan for all of its own.
        timing: For the yellow and the shortest green.
        device: Where it computes.
        method: Saturation flow, shortest green, and longest cycle; Webster's defaults without.

    Attributes:
        serves: float64 [A, N, E], capacity of each movement in each phase.
        main: bool [2, A, E], the movement on along the chain, and against its direction.
        waves: bool [P, 3], which of `WAVES` there can be in each chain.
    """

    def __init__(
        self,
        problem: Problem,
        chains: Sequence[Chain],
        timing: Timing,
        device: str = "cpu",
        method: Webster | None = None,
    ) -> None:
        self._method = method = method or Webster()
        self._shortest_s = max(method.shortest_s, timing.least_s)
        self._lost_s = round(method.lost_s) - method.yellow_s + timing.yellow_s
        served = torch.as_tensor(problem.served, device=device)
        self.serves = torch.where(served == 2, 1.0, torch.where(served == 1, PERMISSIVE, 0.0)).double()
        lanes = np.zeros((len(problem.signals), problem.movements))
        main = np.zeros((2, *lanes.shape), dtype=np.bool_)
        due = np.zeros((2, len(problem.signals)))
        for a, signal in enumerate(problem.signals):
            lanes[a, : len(signal.movements)] = [len(move.lanes) for move in signal.movements]
        for way in chains:
            for d, direction in enumerate((way.along, way.against)):
                for a, e, due_s in zip(way.signals, direction.movement, direction.due_s, strict=True):
                    due[d, a] = due_s
                    main[d, a, e] = e >= 0
        self._lanes = torch.as_tensor(lanes, device=device)
        self.main = torch.as_tensor(main, device=device)
        self._due = torch.as_tensor(due, device=device)
        self.chain = torch.zeros(len(problem.signals), dtype=torch.int64, device=device)
        for p, way in enumerate(chains):
            self.chain[list(way.signals)] = p
        several = [[True, *(len(w.signals) > 1 and d.whole for d in (w.along, w.against))] for w in chains]
        self.waves = torch.tensor(several, device=device)

    def loads(self, flow: torch.Tensor) -> torch.Tensor:
        """The share of the time that each movement needs green for a flow [B, A, E] in vehicles/s."""
        return flow * 3600.0 / self._method.saturation_per_h / self._lanes.clamp(min=1.0)

    def plans(self, flow: torch.Tensor, queue: torch.Tensor) -> tuple[Plans, torch.Tensor]:
        """All plans for what was measured, and Webster's Y of every signal, [B, A].

        Args:
            flow: float64 [B, A, E], vehicles/s that want to pass.
            queue: float64 [B, A, E], vehicles that halted in the mean.
        """
        load = self.loads(flow)
        on = self.main.any(0)
        wanted = torch.stack(
            [load, queue / self._lanes.clamp(min=1.0), torch.ones_like(load), load * (1 + on * (MAIN - 1))]
        )
        peak = wanted[1].amax(-1, keepdim=True).clamp(min=1e-9)
        wanted[1] = wanted[1] / peak  # queues are worth nothing but beside one another
        share = fair_shares(wanted, self.serves)
        used = used_phases(share, self.serves)
        total = total_load(load, share[0], self.serves)
        least = [self._lost_s, self._shortest_s, self._method.longest_s]
        cycle = webster_cycle(total, used.sum(-1), least[0], least[1], least[2])
        kinds = [self._coordinated(share, used, cycle, wave, load) for wave in range(len(WAVES))]
        return _listed(kinds), total

    def _coordinated(
        self, share: torch.Tensor, used: torch.Tensor, cycle: torch.Tensor, wave: int, load: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Seconds [S, B, A, N], cycle, offset and load [S, B, A] of all splits with one kind of wave."""
        offset = torch.zeros_like(cycle)
        if wave:
            common = torch.zeros((*cycle.shape[:-1], len(self.waves)), dtype=torch.int64, device=cycle.device)
            at = self.chain.expand_as(cycle)
            cycle = common.scatter_reduce(-1, at, cycle, "amax").gather(-1, at)
        shown = whole_seconds(share, used, cycle, self._lost_s, self._shortest_s)
        if wave:
            meets = (shown[..., None] * self.serves * self.main[wave - 1][:, None]).sum(-1)
            first = (shown.cumsum(-1) - shown).gather(-1, meets.argmax(-1, keepdim=True))[..., 0]
            offset = (self._due[wave - 1].round().long() - first) % cycle
        green = (shown - self._lost_s).clamp(min=0).double() / cycle.clamp(min=1)[..., None]
        return shown, cycle, offset, total_load(load, green, self.serves)


def _listed(kinds: Sequence[tuple[torch.Tensor, ...]]) -> Plans:
    """The plans in the order of `PLANS`, `none` first."""
    parts = []
    for values in zip(*kinds, strict=True):
        both = torch.stack(values, 1)  # [S, W, B, A, ...]
        every = both.flatten(0, 1).movedim(0, 2)
        parts.append(torch.cat([torch.zeros_like(every[:, :, :1]), every], 2))
    return Plans(*parts)
