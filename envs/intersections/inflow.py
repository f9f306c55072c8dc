"""Limits on how many vehicles cross each gate between districts in an epoch."""

from typing import TYPE_CHECKING

import torch

from fedsched.envs.core import WorldError

if TYPE_CHECKING:
    from fedsched.envs.intersections.world import IntersectionsWorld


def begin_epoch(
    world: "IntersectionsWorld", vehicles: torch.Tensor, until_s: torch.Tensor, where: torch.Tensor | None = None
) -> None:
    """Lets so many vehicles cross each gate from now to `until_s`.

    The signals keep it: once as many have passed the gate's stop lines, links that lead through it get yellow and then
    stay red, whatever the phase; who can no longer stop at the yellow still crosses. Other links keep their phase, but
    who stands on the same lane behind somebody who may not cross waits too.

    Args:
        world: With districts.
        vehicles: int64 [B, G] in the order of `districts.gates`, -1: no limit.
        until_s: float64 [B], end of the epoch.
        where: bool [B, G], the gates that begin an epoch; all by default.

    Raises:
        WorldError: No districts, another shape, less than -1, or a limit at a gate that no signal guards.
    """
    traffic = world.traffic
    chosen = torch.ones_like(traffic["gate_closed"]) if where is None else where.to(world.device)
    limit = vehicles.to(world.device)
    _check(world, limit, chosen)
    end = until_s.to(world.device).ceil().clamp(0, 1 << 30)[:, None].expand(limit.shape)
    now = traffic["now"][:, None].expand(limit.shape)
    for name, values in {"limit": limit, "base": traffic["gate_passed"], "begin": now, "end": end}.items():
        own = traffic[f"gate_{name}"]
        own.copy_(torch.where(chosen, values.to(own.dtype), own))


def _check(world: "IntersectionsWorld", limit: torch.Tensor, chosen: torch.Tensor) -> None:
    if world.districts is None:
        raise WorldError("a world without districts has no gates; give it some")
    shape = world.traffic["gate_limit"].shape
    if limit.shape != shape or limit.is_floating_point():
        raise WorldError(f"limits are whole numbers {list(shape)}, got {limit.dtype} {list(limit.shape)}")
    if bool(((limit < -1) & chosen).any()):
        raise WorldError("limits are vehicles from 0, or -1 for none")
    for number, gate in enumerate(world.districts.gates):
        if not gate.guards and bool(((limit >= 0) & chosen)[:, number].any()):
            raise WorldError(f"no signal guards the gate from {world.districts.ends(number)}; leave it at -1")


def crossed(world: "IntersectionsWorld") -> torch.Tensor:
    """Vehicles that have crossed each gate in its epoch, int32 [B, G]."""
    return world.traffic["gate_passed"] - world.traffic["gate_base"]


def open_links(world: "IntersectionsWorld") -> torch.Tensor:
    """Whether each signal link leads through no gate that is used up, bool [B, Q]."""
    traffic = world.traffic
    if world.districts is None:
        return torch.ones_like(world.counts["seen"], dtype=torch.bool)
    used = (crossed(world) >= traffic["gate_limit"]) & (traffic["now"][:, None] < traffic["gate_end"])
    shut = torch.nn.functional.pad(used & (traffic["gate_limit"] >= 0), (0, 1))  # the last place: no gate
    return ~shut[:, world.road["link_gate"][world.road["signal_link"].long()].long()]
