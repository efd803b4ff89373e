"""Speed against plain inference and against the peers, side by side in one process."""
