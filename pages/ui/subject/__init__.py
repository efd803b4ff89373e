"""Choose the image, model, class and layer to explain."""
