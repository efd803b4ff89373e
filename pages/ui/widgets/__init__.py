"""Draw the controls and charts that several pages use."""
