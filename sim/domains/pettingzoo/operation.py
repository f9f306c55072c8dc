"""A foreign environment operated: episodes driven by a rule or by a policy."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedsched.agents.collect import GreedyActor
from fedsched.agents.mailbox import Traffic
from fedsched.agents.policy import Policy
from fedsched.envs.core.foreign import ForeignWorld
from fedsched.sim.domains.base import Episodes, FloatArray
from fedsched.sim.domains.operation import Drive
from fedsched.sim.domains.pettingzoo.rules import controller


@dataclass(frozen=True)
class Outcome:
    """What became of the operated rows.

    Attributes:
        figures: Those of the domain, [rows] each.
        sent: Messages between the agents, over all rows.
    """

    figures: Mapping[str, FloatArray]
    sent: Traffic


class ForeignOperation:
    """The operated batch: row b is the b-th episode.

    Args:
        world: As many rows as episodes; closed in the end.
        episodes: What they play.
        actor: A rule's name, where there is no policy.
        policy: Acts greedily.
    """

    def __init__(self, world: ForeignWorld, episodes: Episodes, actor: str, policy: Policy | None) -> None:
        self._world, self._actor = world, None
        if policy is None:
            rule = controller(actor)
            rule.reset(world)
            self._drive = Drive(world, episodes, rule.act)
        else:
            self._actor = GreedyActor(policy, world.spec, world.batch, world.device)
            self._drive = Drive(world, episodes, self._actor)

    def advance(self, until_s: float) -> None:
        """Runs all rows to a moment of the clock, or to their end."""
        self._drive.advance(until_s)

    def outcome(self) -> Outcome:
        """Figures of every row until now."""
        found = {name: values.numpy().astype(np.float64) for name, values in self._world.metrics().items()}
        return Outcome(found, self._actor.traffic if self._actor is not None else Traffic())

    def close(self) -> None:
        """Closes the environments and ends their processes."""
        self._world.close()
