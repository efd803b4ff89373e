"""Run a model's passes without gradients in the fastest way there is."""
