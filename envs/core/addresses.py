"""Under which of its addresses an agent speaks to another: one for each of its neighbours, and one for whoever else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fedsched.envs.core.world import Flow, KindSpec

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ways:
    """`Flow` as columns of `WorldSpec.neighbours`; -1: none of the neighbours.

    Attributes:
        source: int64 [A, E], the neighbour that an entity comes from.
        target: int64 [A, E], the neighbour that it goes to.
    """

    source: Ints
    target: Ints


@dataclass(frozen=True)
class Addresses:
    """Who speaks to whom as what, over all A agents of all kinds.

    Address 0 is for all who have none of their own, address k + 1 for the neighbour in column k. Where nothing flows
    from agent to agent all have address 0: what is said is said to everybody.

    Attributes:
        neighbours: int64 [A, K], whom each agent hears; -1 pads.
        address: int64 [A, K], under which of the neighbour's addresses.
        count: L, addresses of an agent.
        listeners: int64 [A, L], how many hear each address of each agent.
        ways: By kind; empty where nothing flows.
    """

    neighbours: Ints
    address: Ints
    count: int
    listeners: Ints
    ways: dict[str, Ways]


def find_addresses(kinds: tuple[KindSpec, ...], neighbours: Ints) -> Addresses:
    """The addresses of a world's agents."""
    agents, width = neighbours.shape
    there, speaker = neighbours >= 0, neighbours.clip(0)
    address, count, ways = np.zeros_like(neighbours), 1, {}
    if any(kind.flow is not None for kind in kinds):
        count = width + 1
        back = neighbours[speaker] == np.arange(agents)[:, None, None]  # [A, K, K]
        if width:
            address = np.where(back.any(2) & there, 1 + back.argmax(2), 0)
        ways = _ways(kinds, neighbours)
    listeners = np.bincount((speaker * count + address)[there], minlength=agents * count)
    return Addresses(neighbours, address, count, listeners.reshape(agents, count), ways)


def _ways(kinds: tuple[KindSpec, ...], neighbours: Ints) -> dict[str, Ways]:
    ways, first = {}, 0
    for kind in kinds:
        nearby = neighbours[first : first + len(kind.agents)]
        flow = kind.flow
        nothing = np.full((len(kind.agents), kind.entities), -1, dtype=np.int64)
        ways[kind.name] = Ways(nothing, nothing) if flow is None else _columns(flow, nearby)
        first += len(kind.agents)
    return ways


def _columns(flow: Flow, nearby: Ints) -> Ways:
    def column(agent: Ints) -> Ints:
        same = (agent[:, :, None] == nearby[:, None, :]) & (agent >= 0)[:, :, None]  # [A, E, K]
        if not nearby.shape[1]:
            return np.full_like(agent, -1)
        return np.where(same.any(2), same.argmax(2), -1).astype(np.int64)

    return Ways(column(flow.source), column(flow.target))
