"""Attribute by changing the picture and watching the score."""
