"""One site's part of a shared world: its own agents, as if there were no others."""

from __future__ import annotations  # torch is named only, as in `world`

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from fedsched.envs.core.world import Flow, KindSpec, Observation, Tokens, WorldError, WorldSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch


def part_of(spec: WorldSpec, site: int) -> WorldSpec:
    """The spec of a site's own agents; neighbours and flows from or to others' agents are none.

    Raises:
        WorldError: A world that is not shared, or a site without an agent.
    """
    if spec.site is None or not (spec.site == site).any():
        raise WorldError(f"{spec.name}: site {site} has no agent here; the world's sites are {_sites(spec)}")
    own = spec.site == site
    number = np.append(np.where(own, np.cumsum(own) - 1, -1), -1)  # the last place: none stays none
    kinds, first = [], 0
    for kind in spec.kinds:
        kinds.append(_kind_part(kind, own[first : first + len(kind.agents)], number))
        first += len(kind.agents)
    return replace(spec, kinds=tuple(kinds), neighbours=number[spec.neighbours[own]], site=None)


def tokens_of(spec: WorldSpec, observation: Observation, site: int) -> Observation:
    """What a site's own agents see, copied out of the observation of a shared world."""
    parts = {}
    for name, rows in agents_of(spec, site).items():
        tokens = observation.kinds[name]
        own = {field.name: getattr(tokens, field.name)[:, rows] for field in fields(Tokens)}
        parts[name] = Tokens(**own)
    return replace(observation, kinds=parts)


def on_device(observation: Observation, device: str) -> Observation:
    """The observation where a site computes; as it is where it is there already."""
    parts = {
        name: Tokens(**{field.name: getattr(tokens, field.name).to(device) for field in fields(Tokens)})
        for name, tokens in observation.kinds.items()
    }
    return Observation(observation.time_s.to(device), parts)


def agents_of(spec: WorldSpec, site: int) -> dict[str, npt.NDArray[np.int64]]:
    """Which agents of each kind are a site's, as places on axis A."""
    assert spec.site is not None, "the world is shared"
    found, first = {}, 0
    for kind in spec.kinds:
        found[kind.name] = np.flatnonzero(spec.site[first : first + len(kind.agents)] == site)
        first += len(kind.agents)
    return found


def put_together(
    spec: WorldSpec, parts: dict[int, dict[str, torch.Tensor]], idle: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The actions of all agents by kind, from those of each site; idle where no site speaks for an agent."""
    found = {name: values.clone() for name, values in idle.items()}
    for site, actions in parts.items():
        for name, rows in agents_of(spec, site).items():
            found[name][:, rows] = actions[name].to(found[name].device)
    return found


def _sites(spec: WorldSpec) -> str:
    return "not given" if spec.site is None else ", ".join(map(str, sorted(set(spec.site.tolist()))))


def _kind_part(kind: KindSpec, own: npt.NDArray[np.bool_], number: npt.NDArray[np.int64]) -> KindSpec:
    return replace(
        kind,
        agents=tuple(agent for agent, kept in zip(kind.agents, own.tolist(), strict=True) if kept),
        relation=kind.relation if isinstance(kind.relation, str) else kind.relation[own],
        links=None if kind.links is None else kind.links[own],
        flow=None if kind.flow is None else Flow(number[kind.flow.source[own]], number[kind.flow.target[own]]),
    )
