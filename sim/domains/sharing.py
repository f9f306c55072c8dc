"""The contract between `sim` and a domain whose sites may act in one shared world, each for its own agents."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol, runtime_checkable

import torch

from fedsched.envs.core import Delivery, Lot, Observation, WorldSpec
from fedsched.sim.domains.base import Outcome, Simulator, Split
from fedsched.sim.scenario import Scenario

Actions = Mapping[str, torch.Tensor]
"""Of every agent by kind: int64 [B, A], or float32 [B, A, D]."""
Decide = Callable[[Mapping[str, Observation]], Mapping[str, Actions]]
"""The actions of each site's own agents from what these see, by site."""


class SharedOperation(Protocol):
    """The operated batch of a world that several sites share: row b is the b-th period."""

    def advance(self, until_s: float) -> None:
        """Runs all rows to a moment of the common clock."""
        ...

    def lots(self, window: tuple[int, int]) -> dict[str, list[list[Lot]]]:
        """What each row of each site offers and asks for in the coming epoch."""
        ...

    def keep(
        self,
        row: int,
        window: tuple[int, int],
        deliveries: Mapping[str, list[Delivery]],
        parties: Collection[str],
    ) -> None:
        """Lets every site keep, in one row, what it gives and takes; `parties` are those that the plan binds."""
        ...

    def outcomes(self) -> dict[str, Outcome]:
        """What became of the rows: of each site's part, and of the whole under the name of no site."""
        ...

    def close(self) -> None:
        """Ends what the operation started outside this process, if anything."""
        ...


class SharedWorlds(Protocol):
    """Worlds in which all sites of a scenario act, each for its own agents."""

    @property
    def horizon_s(self) -> float:
        """How long the longest period is."""
        ...

    @property
    def best_rule(self) -> str:
        """The classical rule that does best for the whole on the validation windows."""
        ...

    def operate(
        self, split: Split, rows: int, actor: str, decide: Decide | None, simulator: Simulator
    ) -> SharedOperation:
        """Starts the first `rows` periods of a split; a rule's name, or `policy` and what asks each site's."""
        ...


@runtime_checkable
class Joining(Protocol):
    """Worlds of a site whose agents can act in a world that it shares with others."""

    @property
    def shared_spec(self) -> WorldSpec:
        """What is static about its own agents there (`envs.core.part_of`)."""
        ...


@runtime_checkable
class Sharing(Protocol):
    """A domain whose sites may act in one shared world."""

    def shares(self, scenario: Scenario) -> bool:
        """Whether those of this scenario do."""
        ...

    def shared(self, scenario: Scenario, device: str = "cpu") -> SharedWorlds:
        """The shared worlds; raises WorldSetupError for data that cannot be used."""
        ...
