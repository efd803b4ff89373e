"""Replace slow torch operations by faster equal ones."""
