"""Random numbers of the streets: a number depends on (seed, purpose, vehicle, second) alone.

The mixing function is the 32-bit integer hash `lowbias32` of Wellons (Prospecting for hash functions, 2018).
"""

import math

DAWDLE, FACTOR, PLACE = 1, 2, 3
"""What a number is for."""
_MASK = 0xFFFFFFFF


def _mix(x: int) -> int:
    x ^= x >> 16
    x = x * 0x7FEB352D & _MASK
    x ^= x >> 15
    x = x * 0x846CA68B & _MASK
    return x ^ x >> 16


def uniform(seed: int, purpose: int, vehicle: int, step: int) -> float:
    """Uniform in [0, 1), with 24 bits."""
    x = _mix((seed & _MASK) ^ purpose * 0x9E3779B9 & _MASK)
    x = _mix((x + vehicle * 0x85EBCA6B) & _MASK)
    x = _mix((x + step * 0xC2B2AE35) & _MASK)
    return (x >> 8) * (1.0 / (1 << 24))


def speed_factor(seed: int, vehicle: int, mean: float, deviation: float, low: float, high: float) -> float:
    """A driver's factor on speed limits: normal, drawn again until it lies within the bounds."""
    if deviation <= 0:
        return mean
    for draw in range(64):
        u, v = uniform(seed, FACTOR, vehicle, 2 * draw), uniform(seed, FACTOR, vehicle, 2 * draw + 1)
        factor = mean + deviation * math.sqrt(-2 * math.log(1 - u)) * math.cos(2 * math.pi * v)
        if low <= factor <= high:
            return factor
    return min(max(mean, low), high)
