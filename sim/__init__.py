"""fedsched.sim: scenarios, runs and what is left of them; for own code `load_policy(RUN)`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsched.sim.trained import load_policy

__all__ = ["load_policy"]


def __getattr__(name: str) -> object:
    if name == "load_policy":  # not above: the command line starts without torch
        from fedsched.sim.trained import load_policy

        return load_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
