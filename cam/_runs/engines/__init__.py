"""Carry out a plan on one machine or on Ray."""
