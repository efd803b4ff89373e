"""Plan and compute attributions, and take them apart."""
