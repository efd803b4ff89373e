"""Show an image and two maps in full screen, for an audience."""
