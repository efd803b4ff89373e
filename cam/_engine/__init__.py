"""Run a network and capture what explanations need."""
