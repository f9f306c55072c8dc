"""Warp kernels of the data-centre world: one thread per world, the same source on CPU and CUDA."""
