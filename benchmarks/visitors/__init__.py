"""Measure the dashboard under the load of many visitors."""
