"""Explain a clip, frame by frame."""
