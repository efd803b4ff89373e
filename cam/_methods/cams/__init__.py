"""Combine the feature maps of a layer into one map."""
