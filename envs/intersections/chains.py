"""Chains: the signals along one road, one after another, that a plan can coordinate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fedsched.envs.intersections.network import Turn
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.stretches import Stretch

Ways = Mapping[tuple[int, int], Stretch]
"""The fastest way from one signal to the next, by these two."""


@dataclass(frozen=True)
class Direction:
    """One direction of a chain, in the order of the chain's signals.

    Attributes:
        movement: The movement of each signal that drives on along the chain; -1: none does.
        due_s: When those who pass the direction's first signal at second 0 come to each signal, at the speed limits.
        whole: Whether there is a way from every signal to the next.
    """

    movement: tuple[int, ...]
    due_s: tuple[float, ...]
    whole: bool


@dataclass(frozen=True)
class Chain:
    """Signals along a road; a signal on no such road is a chain by itself.

    Attributes:
        signals: Indices of the agents, one after another.
        along: From the first to the last.
        against: From the last to the first.
    """

    signals: tuple[int, ...]
    along: Direction
    against: Direction


ALONE = Chain((0,), Direction((-1,), (0.0,), whole=True), Direction((-1,), (0.0,), whole=True))
"""The first signal by itself."""


def find_chains(problem: Problem, site: Sequence[int] | None = None) -> tuple[Chain, ...]:
    """Every signal in one chain: neighbours are joined along the widest roads first, where these lead straight on.

    Args:
        problem: Streets and signals.
        site: Owner of every signal: chains do not cross from one to another; None where one owns all.
    """
    ways = {(way.source, way.target): way for way in problem.between}
    pairs = {(min(pair), max(pair)) for pair in ways}
    if site is not None:
        pairs = {(a, b) for a, b in pairs if site[a] == site[b]}
    chains = [[a] for a in range(len(problem.signals))]
    of = dict(enumerate(chains))
    for a, b in sorted(pairs, key=lambda pair: (*_rank(ways, pair), pair)):
        one, other = of[a], of[b]
        if one is other or a not in (one[0], one[-1]) or b not in (other[0], other[-1]):
            continue
        joined = [*(one if one[-1] == a else one[::-1]), *(other if other[0] == b else other[::-1])]
        at = joined.index(a)
        if all(_straight(problem, ways, joined[k - 1 : k + 2]) for k in (at, at + 1) if 0 < k < len(joined) - 1):
            of.update(dict.fromkeys(joined, joined))
    found = {min(chain): chain if chain[0] <= chain[-1] else chain[::-1] for chain in of.values()}
    return tuple(_chain(problem, ways, found[first]) for first in sorted(found))


def _rank(ways: Ways, pair: tuple[int, int]) -> tuple[int, float]:
    """Wide roads first, then short ones."""
    both = [ways[ends] for ends in (pair, pair[::-1]) if ends in ways]
    return -max(way.lanes for way in both), min(way.time_s for way in both)


def _straight(problem: Problem, ways: Ways, three: Sequence[int]) -> bool:
    """Whether the road from the first to the last of three signals goes straight on at the middle one."""
    for one, middle, other in (three, three[::-1]):
        e = _movement(problem, ways.get((one, middle)), ways.get((middle, other)), middle)
        if e >= 0 and (one, middle) in ways and (middle, other) in ways:
            return problem.signals[middle].movements[e].turn == Turn.STRAIGHT
    return False


def _movement(problem: Problem, before: Stretch | None, behind: Stretch | None, a: int) -> int:
    """The movement of a signal from one way to another, the straight one where only one of them is there; -1: none."""
    moves = problem.signals[a].movements
    fits = [
        e
        for e, move in enumerate(moves)
        if (before is None or move.source == before.last) and (behind is None or move.target == behind.first)
    ]
    if not fits or (before is None and behind is None):
        return -1
    return min(fits, key=lambda e: (moves[e].turn != Turn.STRAIGHT, e))


def _chain(problem: Problem, ways: Ways, chain: Sequence[int]) -> Chain:
    back = _direction(problem, ways, chain[::-1])
    against = Direction(back.movement[::-1], back.due_s[::-1], back.whole)
    return Chain(tuple(chain), _direction(problem, ways, chain), against)


def _direction(problem: Problem, ways: Ways, chain: Sequence[int]) -> Direction:
    between = [ways.get(pair) for pair in pairwise(chain)]
    movement = [
        _movement(problem, before, behind, a)
        for a, before, behind in zip(chain, [None, *between], [*between, None], strict=True)
    ]
    due_s = [0.0]
    for way in between:
        due_s.append(due_s[-1] + (0.0 if way is None else way.time_s))
    return Direction(tuple(movement), tuple(due_s), None not in between)
