"""Write a run as one page that opens anywhere."""
