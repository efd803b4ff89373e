"""Offer what pytorch-grad-cam has in ``utils``."""
