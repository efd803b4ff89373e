"""Attribute by a transformer's attention."""
