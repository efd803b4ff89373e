"""Upsample, colour and blend heatmaps over images."""
