"""Splits of green among phases that may overlap: shares, cycles, whole seconds. Tensors [..., N] over N phases."""

import torch

SHARPNESS, ROUNDS = 8.0, 40
"""Exponent that stands for the greatest of several, and steps of the fixed point."""
LEAST_LOAD = 0.01
"""What a movement counts at least, so that every one is served."""
LONGEST_LOAD = 0.95
"""Load from which Webster's cycle grows no more."""
LEAST_SHARE = 0.04
"""Phases with a smaller share are left out where others serve their movements."""


def fair_shares(load: torch.Tensor, serves: torch.Tensor) -> torch.Tensor:
    """Shares of green, such that the movement with least green for its load has as much as can be.

    Where no movement has two phases these are Webster's: in proportion to the phases' greatest loads. Otherwise the
    fixed point of x_n <- x_n (sum_e s_ne (y_e / g_e)^p)^(1/p) with g_e = sum_n s_ne x_n: the optimality condition of
    the p-norm that stands for the greatest y_e / g_e.

    Args:
        load: float64 [..., E], share of the time that each movement needs green; 0 for those that are not there.
        serves: float64 [..., N, E], capacity of each movement in each phase, 1 when protected.

    Returns:
        float64 [..., N], sum 1; 0 for phases that serve nobody.
    """
    there = serves.amax(-2) > 0
    needed = torch.where(there, load.clamp(min=LEAST_LOAD), 0.0)
    share = (serves.sum(-1) > 0).to(load.dtype).expand(*load.shape[:-1], serves.shape[-2])
    share = share / share.sum(-1, keepdim=True).clamp(min=1.0)
    for _ in range(ROUNDS):
        green = (share[..., None] * serves).sum(-2)
        pressed = torch.where(there, needed / green.clamp(min=1e-9), 0.0)
        pressed = (pressed / pressed.amax(-1, keepdim=True).clamp(min=1e-9)) ** SHARPNESS
        share = share * (serves * pressed[..., None, :]).sum(-1) ** (1.0 / SHARPNESS)
        share = share / share.sum(-1, keepdim=True).clamp(min=1e-12)
    return (share * 1e6).round() / 1e6  # so that no later choice hangs on the last bit


def used_phases(share: torch.Tensor, serves: torch.Tensor) -> torch.Tensor:
    """The phases of a plan, bool [..., N]: those with a share worth its yellow, and those that alone serve someone."""
    alone = (serves > 0) & ((serves > 0).sum(-2, keepdim=True) == 1)
    return (share >= LEAST_SHARE) | alone.any(-1)


def total_load(load: torch.Tensor, share: torch.Tensor, serves: torch.Tensor) -> torch.Tensor:
    """The share of all time that the shares, [..., N], would need green: Webster's Y, the sum of the phases' loads."""
    green = (share[..., None] * serves).sum(-2)
    return torch.where(green > 0, load / green.clamp(min=1e-9), 0.0).amax(-1)


def webster_cycle(
    load: torch.Tensor, phases: torch.Tensor, lost_s: int, shortest_s: int, longest_s: int
) -> torch.Tensor:
    """Webster's cycle (1.5 L + 5) / (1 - Y) in whole seconds, with room for the shortest greens, int64 [...]."""
    lost = phases * lost_s
    cycle = (1.5 * lost + 5.0) / (1.0 - load.clamp(max=LONGEST_LOAD))
    least = lost + phases * shortest_s
    return torch.maximum(cycle.round().long().clamp(max=longest_s), least)


def whole_seconds(
    share: torch.Tensor, used: torch.Tensor, cycle: torch.Tensor, lost_s: int, shortest_s: int
) -> torch.Tensor:
    """How long each phase is shown, yellow before it included, int64 [..., N]; sums to the cycle, int64 [...].

    Greens are in proportion to the shares, but not under the shortest; largest remainders are rounded up.
    """
    share = torch.where(used, share.clamp(min=1e-6), 0.0)
    green = (cycle - used.sum(-1) * lost_s).to(share.dtype)[..., None]
    held = torch.zeros_like(used)
    for _ in range(used.shape[-1]):  # each may leave others less than the shortest
        rest = green - held.sum(-1, keepdim=True) * shortest_s
        free = torch.where(held, 0.0, share)
        given = rest * free / free.sum(-1, keepdim=True).clamp(min=1e-12)
        held = held | (used & (given < shortest_s))
    seconds = torch.where(held, float(shortest_s), given)
    whole = (seconds + 1e-6).floor()
    left = (green[..., 0] - whole.sum(-1)).round().long()[..., None]
    remainder = torch.where(used, ((seconds - whole) * 1e6).round(), -1e6)
    rank = remainder.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    return torch.where(used, whole.long() + (rank < left).long() + lost_s, 0)
