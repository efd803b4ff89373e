"""Make a classifier over prompts of a network for images and text."""
