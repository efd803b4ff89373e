"""Write explanations as files, and for a browser."""
