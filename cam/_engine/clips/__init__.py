"""Take volumes and clips as a network does."""
