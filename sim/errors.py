"""What a user can mend: every error of this kind ends a command with exit code 2 and without a traceback."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedsched.sim.scenario.marks import Finding


class UserError(Exception):
    """The input is wrong; the message says what, where, and what to do."""


class WorldSetupError(UserError):
    """Worlds of a scenario that cannot be built; the messages are those of the domain.

    Attributes:
        found: What is wrong, each with its place in the scenario.
    """

    def __init__(self, found: "Sequence[Finding]") -> None:
        self.found = tuple(found)
        super().__init__("\n".join(f"{'.'.join(map(str, one.place))}: {one.message}" for one in found))
