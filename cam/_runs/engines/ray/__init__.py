"""Carry out a plan on a Ray cluster."""
