"""Draw the parts of the page Compare."""
