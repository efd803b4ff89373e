"""Maps of one picture against each other: agreement, detail, curves, four questions, a cascade."""
