"""Learning together: Flower apps, server strategies, secure aggregation and the in-process grid.

Nothing here knows a world, a policy or a scenario. What joins is a `Participant` per site; what comes out of a round
is a `RoundResult`. Names are loaded when first used, so importing this package does not import Flower.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsched.federation.client import client_app
    from fedsched.federation.grid import LocalGrid
    from fedsched.federation.participant import (
        FederationError,
        Participant,
        SettingError,
        Update,
        UpdateRefusedError,
    )
    from fedsched.federation.rounds import Evaluation, Federation, RoundResult
    from fedsched.federation.secure import SecureAggregation
    from fedsched.federation.server import server_app
    from fedsched.federation.strategy import FedAvg, Strategy, make_strategy

# Flower reads these when it is imported: no telemetry, no update check, no packages installed behind the user's back.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "1")

__all__ = [
    "Federation",
    "RoundResult",
    "Evaluation",
    "Participant",
    "Update",
    "SecureAggregation",
    "Strategy",
    "FedAvg",
    "make_strategy",
    "FederationError",
    "SettingError",
    "UpdateRefusedError",
    "LocalGrid",
    "client_app",
    "server_app",
]

_MODULES = {
    "participant": ("FederationError", "Participant", "SettingError", "Update", "UpdateRefusedError"),
    "strategy": ("FedAvg", "Strategy", "make_strategy"),
    "secure": ("SecureAggregation",),
    "rounds": ("Evaluation", "Federation", "RoundResult"),
    "grid": ("LocalGrid",),
    "client": ("client_app",),
    "server": ("server_app",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
