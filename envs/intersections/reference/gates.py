"""Limits on who drives from one district into another, and the signals that keep them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedsched.envs.intersections.reference.state import Street


@dataclass
class Gate:
    """One gate.

    Attributes:
        links: Entry links that lead through it.
        guards: Those of them that a signal rules.
        passed: Vehicles that have crossed.
        left: Vehicles that may still cross, None without a limit.
        end: s, when the limit ends.
        yellow_until: By guard, s; empty while the gate is open.
    """

    links: frozenset[int]
    guards: tuple[int, ...]
    passed: int = 0
    left: int | None = None
    end: int = 0
    yellow_until: dict[int, int] = field(default_factory=dict)


class Gates:
    """All gates of a world.

    Attributes:
        all: The gates.
    """

    def __init__(self, ways: Sequence[tuple[Sequence[int], Sequence[int]]], yellow_s: int) -> None:
        """Args: links and guards of each gate; length of the yellow before red, s."""
        self.all = [Gate(frozenset(links), tuple(guards)) for links, guards in ways]
        self._yellow_s = yellow_s

    def limit(self, number: int, vehicles: int, end: int) -> None:
        """Lets so many vehicles cross from now to second `end`."""
        self.all[number].left, self.all[number].end = vehicles, end

    def count(self, link: int) -> None:
        """Notes a vehicle that passes a link."""
        for gate in self.all:
            if link in gate.links:
                gate.passed += 1
                gate.left = None if gate.left is None else gate.left - 1

    def close(self, street: Street, now: int) -> None:
        """Before the signals switch: closes what is used up, opens what is not."""
        for gate in self.all:
            if gate.left is None or gate.left > 0 or now >= gate.end:
                gate.yellow_until = {}
            elif not gate.yellow_until:
                gate.yellow_until = {
                    link: now + self._yellow_s * (street.link_state[link] not in "rs") for link in gate.guards
                }

    def hold(self, street: Street, now: int) -> None:
        """After they have switched: yellow and then red at closed gates."""
        for gate in self.all:
            for link, until in gate.yellow_until.items():
                passable = street.link_state[link] not in "rs" and now < until
                street.link_state[link] = "y" if passable else "r"
