"""Offer other libraries' interfaces: a user changes only an import."""
