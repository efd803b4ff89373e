"""Accumulate mean and variance of samples."""
