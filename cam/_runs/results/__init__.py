"""Read a run: scores, leaderboard, comparisons, report."""
