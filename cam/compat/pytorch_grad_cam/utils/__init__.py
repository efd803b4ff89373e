"""What pytorch-grad-cam has in ``utils``."""
