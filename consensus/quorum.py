"""Sizes of Byzantine quorums for any number of replicas, not only for n = 3f + 1.

Two quorums of (n + f) // 2 + 1 share at least f + 1 replicas, hence an honest one. The usual 2f + 1 does so only for
n = 3f + 1: at n = 5 and n = 6 it forks.
"""

SMALLEST = 4


def tolerated(n: int) -> int:
    """How many of `n` replicas may be faulty: f = (n - 1) // 3."""
    return (n - 1) // 3


def quorum(n: int) -> int:
    """How many replicas of `n` must say the same: (n + f) // 2 + 1."""
    return (n + tolerated(n)) // 2 + 1


def weak_quorum(n: int) -> int:
    """How many replicas of `n` hold at least one honest one among them: f + 1."""
    return tolerated(n) + 1
