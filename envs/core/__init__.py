"""What all domains share: the batch contract, observations as tokens, exchange records, random streams."""

from fedsched.envs.core.addresses import Addresses, Ways
from fedsched.envs.core.exchange import Cargo, Delivery, Exchange, Lot
from fedsched.envs.core.sites import agents_of, on_device, part_of, put_together, tokens_of
from fedsched.envs.core.streams import stream
from fedsched.envs.core.world import (
    Branching,
    Controller,
    Flow,
    IllegalActionError,
    KindSpec,
    Lists,
    Observation,
    Reads,
    Snapshot,
    Tokens,
    Transition,
    World,
    WorldError,
    WorldSpec,
)

__all__ = [
    "Addresses",
    "Branching",
    "Cargo",
    "Controller",
    "Delivery",
    "Exchange",
    "Flow",
    "IllegalActionError",
    "KindSpec",
    "Lists",
    "Lot",
    "Observation",
    "Reads",
    "Snapshot",
    "Tokens",
    "Transition",
    "Ways",
    "World",
    "WorldError",
    "WorldSpec",
    "agents_of",
    "on_device",
    "part_of",
    "put_together",
    "stream",
    "tokens_of",
]
