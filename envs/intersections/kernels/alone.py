"""Streets without anybody who decides: for tests, in a module of their own since each kernel compiles all of it."""

import warp as wp

from fedsched.envs.intersections.kernels.second import first_half, second_half
from fedsched.envs.intersections.kernels.state import RoadArrays, TrafficArrays


@wp.kernel
def run_seconds(r: RoadArrays, t: TrafficArrays, seconds: wp.array1d[wp.int32]):
    """Runs every world by its number of seconds."""
    b = wp.tid()
    for _ in range(seconds[b]):
        first_half(r, t, b)
        second_half(r, t, b)
