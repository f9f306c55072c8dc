"""The batch contract: B copies of one problem, stepped together on one device.

Sizes: B worlds, A agents of a kind, E entities an agent sees, N actions, R reward parts, K neighbours.
"""

from __future__ import annotations  # torch is named only: what reads files or drives SUMO does without it

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

from fedsched.envs.core.addresses import Addresses, find_addresses

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt
    import torch


Reads = Literal["observation", "state"]
"""What a controller decides from: what the agents see, or the true state behind it as well."""


class WorldError(ValueError):
    """A world was asked for something it cannot do: an illegal action, an unknown instance, an overflow."""


class IllegalActionError(WorldError):
    """An action that the mask forbids; the message names world, agent and action."""


@dataclass(frozen=True)
class Lists:
    """A bool array [A, X, E] line by line, for those who have no time for its zeros.

    Attributes:
        counts: int64 [A * X], how many are True in each line.
        members: int64, which these are, line after line.
    """

    counts: npt.NDArray[np.int64]
    members: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Flow:
    """Which agents the entities of a kind come from and go to; -1: none.

    Attributes:
        source: int64 [A, E], over all agents of all kinds.
        target: int64 [A, E].
    """

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]


@dataclass(frozen=True)
class KindSpec:
    """What is static about one kind of agent.

    Attributes:
        name: The kind, such as `cluster`.
        agents: Names of its agents, in the order of axis A.
        own: Names of the features of `Tokens.own`.
        entity: Names of the features of `Tokens.entities`.
        entities: Number of entity slots E.
        action: Names of the features of `Tokens.actions`.
        actions: Number of actions N of a choice; zero where actions are vectors.
        idle: The action that an inactive agent takes, such as `hold`.
        relation: `identity` (action n concerns entity n, further actions concern none) or a bool array [A, N, E].
        links: Which entities are beside one another, bool [A, E, E]: entity e looks at e' where True, at itself always;
            None: each at all.
        bounds: Lower and upper bounds, each [D], of vector actions; None for a choice.
        flow: Where entities come from and go to; None where agents do not hand them on.
    """

    name: str
    agents: tuple[str, ...]
    own: tuple[str, ...]
    entity: tuple[str, ...] = ()
    entities: int = 0
    action: tuple[str, ...] = ()
    actions: int = 0
    idle: int = 0
    relation: Literal["identity"] | npt.NDArray[np.bool_] = "identity"
    links: npt.NDArray[np.bool_] | None = None
    bounds: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None
    flow: Flow | None = None

    @cached_property
    def relation_lists(self) -> Lists | None:
        """The array `relation` as lists; None for `identity`."""
        return None if isinstance(self.relation, str) else _lists(self.relation)

    @cached_property
    def link_lists(self) -> Lists | None:
        """The array `links` as lists; None where there is none."""
        return None if self.links is None else _lists(self.links)


def _lists(table: npt.NDArray[np.bool_]) -> Lists:
    return Lists(table.sum(2).reshape(-1), table.nonzero()[2])


@dataclass(frozen=True)
class WorldSpec:
    """What is static about a world.

    Attributes:
        name: Registered name without a version, such as `datacenter`.
        kinds: One `KindSpec` per kind of agent.
        neighbours: Who may message whom, int64 [A, K] over all agents of all kinds in order; -1 pads.
        reward_parts: Names of the R named parts of a reward; weights belong to the scenario.
        metrics: Names of what `World.metrics` returns.
        exact: Whether equal (instance, seed, actions) give bit-equal trajectories on CPU.
        site: Owner of every agent, int64 [A], where several sites share one world; None where one owns all.

    Raises:
        WorldError: Neighbours that are no agents, or a flow from or to such; the message names the agent.
    """

    name: str
    kinds: tuple[KindSpec, ...]
    neighbours: npt.NDArray[np.int64]
    reward_parts: tuple[str, ...]
    metrics: tuple[str, ...]
    exact: bool = True
    site: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        agents = self.agents
        if not agents:
            return  # a policy says so where it meets such a world
        if self.neighbours.ndim != 2 or len(self.neighbours) != len(agents):
            shape = tuple(self.neighbours.shape)
            raise WorldError(f"{self.name}: neighbours have shape {shape}; one line for each of {len(agents)} agents")
        wrong = (self.neighbours < -1) | (self.neighbours >= len(agents))
        if wrong.any():
            a, k = (int(place[0]) for place in wrong.nonzero())
            message = f"{self.neighbours[a, k]} is no agent; there are 0 to {len(agents) - 1}, and -1 pads"
            raise WorldError(f"{self.name}: agent {agents[a]}: neighbour {message}")
        for kind in self.kinds:
            _check_flow(self.name, kind, len(agents))

    @cached_property
    def addresses(self) -> Addresses:
        """Who speaks to whom as what."""
        return find_addresses(self.kinds, self.neighbours)

    @property
    def agents(self) -> tuple[str, ...]:
        """The names of all agents, kind by kind: what `neighbours` counts."""
        return tuple(agent for kind in self.kinds for agent in kind.agents)

    def kind(self, name: str) -> KindSpec:
        """The kind of that name; raises WorldError for an unknown one."""
        for kind in self.kinds:
            if kind.name == name:
                return kind
        raise WorldError(f"{self.name} has no kind {name!r}; it has {', '.join(k.name for k in self.kinds)}")


def _check_flow(world: str, kind: KindSpec, agents: int) -> None:
    if kind.flow is None:
        return
    for name, table in (("source", kind.flow.source), ("target", kind.flow.target)):
        if table.shape != (len(kind.agents), kind.entities):
            wanted = f"one line for each of {len(kind.agents)} agents with {kind.entities} entities"
            raise WorldError(f"{world}: kind {kind.name}: flow.{name} has shape {table.shape}; {wanted}")
        wrong = (table < -1) | (table >= agents)
        if wrong.any():
            a, e = (int(place[0]) for place in wrong.nonzero())
            told = f"{table[a, e]} is no agent; there are 0 to {agents - 1}, and -1 is none"
            raise WorldError(f"{world}: agent {kind.agents[a]}: flow.{name} of entity {e}: {told}")


@dataclass(frozen=True)
class Tokens:
    """What the agents of one kind see; tensors alias the world's arrays until its next `step` or `reset`.

    Attributes:
        own: float32 [B, A, Fo].
        entities: float32 [B, A, E, Fe]; zero where the mask is False.
        entity_mask: bool [B, A, E].
        actions: float32 [B, A, N, Fa].
        action_mask: bool [B, A, N]; every row has at least one legal action.
        active: bool [B, A]; must decide now.
        alive: bool [B, A].
    """

    own: torch.Tensor
    entities: torch.Tensor
    entity_mask: torch.Tensor
    actions: torch.Tensor
    action_mask: torch.Tensor
    active: torch.Tensor
    alive: torch.Tensor


@dataclass(frozen=True)
class Observation:
    """The tokens of every kind at one moment of every world.

    Attributes:
        time_s: float64 [B], seconds since the start of the episode.
        kinds: Tokens by kind.
    """

    time_s: torch.Tensor
    kinds: Mapping[str, Tokens]


@dataclass(frozen=True)
class Transition:
    """What a step brought.

    Attributes:
        observation: The next observation; of an ended world, its last one.
        reward: float32 [B, A, R] by kind, accrued since the last step or, in the first one, since the episode began; in
            the order of `spec.reward_parts`.
        elapsed_s: float64 [B].
        terminated: bool [B, A] by kind.
        truncated: bool [B]; cut off by a limit, the last observation is there for bootstrapping.
    """

    observation: Observation
    reward: Mapping[str, torch.Tensor]
    elapsed_s: torch.Tensor
    terminated: Mapping[str, torch.Tensor]
    truncated: torch.Tensor


@dataclass(frozen=True)
class Snapshot:
    """Everything that a world needs to go on exactly; arrays by name, picklable."""

    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


class World(Protocol):
    """B copies of one problem, stepped together.

    A trajectory depends on (instance, seed, actions) alone: not on the batch size, the row or earlier resets.
    """

    spec: WorldSpec
    batch: int
    device: str

    def reset(
        self,
        instances: torch.Tensor,
        seeds: torch.Tensor,
        where: torch.Tensor | None = None,
        until_s: torch.Tensor | None = None,
    ) -> Observation:
        """Starts new episodes and runs them to the first decision of any agent, or to `until_s` [B].

        Args:
            instances: int64 [B], which problem.
            seeds: int64 [B], the randomness inside it; equal pairs are identical worlds.
            where: bool [B], the rows to reset; all by default.
            until_s: float64 [B], where the clock stops at the latest; never by default.

        Raises:
            WorldError: An unknown instance.
        """
        ...

    def step(self, actions: Mapping[str, torch.Tensor], until_s: torch.Tensor | None = None) -> Transition:
        """Applies the active agents' actions and runs to the next decision of any agent, or to `until_s` [B].

        Never resets. Actions are int64 [B, A] (a choice) or float32 [B, A, D] by kind; those of inactive agents
        must be the idle action, and those of ended worlds too.

        Raises:
            IllegalActionError: An action that the mask forbids.
        """
        ...

    def metrics(self) -> dict[str, torch.Tensor]:
        """The episodes so far, each float64 [B], by the names of `spec.metrics`."""
        ...

    def snapshot(self) -> Snapshot:
        """The exact state of all rows."""
        ...

    def restore(self, snapshot: Snapshot) -> Observation:
        """Continues from a snapshot of a world of the same spec and batch."""
        ...


@runtime_checkable
class Branching(World, Protocol):
    """A world whose rows can be tried out: copied into another batch and continued there in several ways."""

    def branch(self, source: Self, rows: torch.Tensor) -> Observation:
        """Makes row b an exact copy of `source`'s row `rows[b]`, int64 [B]: what follows depends on actions alone.

        Raises:
            WorldError: `source` has another problem, or another room for what is in it.
        """
        ...

    def lost(self) -> torch.Tensor:
        """What the episodes so far have cost on the whole, float64 [B], in the unit that the domain is judged by."""
        ...


class Controller(Protocol):
    """A classical scheduler: a baseline, or a teacher if it reads the observation alone.

    Attributes:
        name: For tables.
        reads: `state` where it decides from more than `act` gets; a policy cannot learn what it does not see.
    """

    name: str
    reads: Reads

    def reset(self, world: World) -> None:
        """Binds the controller to a world; it may read the static model and, where it says so, the true state."""
        ...

    def act(self, observation: Observation) -> dict[str, torch.Tensor]:
        """Actions by kind for every row; the idle action for inactive agents."""
        ...
