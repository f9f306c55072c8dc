"""Counter-based random streams: a draw depends on (seed, purpose, keys) alone, never on earlier draws."""

import hashlib

import numpy as np


def stream(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """A Philox generator for one purpose.

    Args:
        seed: The run's or the world's seed.
        purpose: What the numbers are for, such as `window`; different purposes are independent.
        keys: Further whole numbers, such as instance, row, round.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC'11).
    """
    text = "/".join((purpose, str(int(seed)), *(str(int(key)) for key in keys)))
    digest = hashlib.blake2b(text.encode(), digest_size=16, person=b"fedsched-stream").digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
