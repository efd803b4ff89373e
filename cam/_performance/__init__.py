"""Measure how fast explanations are."""
