"""Write explanations as files and clips."""
