"""Draw the parts of the page Explore."""
