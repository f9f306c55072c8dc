"""Random integers that depend on a seed and a purpose alone; equal on every platform and in every process."""

from hashlib import blake2b


class Draws:
    """A stream of integers: BLAKE2b of seed, purpose and a counter.

    Args:
        seed: Any integers that name the occasion.
        purpose: What the numbers are for; streams of different purposes do not shift one another.
    """

    def __init__(self, seed: tuple[int, ...], purpose: str) -> None:
        self._prefix = repr((seed, purpose)).encode()
        self._count = 0

    def below(self, bound: int) -> int:
        """The next integer in 0..bound-1, uniform up to bound / 2**64."""
        self._count += 1
        word = blake2b(b"%s/%d" % (self._prefix, self._count), digest_size=8).digest()
        return int.from_bytes(word, "big") % bound
