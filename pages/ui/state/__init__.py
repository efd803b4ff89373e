"""Keep what a visitor chose: in the address, or in memory."""
