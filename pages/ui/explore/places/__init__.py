"""Explore models that answer in places: boxes of detectors, segments."""
