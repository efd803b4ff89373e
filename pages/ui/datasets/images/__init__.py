"""Show the images of a run in several ways."""
