"""Networks built by hand, whose exact attributions are known."""
