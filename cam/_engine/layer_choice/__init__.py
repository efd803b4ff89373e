"""Choose a layer, and show that it lies on the picture."""
