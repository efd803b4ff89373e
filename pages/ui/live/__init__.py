"""Explain a clip or the camera live, in the browser."""
