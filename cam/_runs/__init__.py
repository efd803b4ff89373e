"""Compare methods over data sets, in runs that can be resumed."""
