"""Random numbers; see `reference.draws`."""

import warp as wp

from fedsched.envs.intersections.kernels.state import real

DAWDLE, FACTOR, PLACE = wp.constant(wp.uint32(1)), wp.constant(wp.uint32(2)), wp.constant(wp.uint32(3))
MIX_A, MIX_B = wp.constant(wp.uint32(0x7FEB352D)), wp.constant(wp.uint32(0x846CA68B))
KEY_PURPOSE = wp.constant(wp.uint32(0x9E3779B9))
KEY_VEHICLE, KEY_STEP = wp.constant(wp.uint32(0x85EBCA6B)), wp.constant(wp.uint32(0xC2B2AE35))
TWO_PI = wp.constant(real(6.283185307179586))


@wp.func
def mix(x: wp.uint32) -> wp.uint32:
    x = x ^ (x >> wp.uint32(16))
    x = x * MIX_A
    x = x ^ (x >> wp.uint32(15))
    x = x * MIX_B
    return x ^ (x >> wp.uint32(16))


@wp.func
def uniform(seed: int, purpose: wp.uint32, vehicle: int, step: int) -> real:
    x = mix(wp.uint32(seed) ^ (purpose * KEY_PURPOSE))
    x = mix(x + wp.uint32(vehicle) * KEY_VEHICLE)
    x = mix(x + wp.uint32(step) * KEY_STEP)
    return real(x >> wp.uint32(8)) * real(1.0 / 16777216.0)


@wp.func
def speed_factor(seed: int, vehicle: int, mean: real, deviation: real, low: real, high: real) -> real:
    if deviation <= real(0.0):
        return mean
    for draw in range(64):
        u = uniform(seed, FACTOR, vehicle, 2 * draw)
        v = uniform(seed, FACTOR, vehicle, 2 * draw + 1)
        factor = mean + deviation * wp.sqrt(real(-2.0) * wp.log(real(1.0) - u)) * wp.cos(TWO_PI * v)
        if factor >= low and factor <= high:
            return factor
    return wp.min(wp.max(mean, low), high)
