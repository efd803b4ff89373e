"""Share what methods need: registry, parameters, smoothing."""
