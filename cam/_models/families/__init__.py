"""Build the networks of each library that models are loaded from."""
