"""Measure whether the model needs what a heatmap shows."""
