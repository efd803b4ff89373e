"""Describe what a run will do."""
