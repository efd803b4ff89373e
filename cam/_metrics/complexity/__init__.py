"""Measure how simple a heatmap is."""
