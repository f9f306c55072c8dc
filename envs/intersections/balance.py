"""Districts of equal size: connected, balanced by signals or by traffic, with little traffic across their borders."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedsched.envs.core import stream
from fedsched.envs.intersections.districts import Districts, make_districts
from fedsched.envs.intersections.groups import Groups, edge_flows
from fedsched.envs.intersections.network import IntersectionsError
from fedsched.envs.intersections.problem import Problem
from fedsched.envs.intersections.programs import movement_flows

STARTS = 16
"""Divisions that are tried; the best one counts."""


@dataclass(frozen=True)
class Graph:
    """What is divided.

    Attributes:
        near: The groups of signals next to each.
        weight: Of each group.
        crossing: Vehicles that drive from one group to another, by ordered pair with the lower first.
    """

    near: Sequence[Sequence[int]]
    weight: Sequence[float]
    crossing: Counter[tuple[int, int]]

    def score(self, label: Sequence[int], parts: int) -> tuple[float, int]:
        """Sum of squared sizes, then vehicles across borders; less is better."""
        sizes = np.zeros(parts)
        np.add.at(sizes, list(label), self.weight)
        across = sum(n for (one, other), n in self.crossing.items() if label[one] != label[other])
        return float((sizes**2).sum()), across


def balanced(problem: Problem, parts: int, seed: int = 0, by: Literal["signals", "traffic"] = "signals") -> Districts:
    """Connected districts `d1` to `d<parts>` with about equally many controlled signals, or vehicles over these.

    From several random starts, districts grow by the lightest one taking the next group of signals (edges follow, see
    `districts`); then single groups change sides as long as sizes get more equal, or as equal with less traffic across.

    Args:
        problem: The whole network with its demands.
        parts: Number of districts.
        seed: Of the starts; equal ones give equal districts.
        by: What is balanced; traffic is that of all demands.

    Raises:
        IntersectionsError: Fewer groups of controlled signals than parts, or a network in more pieces than parts.
    """
    group = Groups(problem)
    seats = [n for n in range(group.count) if group.controlled(n)]
    if not 1 <= parts <= len(seats):
        raise IntersectionsError(
            f"{parts} districts of {len(seats)} groups of controlled signals; ask for 1 to {len(seats)}"
        )
    graph = Graph(group.near, _weights(problem, group, by), _crossing(problem, group))
    rng = stream(seed, "intersections/districts")
    best: tuple[tuple[float, int], list[int]] | None = None
    for _ in range(STARTS):
        label = _refined(graph, _grown(graph, seats, parts, rng), seats, parts)
        scored = graph.score(label, parts), label
        best = scored if best is None else min(best, scored)
    assert best is not None
    order = {old: n for n, old in enumerate(dict.fromkeys(best[1]))}
    label_of = np.array([order[old] for old in best[1]], dtype=np.int32)
    return make_districts(problem, group, tuple(f"d{n + 1}" for n in range(parts)), label_of)


def _weights(problem: Problem, group: Groups, by: str) -> list[float]:
    if by == "signals":
        return [float(group.controlled(n)) for n in range(group.count)]
    weights = [0.0] * group.count
    for instance in range(len(problem.demands)):
        for signal, flows in zip(problem.signals, movement_flows(problem, instance), strict=True):
            weights[group.of_signal[signal.index]] += sum(flows)
    return weights


def _crossing(problem: Problem, group: Groups) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for (source, target), number in edge_flows(problem).items():
        one, other = int(group.edge[source]), int(group.edge[target])
        if one != other:
            found[min(one, other), max(one, other)] += number
    return found


def _grown(graph: Graph, seats: Sequence[int], parts: int, rng: np.random.Generator) -> list[int]:
    """Districts around starts that are far apart."""
    starts = [int(rng.choice(seats))]
    steps = [_steps(graph, starts[0])]
    while len(starts) < parts:
        least = {n: min(own.get(n, len(graph.near) + 1) for own in steps) for n in seats if n not in starts}
        far = [n for n, value in least.items() if value == max(least.values())]
        starts.append(int(rng.choice(far)))
        steps.append(_steps(graph, starts[-1]))
    if any(all(n not in own for own in steps) for n in range(len(graph.near))):
        raise IntersectionsError(f"the network is in more than {parts} pieces; ask for more districts")
    label = [-1] * len(graph.near)
    for number, start in enumerate(starts):
        label[start] = number
    while -1 in label:
        sizes = [sum(w for w, own in zip(graph.weight, label, strict=True) if own == k) for k in range(parts)]
        for number in sorted(range(parts), key=lambda k: (sizes[k], k)):
            edge = {b for a, own in enumerate(label) if own == number for b in graph.near[a] if label[b] < 0}
            if edge:
                label[min(edge, key=lambda n: (steps[number][n], n))] = number
                break
    return label


def _steps(graph: Graph, start: int) -> dict[int, int]:
    """Roads between groups from a start."""
    found, queue = {start: 0}, [start]
    for node in queue:
        for other in graph.near[node]:
            if other not in found:
                found[other] = found[node] + 1
                queue.append(other)
    return found


def _refined(graph: Graph, label: list[int], seats: Sequence[int], parts: int) -> list[int]:
    """Moves the group whose change of side gains most, until none gains."""
    now = graph.score(label, parts)
    while True:
        best = (now, label)
        for node, own in enumerate(label):
            for other in sorted({label[n] for n in graph.near[node]} - {own}):
                moved = [*label[:node], other, *label[node + 1 :]]
                scored = graph.score(moved, parts)
                if scored < best[0] and _whole(graph, moved, own, seats):
                    best = (scored, moved)
        if best[0] >= now:
            return label
        now, label = best


def _whole(graph: Graph, label: Sequence[int], district: int, seats: Sequence[int]) -> bool:
    """Whether a district that lost a group still hangs together and has a controlled signal."""
    own = {n for n, value in enumerate(label) if value == district}
    if not own & set(seats):
        return False
    start = min(own)
    found, queue = {start}, [start]
    for node in queue:
        fresh = [n for n in graph.near[node] if n in own and n not in found]
        found.update(fresh)
        queue += fresh
    return found == own
