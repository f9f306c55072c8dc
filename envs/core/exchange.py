"""What one site can trade with another, in plain integers; each domain states and carries out its own lots."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from fedsched.envs.core.world import World


@dataclass(frozen=True, order=True)
class Lot:
    """A quantity that a site offers or asks for in one epoch.

    Attributes:
        side: `offer` (free capacity) or `ask` (work to be taken over).
        resource: What is traded, such as `processor-hours`.
        quantity: Whole units of the resource; the domain names the unit.
        unit_value: Milli-units of the scenario's currency per unit: the least an offer takes, the most an ask gives.
        window: Start and end of the epoch, whole seconds on the common clock.
        limits: Named integer bounds, sorted by name: what an offer accepts at most, what an ask needs at least.
    """

    side: Literal["offer", "ask"]
    resource: str
    quantity: int
    unit_value: int
    window: tuple[int, int]
    limits: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, order=True)
class Delivery:
    """One settled exchange as one of its two sides carries it out.

    Attributes:
        side: `give` (hand work to the peer) or `take` (accept it).
        resource: As in the lot.
        quantity: Whole units at most.
        window: Start and end of the epoch, whole seconds.
        peer: The other site.
        limits: Bounds that hold for every piece of work handed over.
        bandwidth_bps: Bits per second of the link to the peer.
        latency_s: One-way latency of the link in seconds.
    """

    side: Literal["give", "take"]
    resource: str
    quantity: int
    window: tuple[int, int]
    peer: str
    limits: tuple[tuple[str, int], ...] = ()
    bandwidth_bps: float = float("inf")
    latency_s: float = 0.0


Cargo = TypeVar("Cargo")


class Exchange(Protocol[Cargo]):
    """What a domain implements so that its worlds can trade; `Cargo` is what physically moves, such as jobs."""

    def lots(self, world: World, row: int, window: tuple[int, int]) -> list[Lot]:
        """What row `row` offers and asks for in the coming epoch."""
        ...

    def give(self, world: World, row: int, deliveries: list[Delivery]) -> dict[str, Cargo]:
        """Takes the work that the deliveries cover out of the row; by peer."""
        ...

    def take(self, world: World, row: int, home: str, cargo: Cargo) -> None:
        """Puts work that came from `home` into the row."""
        ...
