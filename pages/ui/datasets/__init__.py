"""Draw the parts of the page Datasets."""
