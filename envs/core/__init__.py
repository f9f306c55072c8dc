"""What all domains share: the batch contract, observations as tokens, exchange records, random streams."""

from .exchange import Cargo, Delivery, Exchange, Lot
from .streams import stream
from .world import (
    Controller,
    IllegalActionError,
    KindSpec,
    Observation,
    Snapshot,
    Tokens,
    Transition,
    World,
    WorldError,
    WorldSpec,
)

__all__ = [
    "Cargo",
    "Controller",
    "Delivery",
    "Exchange",
    "IllegalActionError",
    "KindSpec",
    "Lot",
    "Observation",
    "Snapshot",
    "Tokens",
    "Transition",
    "World",
    "WorldError",
    "WorldSpec",
    "stream",
]
