"""Store the tables of a run."""
