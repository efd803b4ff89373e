"""Draw the steps of Grad-CAM and of saliency."""
