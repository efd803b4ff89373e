"""Keep lists of methods and metrics, and check their parameters."""
