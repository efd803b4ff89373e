"""Compare maps of one picture with each other."""
