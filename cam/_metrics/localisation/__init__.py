"""Measure whether a heatmap lies on the object."""
