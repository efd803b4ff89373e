"""Test and time the kernels on a GPU: ``make gpu-check``."""
