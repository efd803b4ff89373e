"""Tell a difference from noise: intervals, tests, ranks over groups."""
