"""Hold what torch has once for the whole process."""
