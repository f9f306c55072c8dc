"""Operating a batch of a world whose rows are driven step by step, by a controller or by a policy."""

from collections.abc import Callable, Mapping

import torch

from fedsched.agents.collect import Ended, quieten
from fedsched.envs.core import Observation, World
from fedsched.sim.domains.base import Episodes


class Drive:
    """Row b is the b-th episode; each is driven until the clock, or until its end.

    Args:
        world: Reset here.
        episodes: One for each of its rows.
        act: Actions by kind for every row; the idle action for inactive agents.
    """

    def __init__(
        self, world: World, episodes: Episodes, act: Callable[[Observation], Mapping[str, torch.Tensor]]
    ) -> None:
        self._world, self._act = world, act
        self._ended = Ended(world.spec, world.batch, world.device)
        start = torch.zeros(world.batch, dtype=torch.float64, device=world.device)
        self._observation = world.reset(episodes.instances, episodes.seeds, until_s=start)

    def advance(self, until_s: float) -> None:
        """Runs all rows to a moment of the clock, or to their end."""
        until = torch.full((self._world.batch,), until_s, dtype=torch.float64, device=self._world.device)
        while bool((~self._ended.over & (self._observation.time_s < until)).any()):
            moved = self._world.step(self._act(quieten(self._observation, self._ended.over)), until)
            self._ended.observe(moved)
            self._observation = moved.observation
