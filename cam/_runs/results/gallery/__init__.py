"""Sort, place and count the images of a run."""
