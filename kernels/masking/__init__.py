"""Write batches of masked images."""
