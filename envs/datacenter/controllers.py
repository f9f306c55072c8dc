"""The classical schedulers of data centres as controllers: baselines and teachers that decide step by step."""

import torch

from fedsched.envs.core import Observation, Reads, World
from fedsched.envs.datacenter.model import DatacenterError
from fedsched.envs.datacenter.rules import parse_rule
from fedsched.envs.datacenter.world import KIND, DatacenterWorld


class RuleController:
    """A dispatch rule, with EASY backfilling where its name ends in `-easy` (contract: `envs.core.Controller`).

    It reads the true state of the visible jobs. `DatacenterWorld.run_rules` runs the same rules to the end inside the
    kernel, over the whole queue; the two differ only while more jobs wait than are visible.

    Args:
        name: Such as `saf-easy`.

    Raises:
        DatacenterError: An unknown rule.
    """

    reads: Reads = "state"

    def __init__(self, name: str) -> None:
        self.name = name
        self._rule, self._easy = parse_rule(name)
        self._world: DatacenterWorld | None = None

    def reset(self, world: World) -> None:
        """Binds the controller to a data-centre world; raises DatacenterError for another kind of world."""
        if not isinstance(world, DatacenterWorld):
            raise DatacenterError(f"{self.name} schedules data centres, not {world.spec.name}")
        self._world = world

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """The rule's pick for every cluster that must decide, hold for the others; int64 [B, C] by kind."""
        del observation  # the rule reads the state behind it
        if self._world is None:
            raise DatacenterError(f"{self.name}: call reset with a world first")
        return {KIND: self._world.rule_actions(self._rule, self._easy)}
