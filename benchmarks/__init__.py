"""Measure speed beside plain inference and peers, in one process."""
