"""The street dynamics as Warp kernels: one thread runs one world; the rules are those of `reference`."""
