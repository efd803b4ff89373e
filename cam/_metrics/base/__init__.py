"""Share what metrics need: registry, subject, ranking."""
