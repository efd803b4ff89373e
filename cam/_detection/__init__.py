"""Read what detectors return as candidates of one layout."""
