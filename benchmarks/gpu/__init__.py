"""``make gpu-check``: the kernels tested and timed on a GPU, each figure against its goal."""
