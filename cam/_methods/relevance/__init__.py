"""Methods that share the score out among the pixels, layer by layer."""
