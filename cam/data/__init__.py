"""Data sets to compare methods on: what is in the pictures, in a fixed order, with its truth."""
