"""Look into images and their maps, in any browser."""
