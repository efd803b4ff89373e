"""Share models, results and background work between all visitors."""
