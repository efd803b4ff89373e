"""Draw the parts of the pages."""
