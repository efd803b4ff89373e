"""Choose the picture, model, class and layer to explain."""
