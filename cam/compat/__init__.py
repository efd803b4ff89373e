"""Other libraries' calling conventions over this one: a user changes an import, nothing else."""
