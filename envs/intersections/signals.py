"""Signals without hand-written tables: green phases, changes between them, and movements."""

from dataclasses import dataclass

from fedsched.envs.intersections.network import IntersectionsError, Network, Signal, Turn

GREEN = "gG"
_YELLOW = "yY"


@dataclass(frozen=True)
class Movement:
    """All links of a signal from one edge to another.

    Attributes:
        source: Index of the edge it comes from.
        target: Index of the edge it leads to.
        turn: Of its first link.
        lanes: Indices of the lanes it leaves, rightmost first.
        links: Places in the signal's state, ascending.
        protected: Phases in which all its links show `G`.
        permissive: Other phases in which some link shows `g` or `G`.
    """

    source: int
    target: int
    turn: Turn
    lanes: tuple[int, ...]
    links: tuple[int, ...]
    protected: tuple[int, ...]
    permissive: tuple[int, ...]


@dataclass(frozen=True)
class SignalModel:
    """A controlled signal.

    Attributes:
        id: SUMO's id.
        index: Its place among the network's signals.
        phases: The states of its green phases.
        movements: What it controls.
        links: The entry links of each movement.
        targets: The lanes that these reach, each once.
    """

    id: str
    index: int
    phases: tuple[str, ...]
    movements: tuple[Movement, ...]
    links: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[int, ...], ...]


def is_green(state: str) -> bool:
    """Whether a phase of that state is a green one: no yellow, and at least one link with `g` or `G`."""
    return not set(state) & set(_YELLOW) and bool(set(state) & set(GREEN))


def green_phases(signal: Signal) -> tuple[int, ...]:
    """Indices of the phases an agent chooses from: no yellow, and at least one link with `g` or `G`.

    Raises:
        IntersectionsError: There is no such phase.
    """
    found = tuple(n for n, phase in enumerate(signal.phases) if is_green(phase.state))
    if not found:
        raise IntersectionsError(f"signal {signal.id!r} has no phase with a green link; add one to its program")
    return found


def transition(before: str, after: str) -> str:
    """The state between two phases: links that go from `g` or `G` to neither show `y`, all others keep their state.

    Where no link loses its green, that is `before` itself.

    Raises:
        IntersectionsError: The states are of different length.
    """
    if len(before) != len(after):
        raise IntersectionsError(f"phases of {len(before)} and {len(after)} links; give two of the same signal")
    return "".join("y" if a in GREEN and b not in GREEN else a for a, b in zip(before, after, strict=True))


def movements(network: Network, signal: Signal) -> tuple[Movement, ...]:
    """The movements that a signal controls, in the order of their first links."""
    links: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place, connections in enumerate(signal.connections):
        for index in connections:
            connection = network.connections[index]
            ends = network.lanes[connection.source].edge, network.lanes[connection.target].edge
            links.setdefault(ends, []).append((place, index))
    return tuple(_movement(network, signal, ends, found) for ends, found in links.items())


def _movement(network: Network, signal: Signal, ends: tuple[int, int], links: list[tuple[int, int]]) -> Movement:
    places = tuple(sorted({place for place, _ in links}))
    sources = sorted({network.connections[index].source for _, index in links})
    shown = [[phase.state[place] for place in places] for phase in signal.phases]
    protected = tuple(n for n, states in enumerate(shown) if set(states) == {"G"})
    some = tuple(n for n, states in enumerate(shown) if set(states) & set(GREEN) and n not in protected)
    return Movement(*ends, network.connections[links[0][1]].turn, tuple(sources), places, protected, some)
