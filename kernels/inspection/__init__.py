"""Compile the kernels for GPUs this machine does not have."""
