"""Measure whether a heatmap depends on learned parameters."""
