"""Read a run: scores, statistics, leaderboard, report."""
