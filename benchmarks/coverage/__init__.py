"""Explain many networks; judge independently where their layers lie."""
