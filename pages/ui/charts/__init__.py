"""Draw colours, tiles, bars, tables and plots as HTML."""
