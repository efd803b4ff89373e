"""Turn activations and gradients into class activation maps."""
