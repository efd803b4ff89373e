"""Read data sets in a fixed order, with their annotations."""
