"""Frame every page: menu, connection, shortcuts, and what screen readers hear."""
