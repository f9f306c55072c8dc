"""The street dynamics once more, slow and clear: what the kernels are tested against.

One `Simulation` is one world. A second passes in the order of SUMO: signals switch, every vehicle plans from the state
of the second before, every vehicle decides and moves, lanes are changed, waiting vehicles are inserted.
"""

from fedsched.envs.intersections.reference.simulation import Simulation

__all__ = ["Simulation"]
