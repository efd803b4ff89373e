"""Define what targets share, and those of detectors."""
