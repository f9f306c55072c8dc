"""Signal controllers that read what the signals see and nothing else: whoever imitates them can do as they do."""

import torch

from fedsched.envs.core import Observation, Reads, World, WorldError
from fedsched.envs.core.names import unknown_name
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.world import KIND, MOVEMENT_FEATURES, PHASE_FEATURES, IntersectionsWorld

_COUNTED: dict[str, tuple[str, str | None]] = {
    "greedy": ("log_near", None),
    "max-pressure": ("log_queue", "log_queue_behind"),
}
"""What counts before the signal, and what behind it."""
TEACHERS = tuple(_COUNTED)


class SeenPressure:
    """The phase with the greatest demand, counted by movement as the features are.

    It decides as `PressureController` does, with two differences: a movement counts whole as soon as one of its links
    is green, and vehicles on a lane behind the signal count once for each movement into it, not once for each phase.
    Contract: `envs.core.Controller`.

    Args:
        name: One of TEACHERS.

    Raises:
        IntersectionsError: Another name; the message suggests the nearest one.
    """

    reads: Reads = "observation"

    def __init__(self, name: str) -> None:
        if name not in _COUNTED:
            raise IntersectionsError(unknown_name("teacher", name, TEACHERS))
        self.name = name
        self._before, self._behind = _COUNTED[name]

    def reset(self, world: World) -> None:
        """Takes the phases' movements from an intersections world; raises WorldError for another kind of world."""
        if not isinstance(world, IntersectionsWorld):
            raise WorldError(f"{self.name} controls signals, not {world.spec.name}")
        self._served = torch.as_tensor(world.problem.served > 0, device=world.device).double()

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """A phase for every signal that must decide, `keep` for the others; int64 [B, A]."""
        tokens = observation.kinds[KIND]
        phases = self._served.shape[1]
        legal = tokens.action_mask[:, :, :phases] & tokens.active[:, :, None]
        # twice the demand and one more for the current phase: it wins ties, then the lowest
        current = tokens.actions[:, :, :phases, PHASE_FEATURES.index("current")] > 0
        rank = (2.0 * self._demand(tokens.entities) + current).masked_fill(~legal, -torch.inf)
        return {KIND: rank.argmax(2).masked_fill(~legal.any(2), phases)}

    def _demand(self, movements: torch.Tensor) -> torch.Tensor:
        """Vehicles before each phase's movements minus those behind them, float64 [B, A, N] of [B, A, E, Fe]."""
        feature = {name: movements[..., k] for k, name in enumerate(MOVEMENT_FEATURES)}
        # nobody gets through a gate that is used up
        vehicles = _count(feature[self._before]) * (feature["inflow_left"] > 0)
        if self._behind is not None:
            vehicles = vehicles - _count(feature[self._behind])
        return (self._served @ vehicles[..., None]).squeeze(3)


def _count(feature: torch.Tensor) -> torch.Tensor:
    """Whole x of a feature ln(1 + x) / 4, float64."""
    return torch.expm1(feature.double() * 4.0).round()
