"""Draw the parts of the page Performance."""
