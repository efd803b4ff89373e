"""Attribute by gradients with respect to the pixels."""
