"""Measure how stable a heatmap is."""
