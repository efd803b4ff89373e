"""Reduce the gradient by the pixels to one map an image."""
