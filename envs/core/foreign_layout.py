"""From a PettingZoo environment to kinds of agents and the spec of its world."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pettingzoo

from fedsched.envs.core.foreign_spaces import KindLayout, Space, action_codec, observation_codec
from fedsched.envs.core.world import KindSpec, WorldError, WorldSpec

REWARD = "reward"
"""The only part of a foreign reward."""
METRICS = ("return", "worst_return", "length")
"""Sum over the episode of the rewards averaged over agents; that of the agent who got least; steps."""


class ForeignError(WorldError):
    """A foreign environment that does what it must not; the message names it, and where known world, agent and step."""


class NeighbourError(ForeignError):
    """A list of neighbours that names somebody who is not there."""


def check_parallel(env: object, name: str) -> None:
    """Raises ForeignError unless something has the methods of a `ParallelEnv` and agents."""
    if isinstance(env, pettingzoo.AECEnv):
        raise ForeignError(
            f"{name}: agents take turns (AECEnv); give its 'parallel_env', or wrap it in "
            "pettingzoo.utils.conversions.aec_to_parallel"
        )
    if isinstance(env, gymnasium.Env):
        raise ForeignError(f"{name}: a gymnasium environment has one agent; give a PettingZoo ParallelEnv")
    needed = ("possible_agents", "reset", "step", "observation_space", "action_space")
    if missing := [attribute for attribute in needed if not hasattr(env, attribute)]:
        raise ForeignError(f"{name}: {type(env).__name__} is no ParallelEnv, it lacks {', '.join(missing)}")


def name_of(env: pettingzoo.ParallelEnv) -> str:
    """What an environment calls itself."""
    return str((getattr(env, "metadata", None) or {}).get("name") or type(env).__name__)


def kinds_of(env: pettingzoo.ParallelEnv, numbered: bool | None) -> tuple[KindLayout, ...]:
    """Kinds of agents: those with equal spaces are one.

    A kind is called as its agents are without their numbers where they agree (`adversary_0`, `adversary_1`), else
    `agent`.

    Args:
        env: Checked by `check_parallel`.
        numbered: Whether `own` ends with the agent's number, one-hot; None: where a kind has several agents.

    Raises:
        ForeignError: No agents.
        SpaceError: A space that cannot be used.
    """
    groups: list[tuple[Space, Space, list[Any]]] = []
    for agent in env.possible_agents:
        seen, acts = env.observation_space(agent), env.action_space(agent)
        for observation, action, members in groups:
            if observation == seen and action == acts:
                members.append(agent)
                break
        else:
            groups.append((seen, acts, [agent]))
    if not groups:
        raise ForeignError(f"{name_of(env)}: has no agents; 'possible_agents' must name at least one")
    names = _kind_names([[str(agent) for agent in members] for _, _, members in groups])
    return tuple(
        _kind(name, members, seen, acts, len(members) > 1 if numbered is None else numbered)
        for name, (seen, acts, members) in zip(names, groups, strict=True)
    )


def _kind_names(groups: Sequence[Sequence[str]]) -> list[str]:
    names: list[str] = []
    for members in groups:
        stems = {re.sub(r"[^A-Za-z0-9]+", "_", re.sub(r"[\W_]*\d*$", "", member)) for member in members}
        stem = stems.pop() if len(stems) == 1 else "agent"
        stem = stem or "agent"
        taken = sum(name == stem or name.startswith(f"{stem}_kind") for name in names)
        names.append(f"{stem}_kind{taken + 1}" if taken else stem)
    return names


def _kind(name: str, agents: Sequence[Any], seen: Space, acts: Space, numbered: bool) -> KindLayout:
    observation, action = observation_codec(str(agents[0]), seen), action_codec(str(agents[0]), acts)
    features = [f"observation_{n}" for n in range(observation.size)]
    bounds = None
    if action.space is not None:
        low, high = (np.asarray(side, np.float32).reshape(-1) for side in (action.space.low, action.space.high))
        bounds = (low, high)
    spec = KindSpec(
        name=name,
        agents=tuple(str(agent) for agent in agents),
        own=(*features, *(f"is_{agent}" for agent in agents)) if numbered else tuple(features),
        action=action.features,
        actions=len(action.choices),
        bounds=bounds,
    )
    return KindLayout(spec, tuple(agents), observation, action, numbered)


def spec_of(name: str, kinds: Sequence[KindLayout], neighbours: Mapping[str, Sequence[str]] | None = None) -> WorldSpec:
    """The spec of a foreign world.

    Args:
        name: Of the environment.
        kinds: Its kinds.
        neighbours: Who may message whom, by names of agents; None: everybody everybody.

    Raises:
        NeighbourError: A neighbour, or somebody who has some, that does not exist.
    """
    agents = [agent for kind in kinds for agent in kind.spec.agents]
    table = _table(name, agents, neighbours)
    return WorldSpec(name, tuple(kind.spec for kind in kinds), table, (REWARD,), METRICS, exact=False)


def _table(name: str, agents: Sequence[str], neighbours: Mapping[str, Sequence[str]] | None) -> npt.NDArray[np.int64]:
    if neighbours is None:
        neighbours = {agent: [other for other in agents if other != agent] for agent in agents}
    place = {agent: a for a, agent in enumerate(agents)}
    for agent, others in neighbours.items():
        for named in (agent, *others):
            if named not in place:
                raise NeighbourError(
                    f"{name}: neighbours of {agent}: no agent {named!r}; there are {', '.join(agents)}"
                )
    width = max([1, *map(len, neighbours.values())])
    table = np.full((len(agents), width), -1, dtype=np.int64)
    for agent, others in neighbours.items():
        table[place[agent], : len(others)] = [place[other] for other in others]
    return table
